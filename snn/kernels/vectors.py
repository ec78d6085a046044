"""Vectors of 16 or 32 numbers for loops that Numba compiles, so that no compiler has to find out how to vectorise them.

A `Vector` holds float32 and has + - * / with vectors and numbers; one is made by `load`, or as `zeros(lanes)`. Every
function here also works on a single float32, in the same words: loops run on vectors, and on numbers for what is left
at the end.

Memory is a pointer to float32, or to uint16 for bfloat16, and a place counted in values.
"""

import operator
from functools import partial

import llvmlite.binding
from llvmlite import ir
from numba import njit
from numba import types as numba_types
from numba.core.cgutils import get_or_insert_function
from numba.core.registry import cpu_target
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

# For what loops are made of: without the ways in for Python, which never calls it, a loop compiles in 0.8 of the time.
inner = partial(njit, no_cpython_wrapper=True, no_cfunc_wrapper=True)
inlined = partial(inner, error_model="numpy", forceinline=True)

_FEATURES = cpu_target.target_context.codegen().magic_tuple()[2]  # of the CPU that Numba compiles for
_HAS_BF16 = "+avx512bf16" in _FEATURES.split(",")  # an instruction that rounds to it
llvmlite.binding.initialize_native_asmparser()  # for that instruction
_float, _int, _short = ir.FloatType(), ir.IntType(32), ir.IntType(16)


class Vector(numba_types.Type):
    """The type of vectors of that many numbers."""

    def __init__(self, lanes):
        self.lanes = lanes
        super().__init__(name=f"Vector of {lanes}")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.VectorType(_float, kind.lanes))


_NUMBERS = numba_types.Number, numba_types.Literal


def _lanes(kind):
    return kind.lanes if isinstance(kind, Vector) else 1


def _of_float32(kind):
    """Return the type of a vector of that kind, or of a number."""
    return kind if isinstance(kind, Vector) else numba_types.float32


def _same(kind, of):
    """Return the LLVM type of a scalar, or of a vector of them where `of` is a vector type."""
    return ir.VectorType(kind, of.count) if isinstance(of, ir.VectorType) else kind


def _all(value, like):
    """Return the LLVM constant `value` as a number, or in every lane where `like` is a vector."""
    kind = like.element if isinstance(like, ir.VectorType) else like
    return ir.Constant(like, [ir.Constant(kind, value)] * like.count if isinstance(like, ir.VectorType) else value)


def _splat(builder, value, lanes):
    """Return a vector with a number in every lane."""
    one = builder.insert_element(ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined), value, _int(0))
    return builder.shuffle_vector(one, one, _places([0] * lanes))


def _arithmetic(operation, name):
    @type_callable(operation)
    def _(context):
        def typed(a, b):
            vectors = [kind for kind in (a, b) if isinstance(kind, Vector)]
            if vectors and all(kind == vectors[0] or isinstance(kind, _NUMBERS) for kind in (a, b)):
                return vectors[0]

        return typed

    def emit(context, builder, signature, values):
        vectors = [
            value if isinstance(kind, Vector)
            else _splat(builder, context.cast(builder, value, kind, numba_types.float32), signature.return_type.lanes)
            for value, kind in zip(values, signature.args)
        ]  # fmt: skip
        return getattr(builder, name)(*vectors, flags=("contract",))  # may become a fused multiply-add

    for kinds in ((Vector, Vector), (Vector, numba_types.Any), (numba_types.Any, Vector)):
        lower_builtin(operation, *kinds)(emit)


