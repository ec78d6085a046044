"""How a loop over time is launched on CUDA, and what the loops in Triton share.

A program handles a block of the N features of one sample (of several in a backward that sums over them), with its
states in registers. A load waits a memory latency, so the values of STEPS steps are asked for before the first of
these steps is computed and stored.
"""

from types import FunctionType

import torch
import triton
import triton.language as tl

from snn.kernels import surrogates

VECTOR = 4  # features of a thread, where there are enough to fill the GPU: loads of 16 bytes
MANY = 2**19  # values of a step: what fills a GPU with VECTOR features a thread
WARPS = 4  # of 32 threads
PROGRAMS = 4096  # enough to fill any GPU; beyond that, a backward program sums over several samples


def _sizes(shape):
    """Return how many features a thread and a program handle, how many steps are loaded at once, and the warps."""
    _, batch, features = shape
    vector = VECTOR if features % VECTOR == 0 and batch * features >= MANY else 1
    warps = WARPS
    while warps > 1 and 16 * warps * vector >= features:
        warps //= 2
    return {"VECTOR": vector, "BLOCK": 32 * warps * vector, "STEPS": 4 if vector > 1 else 8, "num_warps": warps}


def rows_of(shape):
    """Return how many samples a program of a backward sums over."""
    return max(1, triton.cdiv(shape[2], _sizes(shape)["BLOCK"]) * shape[1] // PROGRAMS)


def launch(kernel, sequence, *arguments, rows=1):
    """Launch a kernel over the features and samples of a sequence `[T, B, N]`, `rows` samples a program, on its device.

    `arguments` are the kernel's first ones; those that `_sizes` and the shape determine follow.
    """
    length, batch, features = sequence.shape
    sizes = _sizes(sequence.shape)
    grid = (triton.cdiv(features, sizes["BLOCK"]) * triton.cdiv(batch, rows),)
    with torch.cuda.device_of(sequence):
        kernel[grid](*arguments, length=length, batch=batch, groups=features // sizes["VECTOR"], **sizes)


def moves(sequence):
    """Return 0 if all steps of a sequence are equal, and one is stored; else 1."""
    return int(len(sequence) > 1)


@triton.jit
def place_of(groups, VECTOR: tl.constexpr, BLOCK: tl.constexpr):
    """Return this program's features, which of them exist, its number among the samples, and how many features are."""
    features = groups * VECTOR  # known to be a multiple
    blocks = tl.cdiv(features, BLOCK)
    n = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    return n, n < features, (tl.program_id(0) // blocks).to(tl.int64), features


@triton.jit
def load_steps(sequence, first, step, count, inside, STEPS: tl.constexpr):
    """Return a sequence's values at STEPS steps from `first` on; 0 from step `count` on."""
    values = ()
    for k in tl.static_range(STEPS):
        there = inside & (first + k < count)
        values = values + (tl.load(sequence + (first + k) * step, there, other=0.0).to(tl.float32),)
    return values


@triton.jit
def load_back(sequence, moves, place, first, step, length, inside, STEPS: tl.constexpr):
    """Return the values at STEPS steps, the first of them `first` steps before the last."""
    return load_steps(sequence + (length - 1) * step * moves + place, first, -step * moves, length, inside, STEPS)


@triton.jit
def state_of(states, k: tl.constexpr, place, step, inside, BLOCK: tl.constexpr):
    """Return the k-th of states `[*, B, N]`; None means zeros."""
    if states is None:
        return tl.zeros([BLOCK], tl.float32)
    else:
        return tl.load(states + k * step + place, inside)


@triton.jit
def coefficients_at(coefficients, n, features, inside):
    a1 = tl.load(coefficients + n, inside)
    a2 = tl.load(coefficients + features + n, inside)
    return a1, a2, tl.load(coefficients + 2 * features + n, inside)


@triton.jit
def leaked(value, decay):
    """Return what is left of a value after a step; 0 without a leak, also of what is infinite or not a number."""
    return tl.where(decay != 0, decay * value, 0.0)


@triton.jit
def mask_at(seed, place, smallest, scale):
    """Return `scale` where the random number of a place, of 32 bits, is large enough, else 0."""
    low, high = (place & 0xFFFFFFFF).to(tl.uint32), (place >> 32).to(tl.uint32)
    number, _, _, _ = tl.philox(seed, low, high, low * 0, low * 0)
    return tl.where(number.to(tl.int64) >= smallest, scale, 0.0)


@triton.jit
def store_sums(sums, number, n, features, inside, sum_a1, sum_a2, sum_b1):
    sums += number * 3 * features + n
    tl.store(sums, sum_a1, inside)
    tl.store(sums + features, sum_a2, inside)
    tl.store(sums + 2 * features, sum_b1, inside)


def with_surrogate(gradient, function):
    """Return a neuron's backward kernel with a surrogate's formula in place of `_surrogate`."""
    names = function.__globals__ | {"_surrogate": triton.jit(surrogates.formula(gradient, tl))}
    kernel = FunctionType(function.__code__, names, function.__name__)
    kernel.__annotations__ = function.__annotations__  # which arguments are constants to the compiler
    unspecialized = {"smallest"} & set(function.__code__.co_varnames)
    return triton.jit(kernel, do_not_specialize=list(unspecialized))
