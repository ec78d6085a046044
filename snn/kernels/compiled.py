"""How a loop over time is compiled for the CPU by Numba, and run by torch's threads.

A thread processes its share of samples and features in blocks of features: states stay in the L1 cache through all
steps of a block, and in registers through `STEPS` of them. The next steps' values are asked for in time: they are far
from this step's in memory, and the processor does not guess where. Of narrow layers several samples, which are next to
each other in memory, go through time together: a step of one is a few cache lines, and every one would be on a page of
its own. Sequences larger than the caches are written past them.

The threads are torch's own OpenMP threads: a second pool would compete with them for the cores, since they keep
spinning for a while after every matrix product. Where torch has no GNU OpenMP, one thread does all the work.

A loop is written once, with global names such as STATES and body. Numba compiles globals as constants: `over_time` and
`Loop` copy the function with these names set, so that each loop is compiled with its own sizes and formulas.
"""

import ctypes
import hashlib
from collections import namedtuple
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType

import llvmlite.binding
import numpy as np
import torch
from numba import carray, cfunc
from numba import types as numba_types
from numba.core import event
from numba.core.caching import FunctionCache
from numba.extending import intrinsic

from snn.base.errors import UserError
from snn.base.output import note
from snn.kernels.subnormals import finish, flush_subnormals
from snn.kernels.vectors import inlined, inner, load, load_all, mask, pointer_of, prefetch, store, store_all, zeros

BLOCK = 512  # features
ROOM = 1024  # values of each state that are in the cache at once: a block's, of several samples where layers are narrow
NARROW = 256  # features of layers whose samples go through time together
STEPS = 4  # at a time
SMALL = 20_000  # values in a sequence; fewer are done before a second thread has started
LARGE = 2**23  # bytes of a sequence that is written past the caches
LINE = 64  # bytes of a cache line
LANES, HALF = 16, 8  # of a vector in loops on float32, and of one for the rest; with bfloat16 twice as many
WIDEST = 32
ARRAYS, NUMBERS, SEEDS = 11, 7, 3  # the most that a loop can take
_Task = ctypes.c_double * (4 * ARRAYS + NUMBERS + SEEDS + 1)  # each array's address and shape, numbers, seeds, large

f32 = np.float32
_KINDS = {torch.float32: ("f", numba_types.float32), torch.bfloat16: ("b", numba_types.uint16)}
STATES = SUMS = ALL = BACKWARDS = TOGETHER = body = None  # each copy of a loop over time gets its own, as above
loop = None  # each copy of `_flushed` gets its own
_kinds = ()  # each copy of `unpack` gets its own: the number type of each array
_SOURCES = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]

Array = namedtuple("Array", "pointer step row")  # values to the next step, 0 if all are equal; to the next sample
Here = namedtuple("Here", "b n first end ahead large seeds like")  # a sample, a feature, steps; `like` as in `vectors`

_openmp = ctypes.CDLL(None)  # the library that torch has loaded
_parallel = getattr(_openmp, "GOMP_parallel", None)
if _parallel:
    _parallel.restype, _parallel.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
_alone = ctypes.CFUNCTYPE(ctypes.c_int)
_no_openmp = {"omp_get_thread_num": _alone(lambda: 0), "omp_get_num_threads": _alone(lambda: 1)}
for _name in _no_openmp:
    _function = getattr(_openmp, _name, _no_openmp[_name])
    llvmlite.binding.add_symbol(f"snn_{_name}", ctypes.cast(_function, ctypes.c_void_p).value)
thread_number = numba_types.ExternalFunction("snn_omp_get_thread_num", numba_types.int32())
thread_count = numba_types.ExternalFunction("snn_omp_get_num_threads", numba_types.int32())


