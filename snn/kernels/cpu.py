"""The loops over time for the CPU, compiled by Numba: each value is read once and written once.

`snn.kernels.fast` describes the arguments and results. A thread processes a range of the N features block by block: for
one block and one sample, the states stay in the L1 cache through all steps, and the innermost loops run over the
features of the block, in vectors.

The threads are torch's own OpenMP threads: a second pool would compete with them for the cores, since they keep
spinning for a while after every matrix product. Where torch has no GNU OpenMP, one thread does all the work.
"""

import ctypes
import hashlib
import math
from functools import cache
from types import FunctionType, ModuleType

import llvmlite.binding
import numpy as np
import torch
from numba import carray, cfunc, njit
from numba import types as numba_types
from numba.extending import intrinsic

from snn.kernels import surrogates

BLOCK = 512  # features whose states and sums fit in the L1 cache, a few KiB
SMALL = 20_000  # values in a sequence; fewer are done before a second thread has started
ARRAYS, NUMBERS = 9, 6  # the most that a loop can take
_Task = ctypes.c_double * (4 * ARRAYS + NUMBERS)  # address and shape of each array, then the numbers

f32, i32, u32 = np.float32, np.int32, np.uint32
_L0, _L1, _L2, _L3, _L4, _L5, _L6 = (f32(math.log(2) ** k / math.factorial(k)) for k in range(7))  # 2^f by powers of f

_openmp = ctypes.CDLL(None)  # the library that torch has loaded
_parallel = getattr(_openmp, "GOMP_parallel", None)
if _parallel:
    _parallel.restype, _parallel.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
_alone = ctypes.CFUNCTYPE(ctypes.c_int)
_no_openmp = {"omp_get_thread_num": _alone(lambda: 0), "omp_get_num_threads": _alone(lambda: 1)}
for _name in _no_openmp:
    _function = getattr(_openmp, _name, _no_openmp[_name])
    llvmlite.binding.add_symbol(f"snn_{_name}", ctypes.cast(_function, ctypes.c_void_p).value)
_thread_number = numba_types.ExternalFunction("snn_omp_get_thread_num", numba_types.int32())
_thread_count = numba_types.ExternalFunction("snn_omp_get_num_threads", numba_types.int32())


class _Loop:
    """A loop that is compiled on its first call; every thread of a call runs it on its own share."""

    def __init__(self, function):
        self.function, self.compiled = function, None

    def __call__(self, *arguments):
        """Run the loop on tensors of up to three dimensions (fewer become `[1, *, *]`), then numbers."""
        if self.compiled is None:
            self.compiled = cfunc("void(CPointer(float64))", cache=True, error_model="numpy")(self.function)
        tensors = [a for a in arguments if torch.is_tensor(a)]
        arrays = []
        for tensor in tensors:
            arrays += (tensor.data_ptr(), *(1,) * (3 - tensor.dim()), *tensor.shape)
        task = _Task(*arrays, *(0,) * (4 * ARRAYS - len(arrays)), *arguments[len(tensors) :])
        if _parallel and max(t.numel() for t in tensors) >= SMALL:
            _parallel(self.compiled.address, ctypes.addressof(task), torch.get_num_threads(), 0)
        else:
            self.compiled.ctypes(task)


@intrinsic
def _pointer(typing_context, address):
    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return numba_types.CPointer(numba_types.float32)(address), generate


@njit
def _array(task, k):
    return carray(_pointer(np.int64(task[4 * k])), (int(task[4 * k + 1]), int(task[4 * k + 2]), int(task[4 * k + 3])))


@njit
def _unpack(task):
    """Return the arrays and the numbers that a loop was given."""
    task = carray(task, 4 * ARRAYS + NUMBERS)
    arrays = (
        _array(task, 0), _array(task, 1), _array(task, 2), _array(task, 3), _array(task, 4),
        _array(task, 5), _array(task, 6), _array(task, 7), _array(task, 8),
    )  # fmt: skip
    numbers = (
        f32(task[4 * ARRAYS]), f32(task[4 * ARRAYS + 1]), f32(task[4 * ARRAYS + 2]),
        f32(task[4 * ARRAYS + 3]), f32(task[4 * ARRAYS + 4]), f32(task[4 * ARRAYS + 5]),
    )  # fmt: skip
    return arrays, numbers