for _operation, _name in (
    (operator.add, "fadd"), (operator.iadd, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):  # fmt: skip
    _arithmetic(_operation, _name)


@type_callable(operator.neg)
def _(context):
    return lambda a: a if isinstance(a, Vector) else None


@lower_builtin(operator.neg, Vector)
def _(context, builder, signature, values):
    return builder.fneg(values[0])


def _elementwise(emit):
    """Return an intrinsic of one argument that returns its type; `emit` gets the builder and the LLVM value."""

    @intrinsic
    def function(typing_context, value):
        def generate(context, builder, signature, values):
            return emit(builder, values[0])

        return value(value), generate

    return inner(lambda value: function(value))


def _of_llvm(name):
    def emit(builder, value):
        of = f"v{value.type.count}f32" if isinstance(value.type, ir.VectorType) else "f32"
        kind = ir.FunctionType(value.type, [value.type])
        return builder.call(get_or_insert_function(builder.module, kind, f"llvm.{name}.{of}"), [value])

    return _elementwise(emit)


absolute, square_root = _of_llvm("fabs"), _of_llvm("sqrt")


def _emit_whole(builder, value):
    return builder.sitofp(builder.fptosi(value, _same(_int, value.type)), value.type)


def _emit_exponent(builder, value):
    whole = builder.fptosi(value, _same(_int, value.type))
    return builder.bitcast(builder.shl(whole, _all(23, whole.type)), value.type)


def _emit_step(builder, value):
    return builder.select(
        builder.fcmp_ordered(">", value, _all(0.0, value.type)), _all(1.0, value.type), _all(0.0, value.type)
    )


whole = _elementwise(_emit_whole)  # the part before the decimal point
exponent = _elementwise(_emit_exponent)  # whole numbers from 1 to 254 as the exponents of float32
step = _elementwise(_emit_step)  # 1 above 0, else 0


def _emit_clamp(builder, value, low, high):
    low, high = _all(low, value.type), _all(high, value.type)
    value = builder.select(builder.fcmp_ordered("<", value, low), low, value)  # so what is not a number stays so
    return builder.select(builder.fcmp_ordered(">", value, high), high, value)


in_range_of_exponents = _elementwise(lambda builder, value: _emit_clamp(builder, value, -126.0, 127.0))


@intrinsic(prefer_literal=True)
def zeros(typing_context, lanes):
    vector = Vector(lanes.literal_value)
    return vector(lanes), lambda context, builder, signature, values: _all(0.0, context.get_value_type(vector))


def _pointer(builder, pointer, place, lanes):
    """Return the address of a place, as a pointer to that many values, and their type."""
    pointer = builder.gep(pointer, [place])
    kind = pointer.type.pointee
    if lanes > 1:
        kind = ir.VectorType(kind, lanes)
        pointer = builder.bitcast(pointer, kind.as_pointer())
    return pointer, kind


@intrinsic
def load(typing_context, pointer, place, like):
    """Return what is at a place, as float32; as a vector or a number, as `like` is."""

    def generate(context, builder, signature, values):
        address, kind = _pointer(builder, values[0], values[1], _lanes(like))
        if pointer.dtype == numba_types.float32:
            return builder.load(address, align=4)
        bits = builder.zext(builder.load(address, align=2), _same(_int, kind))
        return builder.bitcast(builder.shl(bits, _all(16, bits.type)), _same(_float, kind))

    return _of_float32(like)(pointer, numba_types.int64, like), generate


def _places(numbers):
    return ir.Constant(ir.VectorType(_int, len(numbers)), [_int(number) for number in numbers])


def _as_bfloat16(builder, value, kind):
    """Return the bits of the nearest bfloat16, of two the even one; the processor's instruction makes denormals 0."""
    if _HAS_BF16 and kind != _short:
        parts = []
        for first in range(0, kind.count, 16):  # as many as the instruction takes
            part = builder.shuffle_vector(value, value, _places(range(first, first + 16)))
            to = ir.FunctionType(ir.VectorType(_short, 16), [part.type])
            parts.append(builder.asm(to, "vcvtneps2bf16 $1, $0", "=v,v", [part], False))
        return builder.shuffle_vector(parts[0], parts[-1], _places(range(kind.count)))
    bits = builder.bitcast(value, _same(_int, kind))
    odd = builder.and_(builder.lshr(bits, _all(16, bits.type)), _all(1, bits.type))
    bits = builder.add(bits, builder.add(odd, _all(0x7FFF, bits.type)))
    bits = builder.select(builder.fcmp_unordered("uno", value, value), _all(0x7FC00000, bits.type), bits)
    return builder.trunc(builder.lshr(bits, _all(16, bits.type)), kind)


def _store(past_caches):
    @intrinsic
    def emit(typing_context, pointer, place, value):
        lanes = _lanes(value)

        def generate(context, builder, signature, values):
            address, kind = _pointer(builder, values[0], values[1], lanes)
            stored, size = values[2], 4
            if pointer.dtype != numba_types.float32:
                stored, size = _as_bfloat16(builder, stored, kind), 2
            if past_caches and lanes > 1:
                store = builder.store(stored, address, align=size * lanes)
                store.set_metadata("nontemporal", builder.module.add_metadata([_int(1)]))
            else:
                builder.store(stored, address, align=size)
            return context.get_dummy_value()

        return numba_types.void(pointer, numba_types.int64, value), generate

    return emit


_store_cached, _store_streamed = _store(False), _store(True)


@inner
def store(pointer, place, value, past_caches):
    """Write a vector or a number to a place.

    `past_caches` writes to memory: an ordinary store first reads the cache line that it overwrites. The place must then
    be at a multiple of the vector's size.
    """
    if past_caches:
        _store_streamed(pointer, place, value)
    else:
        _store_cached(pointer, place, value)


@intrinsic
def prefetch(typing_context, pointer, place):
    """Ask for the cache line at a place, into the L2 cache; the place may be outside the memory."""

    def generate(context, builder, signature, values):
        address = builder.bitcast(builder.gep(values[0], [values[1]]), ir.IntType(8).as_pointer())
        kinds = [address.type, _int, _int, _int]
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", [address.type], ir.FunctionType(ir.VoidType(), kinds)
        )
        builder.call(function, [address, _int(0), _int(2), _int(1)])  # to read, for L2, data
        return context.get_dummy_value()

    return numba_types.void(pointer, numba_types.int64), generate