class Loop:
    """A function of a task, compiled on its first call with arrays of these precisions; every thread runs it.

    `names` take the place of global names in it: compiled functions and numbers.
    """

    def __init__(self, function, **names):
        self.function, self.names, self.compiled = function, names, {}

    def __call__(self, *arguments, seeds=(0, 0, 0)):
        """Run the loop on tensors of up to three dimensions (fewer become `[1, *, *]`), then numbers.

        `seeds` are whole numbers of 32 bits, for `vectors.mask`; numbers become float32.
        """
        tensors = [a for a in arguments if torch.is_tensor(a)]
        numbers = arguments[len(tensors) :]
        if any(map(torch.is_tensor, numbers)):
            raise TypeError(
                "a time constant or threshold is a tensor: pass a number, or write a layer of your own to train it"
            )
        kinds = "".join([_KINDS[tensor.dtype][0] for tensor in tensors])
        features = tensors[0].shape[-1]
        together = self.function is _over_time and features <= NARROW
        compiled = self.compiled.get((kinds, together)) or self._compile(kinds, together)
        arrays, aligned = [], True
        for tensor in tensors:
            if not tensor.is_cpu:  # its address would be none of ours
                raise ValueError(f"a tensor is on {tensor.device}, others on cpu: move layer, input and state to one")
            address = tensor.data_ptr()
            if not address and tensor.numel():  # of a fake tensor
                raise ValueError(f"a tensor of {list(tensor.shape)} has no memory: a loop can't compute with it")
            arrays += (address, *(1,) * (3 - tensor.dim()), *tensor.shape)
            aligned = aligned and address % LINE == 0
        sequence = tensors[0]
        large = aligned and sequence.nbytes >= LARGE and sequence.shape[-1] % WIDEST == 0
        task = _Task(
            *arrays, *(0,) * (4 * ARRAYS - len(arrays)), *numbers, *(0,) * (NUMBERS - len(numbers)), *seeds, large
        )  # fmt: skip
        if _parallel and sequence.numel() >= SMALL:
            _parallel(compiled.address, ctypes.addressof(task), torch.get_num_threads(), 0)
        else:
            compiled.ctypes(task)

    def _compile(self, kinds, together):
        """Compile the loop for a letter of `_KINDS` for each array; samples may go through time `together`.

        The key of Numba's cache is the loop's name and its file's modification time, nothing else: so the name gets a
        fingerprint of all that is compiled into it.
        """
        parts = [kinds, together, *_SOURCES, self.function.__code__]
        parts += [value.py_func.__code__ if hasattr(value, "py_func") else value for value in self.names.values()]
        fingerprint = hashlib.sha256(repr([_content(part) for part in parts]).encode()).hexdigest()[:16]
        names = self.function.__globals__ | self.names | {"unpack": _unpack_as(kinds)}
        names["LANES"] = WIDEST if "b" in kinds else LANES
        names |= {"HALF": names["LANES"] // 2, "TOGETHER": together}
        loop = FunctionType(self.function.__code__, names, self.function.__name__)
        names = globals() | {"loop": inner(inline="always")(loop)}  # else it would be compiled by itself too
        task = FunctionType(_flushed.__code__, names, self.function.__name__)
        for function in (loop, task):  # a symbol of a cached loop must not be one of another loop
            function.__qualname__ = f"{function.__name__}_{fingerprint}"
        with event.install_listener("numba:run_pass", _Listener()):
            self.compiled[kinds, together] = _compiled(task)
        return self.compiled[kinds, together]


def _flushed(task):
    """Run a loop, or this thread's share of it, with 0 in place of subnormal numbers, whoever calls it."""
    before = flush_subnormals()
    loop(task)
    finish(before)


def _compiled(task):
    """Compile a function of a task, or load it from Numba's cache; a file of that which is damaged is made again."""
    compile_or_load = cfunc("void(CPointer(float64))", cache=True, error_model="numpy")
    try:
        return compile_or_load(task)
    except Exception:  # unpickling a file that was cut short raises anything
        cache = FunctionCache(task)
        try:
            cache.flush()
            return compile_or_load(task)
        except OSError as error:
            advice = "make room there, delete it, or set NUMBA_CACHE_DIR to another folder"
            raise UserError(f"Numba's cache in {cache.cache_path} can't be written ({error}): {advice}") from None


class _Listener(event.Listener):
    """Notices when Numba compiles; a loop that is loaded from the cache runs none of the compiler's passes."""

    def on_start(self, _):
        say_that_it_compiles()

    def on_end(self, _):
        pass


@cache
def say_that_it_compiles():
    """Print one line, once in a process."""
    note("compiling time loops, once for each kind of layer and precision: up to half a minute")


def _content(part):
    return (part.co_code, part.co_names, part.co_consts) if isinstance(part, CodeType) else part


@intrinsic
def _pointer_to(typing_context, kind, address):
    pointer = numba_types.CPointer(kind.dtype)

    def generate(context, builder, signature, values):
        return builder.inttoptr(values[1], context.get_value_type(pointer))

    return pointer(kind, address), generate


@inner
def _array(task, k, kind):
    steps, rows, features = np.int64(task[4 * k + 1]), np.int64(task[4 * k + 2]), np.int64(task[4 * k + 3])
    step, row = rows * features if steps > 1 else 0, features if rows > 1 else 0
    return Array(_pointer_to(kind, np.int64(task[4 * k])), step, row)


def unpack(task):
    """Return the shape of the first array, the arrays, the numbers, the seeds, and whether the first array is large."""
    task = carray(task, 4 * ARRAYS + NUMBERS + SEEDS + 1)
    shape = np.int64(task[1]), np.int64(task[2]), np.int64(task[3])
    arrays = (
        _array(task, 0, _kinds[0]), _array(task, 1, _kinds[1]), _array(task, 2, _kinds[2]), _array(task, 3, _kinds[3]),
        _array(task, 4, _kinds[4]), _array(task, 5, _kinds[5]), _array(task, 6, _kinds[6]), _array(task, 7, _kinds[7]),
        _array(task, 8, _kinds[8]), _array(task, 9, _kinds[9]), _array(task, 10, _kinds[10]),
    )  # fmt: skip
    first = 4 * ARRAYS
    numbers = (
        f32(task[first]), f32(task[first + 1]), f32(task[first + 2]), f32(task[first + 3]),
        f32(task[first + 4]), f32(task[first + 5]), f32(task[first + 6]),
    )  # fmt: skip
    first += NUMBERS
    seeds = np.uint32(task[first]), np.uint32(task[first + 1]), np.uint32(task[first + 2])
    return shape, arrays, numbers, seeds, task[first + SEEDS] != 0


@cache
def _unpack_as(kinds):
    """Return `unpack` for arrays of these kinds."""
    dtypes = {letter: np.dtype(kind.name).type for letter, kind in _KINDS.values()}
    names = {"_kinds": tuple(dtypes[kind] for kind in kinds.ljust(ARRAYS, "f"))}
    return inner(FunctionType(unpack.__code__, globals() | names, "unpack"))


@inner
def part_of(count):
    """Return this thread's part of `count` things: the first, and the last (exclusive)."""
    me, threads = thread_number(), thread_count()
    return me * count // threads, (me + 1) * count // threads


@inner
def share(shape):
    """Return this thread's share of `[T, B, N]`: first and last (exclusive) sample, first and last feature."""
    _, batch, features = shape
    threads, blocks = thread_count(), -(-features // WIDEST)
    if batch >= 4 * threads or blocks < min(batch, threads):
        return *part_of(batch), 0, features  # whole rows: threads that write to the same cache line wait for each other
    first, last = part_of(blocks)
    return 0, batch, min(first * WIDEST, features), min(last * WIDEST, features)


@inner
def get(sequence, t, here):
    """Return a sequence's value at step `t`."""
    return load(sequence.pointer, t * sequence.step + here.b * sequence.row + here.n, here.like)


@inner
def put(sequence, t, here, value):
    """Set it."""
    store(sequence.pointer, t * sequence.step + here.b * sequence.row + here.n, value, here.large)


@inner
def ask_ahead(sequence, t, here):
    """Ask for the value that is needed when the next steps are."""
    prefetch(sequence.pointer, (t + here.ahead) * sequence.step + here.b * sequence.row + here.n)


@inner
def leaked(value, decay, here):
    """Return what is left of a value after a step; 0 without a leak, also of what is infinite or not a number."""
    return decay * value if decay != 0 else here.like


@inner
def mask_at(sequence, t, here, scale):
    """Return a dropout's mask at step `t`, which depends on the place in a sequence: `scale`, or 0."""
    return mask(t * sequence.step + here.b * sequence.row + here.n, here.seeds, scale, here.like)


@inner
def coefficients_at(c, here):
    """Return three coefficients of `[3, N]`."""
    a1, a2 = load(c.pointer, here.n, here.like), load(c.pointer, c.row + here.n, here.like)
    return a1, a2, load(c.pointer, 2 * c.row + here.n, here.like)


def over_time(states, sums=0, backwards=False, **formulas):
    """Return a decorator that makes a loop over time of a function; `formulas` take the place of global names in it.

    The loop's arrays are a sequence `[T, B, N]`, initial states `[states, B or 1, N]`, final states `[states, B, N]`,
    sums over the samples `[threads, sums, N]` if there are any, and others.

    function(arrays, numbers, state, here) computes steps `here.first` to `here.end` (exclusive; counting down if
    `backwards`) of sample `here.b` and of the feature, or vector of features, at `here.n`. `state` is a tuple of the
    states and of the sums so far; it returns the tuple after these steps. Values are of one type, `here.like`'s.
    """

    def make(function):
        body = function
        if formulas:
            body = FunctionType(function.__code__, function.__globals__ | formulas, function.__name__)
        names = {"STATES": states, "SUMS": sums, "ALL": states + sums, "BACKWARDS": backwards}
        names["body"] = inlined(body)
        return Loop(_over_time, **names, **formulas)

    return make


def _over_time(task):
    shape, arrays, numbers, seeds, large = unpack(task)
    _, start, end, sums = arrays[:4]
    first_b, last_b, first, last = share(shape)
    kept = np.empty(ALL * ROOM, f32)
    ahead = -STEPS if BACKWARDS else STEPS
    for i in range(first, last, BLOCK):
        features = min(BLOCK, last - i)
        vectors_end = features - features % LANES
        halves_end = features - features % HALF
        width = -(-features // WIDEST) * WIDEST
        rows = max(1, min(last_b - first_b, ROOM // width)) if TOGETHER else 1
        kept[STATES * ROOM :] = 0
        for b_0 in range(first_b, last_b, rows):
            b_end = min(b_0 + rows, last_b) if TOGETHER else b_0 + 1
            for b in range(b_0, b_end):
                for k in range(STATES):
                    place = k * ROOM + (b - b_0) * width
                    for j in range(features):
                        kept[place + j] = load(start.pointer, k * start.step + b * start.row + i + j, f32(0))
            for done in range(0, shape[0], STEPS):
                steps = min(STEPS, shape[0] - done)
                t = shape[0] - 1 - done if BACKWARDS else done
                until = t - steps if BACKWARDS else t + steps
                for b in range(b_0, b_end):
                    row = (b - b_0) * width
                    for j in range(0, vectors_end, LANES):
                        here = Here(b, i + j, t, until, ahead, large, seeds, zeros(LANES))
                        state = load_all(pointer_of(kept), row + j, ROOM, ALL, here.like)
                        store_all(pointer_of(kept), row + j, ROOM, body(arrays, numbers, state, here))
                    for j in range(vectors_end, halves_end, HALF):
                        here = Here(b, i + j, t, until, ahead, large, seeds, zeros(HALF))
                        state = load_all(pointer_of(kept), row + j, ROOM, ALL, here.like)
                        store_all(pointer_of(kept), row + j, ROOM, body(arrays, numbers, state, here))
                    for j in range(halves_end, features):
                        here = Here(b, i + j, t, until, ahead, large, seeds, f32(0))
                        state = load_all(pointer_of(kept), row + j, ROOM, ALL, here.like)
                        store_all(pointer_of(kept), row + j, ROOM, body(arrays, numbers, state, here))
            for b in range(b_0, b_end):
                for k in range(STATES):
                    place = k * ROOM + (b - b_0) * width
                    for j in range(features):
                        store(end.pointer, k * end.step + b * end.row + i + j, kept[place + j], False)
        for k in range(SUMS):
            for j in range(features):
                total = f32(0)
                for row in range(rows):
                    total += kept[(STATES + k) * ROOM + row * width + j]
                store(sums.pointer, thread_number() * sums.step + k * sums.row + i + j, total, False)