@njit
def _share(sequence):
    """Return this thread's share of a sequence: first and last (exclusive) sample, first and last feature."""
    _, batch, features = sequence.shape
    threads, me = _thread_count(), _thread_number()
    if batch >= 4 * threads:  # whole rows: threads that write to the same cache line wait for each other
        return me * batch // threads, (me + 1) * batch // threads, 0, features
    return 0, batch, me * features // threads, (me + 1) * features // threads


def dual_exp_iir_forward(x, start, coefficients, psp):
    _dual_exp_iir_forward(x, start, coefficients, psp)


@_Loop
def _dual_exp_iir_forward(task):
    arrays, _ = _unpack(task)
    x, start, coefficients, psp = arrays[:4]
    length, (first_b, last_b, first, last) = len(psp), _share(psp)
    last_psp, before = np.empty(BLOCK, f32), np.empty(BLOCK, f32)
    for i in range(first, last, BLOCK):
        n = min(BLOCK, last - i)
        a1, a2, b1 = coefficients[0, 0, i : i + n], coefficients[0, 1, i : i + n], coefficients[0, 2, i : i + n]
        for b in range(first_b, last_b):
            row = min(b, start.shape[1] - 1)
            last_psp[:n], before[:n] = start[0, row, i : i + n], start[1, row, i : i + n]
            for t in range(length):
                x_t, psp_t = x[min(t, len(x) - 1), b, i : i + n], psp[t, b, i : i + n]
                for j in range(n):
                    value = b1[j] * x_t[j] + a1[j] * last_psp[j] + a2[j] * before[j]
                    before[j] = last_psp[j]
                    last_psp[j] = psp_t[j] = value


def dual_exp_iir_backward(grad_psp, grad_end, x, psp, start, coefficients, need_x):
    grad_x = psp.new_empty(psp.shape if need_x else (1, 1, psp.shape[2]))
    grad_start = psp.new_empty(2, *psp.shape[1:])
    sums = psp.new_zeros(torch.get_num_threads(), 3, psp.shape[2])
    _dual_exp_iir_backward(
        grad_psp, grad_end, psp if x is None else x, psp, start, coefficients, grad_x, grad_start, sums,
        x is not None, need_x,
    )  # fmt: skip
    return grad_x if need_x else None, grad_start, sums.sum(0)


@_Loop
def _dual_exp_iir_backward(task):
    arrays, numbers = _unpack(task)
    has_x, need_x = numbers[0] != 0, numbers[1] != 0
    grad_psp, grad_end, x, psp, start, coefficients, grad_x, grad_start, sums = arrays
    length, (first_b, last_b, first, last) = len(psp), _share(psp)
    to_this, to_before = np.empty(BLOCK, f32), np.empty(BLOCK, f32)  # gradients of psp[t] and psp[t-1] from later steps
    for i in range(first, last, BLOCK):
        n = min(BLOCK, last - i)
        a1, a2, b1 = coefficients[0, 0, i : i + n], coefficients[0, 1, i : i + n], coefficients[0, 2, i : i + n]
        sum_a1, sum_a2, sum_b1 = (
            sums[_thread_number(), 0, i : i + n],
            sums[_thread_number(), 1, i : i + n],
            sums[_thread_number(), 2, i : i + n],
        )
        for b in range(first_b, last_b):
            row, end = min(b, start.shape[1] - 1), min(b, grad_end.shape[1] - 1)
            to_this[:n], to_before[:n] = grad_end[0, end, i : i + n], grad_end[1, end, i : i + n]
            for t in range(length - 1, -1, -1):
                grad_t, x_t = grad_psp[min(t, len(grad_psp) - 1), b, i : i + n], x[min(t, len(x) - 1), b, i : i + n]
                psp_1 = psp[t - 1, b, i : i + n] if t > 0 else start[0, row, i : i + n]
                psp_2 = psp[t - 2, b, i : i + n] if t > 1 else start[1 - t, row, i : i + n]
                for j in range(n):
                    grad = grad_t[j] + to_this[j]
                    sum_a1[j] += grad * psp_1[j]
                    sum_a2[j] += grad * psp_2[j]
                    sum_b1[j] += (grad if has_x else grad_t[j]) * x_t[j]
                    to_this[j] = to_before[j] + a1[j] * grad
                    to_before[j] = a2[j] * grad
                    if need_x:
                        grad_x[t, b, i + j] = b1[j] * grad
            grad_start[0, b, i : i + n], grad_start[1, b, i : i + n] = to_this[:n], to_before[:n]