@intrinsic
def mask(typing_context, place, seeds, scale, like):
    """Return `scale` where a random number of 32 bits is `seeds[2]` or more, else 0.

    The number is a function of the place, a whole number, and of the first two seeds: the last step of MurmurHash3,
    which spreads every bit over all bits.
    """
    kind = _of_float32(like)

    def generate(context, builder, signature, values):
        numbers = [builder.extract_value(values[1], k) for k in range(3)]
        numbers += [builder.trunc(values[0], _int), values[2]]
        if isinstance(like, Vector):
            numbers = [_splat(builder, number, like.lanes) for number in numbers]
        seed_1, seed_2, smallest, h, scale = numbers
        ints = h.type
        if isinstance(like, Vector):
            h = builder.add(h, _places(range(like.lanes)))
        h = builder.add(h, seed_1)
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            h = builder.mul(builder.xor(h, builder.lshr(h, _all(shift, ints))), _all(factor, ints))
        h = builder.xor(builder.xor(h, builder.lshr(h, _all(16, ints))), seed_2)
        return builder.select(builder.icmp_unsigned(">=", h, smallest), scale, _all(0.0, scale.type))

    return kind(numba_types.int64, seeds, numba_types.float32, like), generate


@intrinsic
def pointer_of(typing_context, array):
    """Return a pointer to the first value of a contiguous array of float32."""

    def generate(context, builder, signature, values):
        return context.make_array(array)(context, builder, values[0]).data

    return numba_types.CPointer(array.dtype)(array), generate


@intrinsic(prefer_literal=True)
def load_all(typing_context, pointer, place, stride, count, like):
    """Return a tuple of `count` values, each `stride` behind the one before."""
    kind = _of_float32(like)
    result = numba_types.UniTuple(kind, count.literal_value)

    def generate(context, builder, signature, values):
        loaded = []
        for k in range(count.literal_value):
            at = builder.add(values[1], ir.IntType(64)(k * stride.literal_value))
            address, _ = _pointer(builder, values[0], at, _lanes(like))
            loaded.append(builder.load(address, align=4))
        return context.make_tuple(builder, result, loaded)

    return result(pointer, numba_types.int64, stride, count, like), generate


@intrinsic(prefer_literal=True)
def store_all(typing_context, pointer, place, stride, tuple_):
    """Write a tuple as `load_all` reads it."""

    def generate(context, builder, signature, values):
        for k in range(tuple_.count):
            at = builder.add(values[1], ir.IntType(64)(k * stride.literal_value))
            address, _ = _pointer(builder, values[0], at, _lanes(tuple_.dtype))
            builder.store(builder.extract_value(values[3], k), address, align=4)
        return context.get_dummy_value()

    return numba_types.void(pointer, numba_types.int64, stride, tuple_), generate
