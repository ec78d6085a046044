"""How a thread computes with subnormal numbers, those below 1.2e-38, in loops that Numba compiles."""

import llvmlite.binding
from llvmlite import ir
from numba import types as numba_types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

_int, _wide = ir.IntType(32), ir.IntType(64)
_PROCESSOR = llvmlite.binding.get_default_triple().partition("-")[0].replace("arm64", "aarch64")  # as macOS calls it
# What flushes them, in the register that says how a thread computes: x86's MXCSR (results, arguments), Arm's FPCR.
_FLUSH = {"x86_64": 0x8040, "aarch64": 1 << 24}.get(_PROCESSOR, 0)


@intrinsic
def flush_subnormals(typing_context):
    """Have this thread compute with 0 in place of subnormal numbers; return how it computed before, for `finish`.

    Intel's processors compute with them a hundred times slower than with others, and a filter whose input falls silent
    would stay at one.
    """

    def generate(context, builder, signature, values):
        before = _mode(builder)
        _set_mode(builder, builder.or_(before, _int(_FLUSH)))
        return before

    return numba_types.uint32(), generate


@intrinsic
def finish(typing_context, before):
    """Make what was written past the caches visible to other threads; compute as before `flush_subnormals`."""

    def generate(context, builder, signature, values):
        builder.fence("seq_cst")
        _set_mode(builder, values[0])
        return context.get_dummy_value()

    return numba_types.void(before), generate


def _mode(builder):
    if _PROCESSOR == "x86_64":
        place = builder.alloca(_int)
        builder.call(_of_register(builder, "stmxcsr"), [builder.bitcast(place, ir.IntType(8).as_pointer())])
        return builder.load(place)
    if _PROCESSOR == "aarch64":
        wide = builder.asm(ir.FunctionType(_wide, []), "mrs $0, fpcr", "=r", [], True)
        return builder.trunc(wide, _int)
    return _int(0)


def _set_mode(builder, mode):
    if _PROCESSOR == "x86_64":
        place = builder.alloca(_int)
        builder.store(mode, place)
        builder.call(_of_register(builder, "ldmxcsr"), [builder.bitcast(place, ir.IntType(8).as_pointer())])
    if _PROCESSOR == "aarch64":
        wide = builder.zext(mode, _wide)
        builder.asm(ir.FunctionType(ir.VoidType(), [wide.type]), "msr fpcr, $0", "r", [wide], True)


def _of_register(builder, instruction):
    kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
    return get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{instruction}")