def first_order_forward(x, start, a1, psp):
    _first_order_forward(x, start, a1, psp)


@_Loop
def _first_order_forward(task):
    arrays, _ = _unpack(task)
    x, start, a1, psp = arrays[:4]
    length, (first_b, last_b, first, last) = len(psp), _share(psp)
    last_psp = np.empty(BLOCK, f32)
    for i in range(first, last, BLOCK):
        n = min(BLOCK, last - i)
        a = a1[0, 0, i : i + n]
        for b in range(first_b, last_b):
            last_psp[:n] = start[0, min(b, start.shape[1] - 1), i : i + n]
            for t in range(length):
                x_t, psp_t = x[min(t, len(x) - 1), b, i : i + n], psp[t, b, i : i + n]
                for j in range(n):
                    last_psp[j] = psp_t[j] = x_t[j] + a[j] * last_psp[j]


def first_order_backward(grad_psp, grad_end, psp, start, a1, need_x):
    grad_x = psp.new_empty(psp.shape if need_x else (1, 1, psp.shape[2]))
    grad_start = psp.new_empty(psp.shape[1:])
    sums = psp.new_zeros(torch.get_num_threads(), 1, psp.shape[2])
    _first_order_backward(grad_psp, grad_end, psp, start, a1, grad_x, grad_start, sums, need_x)
    return grad_x if need_x else None, grad_start, sums.sum((0, 1))


@_Loop
def _first_order_backward(task):
    arrays, numbers = _unpack(task)
    grad_psp, grad_end, psp, start, a1, grad_x, grad_start, sums = arrays[:8]
    need_x = numbers[0] != 0
    length, (first_b, last_b, first, last) = len(psp), _share(psp)
    to_this = np.empty(BLOCK, f32)  # gradient of psp[t] from later steps
    for i in range(first, last, BLOCK):
        n = min(BLOCK, last - i)
        a, sum_a1 = a1[0, 0, i : i + n], sums[_thread_number(), 0, i : i + n]
        for b in range(first_b, last_b):
            to_this[:n] = grad_end[0, min(b, grad_end.shape[1] - 1), i : i + n]
            for t in range(length - 1, -1, -1):
                grad_t = grad_psp[min(t, len(grad_psp) - 1), b, i : i + n]
                psp_1 = psp[t - 1, b, i : i + n] if t > 0 else start[0, min(b, start.shape[1] - 1), i : i + n]
                for j in range(n):
                    grad = grad_t[j] + to_this[j]
                    sum_a1[j] += grad * psp_1[j]
                    to_this[j] = a[j] * grad
                    if need_x:
                        grad_x[t, b, i + j] = grad
            grad_start[0, b, i : i + n] = to_this[:n]


def neuron_forward(current, start, decay, membrane_filter, threshold, keep, spikes):
    potential = spikes.new_empty(spikes.shape if keep else (1, 1, spikes.shape[2]))
    end = spikes.new_empty(2, *spikes.shape[1:])
    kept_decay = decay if membrane_filter else 0.0
    _neuron_forward(current, start, spikes, potential, end, decay, kept_decay, keep, threshold)
    return potential if keep else None, end


@_Loop
def _neuron_forward(task):
    arrays, numbers = _unpack(task)
    current, start, spikes, potential, end = arrays[:5]
    decay, kept_decay, keep, threshold = numbers[0], numbers[1], numbers[2] != 0, numbers[3]
    length, (first_b, last_b, first, last) = len(spikes), _share(spikes)
    v, r = np.empty(BLOCK, f32), np.empty(BLOCK, f32)
    for i in range(first, last, BLOCK):
        n = min(BLOCK, last - i)
        for b in range(first_b, last_b):
            row = min(b, start.shape[1] - 1)
            v[:n], r[:n] = start[0, row, i : i + n], start[1, row, i : i + n]
            for t in range(length):
                current_t, spikes_t = current[min(t, len(current) - 1), b, i : i + n], spikes[t, b, i : i + n]
                for j in range(n):
                    v[j] = current_t[j] - r[j] + kept_decay * v[j]
                    spikes_t[j] = f32(1) if v[j] > threshold else f32(0)
                    r[j] = decay * r[j] + spikes_t[j]
                    if keep:
                        potential[t, b, i + j] = v[j]
            end[0, b, i : i + n], end[1, b, i : i + n] = v[:n], r[:n]


def neuron_backward(grad_spikes, grad_end, potential, decay, membrane_filter, threshold, surrogate):
    grad_current = potential.new_empty(potential.shape)
    grad_start = potential.new_empty(2, *potential.shape[1:])
    kept_decay = decay if membrane_filter else 0.0
    loop = _neuron_backward_with(surrogate.gradient)
    loop(
        grad_spikes, grad_end, potential, grad_current, grad_start, decay, kept_decay, threshold, *surrogate.constants
    )  # fmt: skip
    return grad_current, grad_start


def _neuron_backward(task):
    arrays, numbers = _unpack(task)
    grad_spikes, grad_end, potential, grad_current, grad_start = arrays[:5]
    decay, kept_decay, threshold, c_1, c_2, c_3 = numbers
    length, (first_b, last_b, first, last) = len(potential), _share(potential)
    to_v, to_r = np.empty(BLOCK, f32), np.empty(BLOCK, f32)  # gradients of v[t] and r[t] from later steps
    for i in range(first, last, BLOCK):
        n = min(BLOCK, last - i)
        for b in range(first_b, last_b):
            end = min(b, grad_end.shape[1] - 1)
            to_v[:n], to_r[:n] = grad_end[0, end, i : i + n], grad_end[1, end, i : i + n]
            for t in range(length - 1, -1, -1):
                grad_t = grad_spikes[min(t, len(grad_spikes) - 1), b, i : i + n]
                v_t, result_t = potential[t, b, i : i + n], grad_current[t, b, i : i + n]
                for j in range(n):
                    derivative = _surrogate(v_t[j] - threshold, c_1, c_2, c_3)
                    result_t[j] = (grad_t[j] + to_r[j]) * derivative + to_v[j]
                    to_v[j] = kept_decay * result_t[j]
                    to_r[j] = decay * to_r[j] - result_t[j]
            grad_start[0, b, i : i + n], grad_start[1, b, i : i + n] = to_v[:n], to_r[:n]


@njit(error_model="numpy")
def _power_of_2(x):
    """Return 2^x with a relative error of 2e-7; a libm call would keep the loop from being vectorised."""
    x = min(max(x, f32(-126)), f32(127))
    whole = i32(x + (f32(0.5) if x > f32(0) else f32(-0.5)))  # rounds to nearest: the cast truncates towards zero
    f = x - f32(whole)
    fraction = _L0 + f * (_L1 + f * (_L2 + f * (_L3 + f * (_L4 + f * (_L5 + f * _L6)))))
    return fraction * i32((whole + i32(127)) << i32(23)).view(f32)  # the bits of 2^whole


_surrogate = None  # each copy of _neuron_backward gets a surrogate's formula in its place
_m = ModuleType("m")  # what a surrogate's formula calls
_m.exp2, _m.abs, _m.sqrt = _power_of_2, njit(lambda x: abs(x)), njit(lambda x: math.sqrt(x))


@cache
def _neuron_backward_with(gradient):
    """Return the neurons' backward loop with a surrogate's formula in it, and the formula's fingerprint in its name.

    The key of Numba's cache is the loop's name and this file's modification time, nothing else.
    """
    function = surrogates.formula(gradient, _m)
    names = globals() | {"_surrogate": njit(error_model="numpy")(function)}
    loop = FunctionType(_neuron_backward.__code__, names, _neuron_backward.__name__)
    code = function.__code__
    fingerprint = hashlib.sha256(repr((code.co_code, code.co_consts, code.co_names)).encode()).hexdigest()[:16]
    loop.__qualname__ = f"_neuron_backward_{fingerprint}"
    return _Loop(loop)


def dual_exp_filter_forward(x, start, decay_m, decay_s, gain, y):
    end = y.new_empty(2, *y.shape[1:])
    _dual_exp_filter_forward(x, start, y, end, decay_m, decay_s, gain)
    return end


@_Loop
def _dual_exp_filter_forward(task):
    arrays, numbers = _unpack(task)
    x, start, y, end = arrays[:4]
    decay_m, decay_s, gain = numbers[:3]
    length, (first_b, last_b, first, last) = len(y), _share(y)
    m, s = np.empty(BLOCK, f32), np.empty(BLOCK, f32)
    for i in range(first, last, BLOCK):
        n = min(BLOCK, last - i)
        for b in range(first_b, last_b):
            row = min(b, start.shape[1] - 1)
            m[:n], s[:n] = start[0, row, i : i + n], start[1, row, i : i + n]
            for t in range(length):
                x_t, y_t = x[min(t, len(x) - 1), b, i : i + n], y[t, b, i : i + n]
                for j in range(n):
                    m[j] = decay_m * m[j] + x_t[j]
                    s[j] = decay_s * s[j] + x_t[j]
                    y_t[j] = gain * (m[j] - s[j])
            end[0, b, i : i + n], end[1, b, i : i + n] = m[:n], s[:n]


def dual_exp_filter_backward(grad_y, grad_end, decay_m, decay_s, gain, shape):
    grad_x, grad_start = grad_y.new_empty(shape), grad_y.new_empty(2, *shape[1:])
    _dual_exp_filter_backward(grad_y, grad_end, grad_x, grad_start, decay_m, decay_s, gain)
    return grad_x, grad_start


@_Loop
def _dual_exp_filter_backward(task):
    arrays, numbers = _unpack(task)
    grad_y, grad_end, grad_x, grad_start = arrays[:4]
    decay_m, decay_s, gain = numbers[:3]
    length, (first_b, last_b, first, last) = len(grad_x), _share(grad_x)
    to_m, to_s = np.empty(BLOCK, f32), np.empty(BLOCK, f32)  # gradients of m[t] and s[t] from later steps
    for i in range(first, last, BLOCK):
        n = min(BLOCK, last - i)
        for b in range(first_b, last_b):
            end = min(b, grad_end.shape[1] - 1)
            to_m[:n], to_s[:n] = grad_end[0, end, i : i + n], grad_end[1, end, i : i + n]
            for t in range(length - 1, -1, -1):
                grad_t, result_t = grad_y[min(t, len(grad_y) - 1), b, i : i + n], grad_x[t, b, i : i + n]
                for j in range(n):
                    to_m[j] += gain * grad_t[j]
                    to_s[j] -= gain * grad_t[j]
                    result_t[j] = to_m[j] + to_s[j]
                    to_m[j] *= decay_m
                    to_s[j] *= decay_s
            grad_start[0, b, i : i + n], grad_start[1, b, i : i + n] = to_m[:n], to_s[:n]


def dropout(x, seeds, smallest, scale):
    y = torch.empty_like(x)
    key = torch.tensor([*seeds, smallest]).view(torch.float32)
    _dropout(*(tensor.view(1, 1, -1) for tensor in (x, key, y)), scale)
    return y


@_Loop
def _dropout(task):
    arrays, numbers = _unpack(task)
    seed_1, seed_2, smallest = arrays[1][0, 0].view(np.int64)[:3]
    seed_1, seed_2, smallest, scale = u32(seed_1), u32(seed_2), u32(smallest), numbers[0]
    _, _, first, last = _share(arrays[0])
    x, y = arrays[0][0, 0, first:last], arrays[2][0, 0, first:last]
    for j in range(len(x)):
        number = _mix(u32(first + j) + seed_1) ^ seed_2
        y[j] = scale * x[j] if number >= smallest else f32(0)


@njit
def _mix(h):
    """Return the last step of MurmurHash3, which spreads every bit of a 32-bit number over all bits."""
    h = u32((h ^ (h >> u32(16))) * u32(0x85EBCA6B))
    h = u32((h ^ (h >> u32(13))) * u32(0xC2B2AE35))
    return u32(h ^ (h >> u32(16)))
