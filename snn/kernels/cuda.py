"""The loops over time for CUDA, in Triton: each value is read once and written once.

`snn.kernels.fast` describes the arguments and results. A program handles a block of the N features of one sample (of
several in the filters' backward, to sum over them) and loops over all steps with its states in registers.
"""

from functools import cache
from types import FunctionType

import torch
import triton
import triton.language as tl

from snn.kernels import surrogates

TAKES_BF16 = False
BLOCK = 256  # features per program
_surrogate = None  # each copy of _neuron_backward gets a surrogate's formula in its place
PROGRAMS = 4096  # enough to fill any GPU; beyond that, a backward program sums over several samples


def _grid(shape, rows=1):
    return triton.cdiv(shape[2], BLOCK), triton.cdiv(shape[1], rows)


def _strides(sequence, *states):
    """Return a sequence's stride per step (0 if all are equal), then each state's per sample and to its second."""
    strides = [sequence.stride(0) if len(sequence) > 1 else 0]
    for state in states:
        strides += [state.stride(1) if state.shape[1] > 1 else 0, state.stride(0)]
    return strides


def _rows(shape):
    """Return how many samples a program of a backward sums over."""
    return max(1, triton.cdiv(shape[2], BLOCK) * shape[1] // PROGRAMS)


def dual_exp_iir_forward(x, start, coefficients, psp):
    _dual_exp_iir_forward[_grid(psp.shape)](x, start, coefficients, psp, *psp.shape, *_strides(x, start), BLOCK=BLOCK)
    return torch.stack([psp[-1], psp[-2] if len(psp) > 1 else start[0].expand_as(psp[0])])


@triton.jit
def _dual_exp_iir_forward(
    x, start, coefficients, psp, length, batch, features, x_step, start_row, start_state, BLOCK: tl.constexpr
):
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1).to(tl.int64)
    inside = n < features
    a1 = tl.load(coefficients + n, inside)
    a2 = tl.load(coefficients + features + n, inside)
    b1 = tl.load(coefficients + 2 * features + n, inside)
    last = tl.load(start + b * start_row + n, inside)
    before = tl.load(start + start_state + b * start_row + n, inside)
    x += b * features + n
    psp += b * features + n
    for _ in range(length):
        value = b1 * tl.load(x, inside) + a1 * last + a2 * before
        tl.store(psp, value, inside)
        before = last
        last = value
        x += x_step
        psp += batch * features


def dual_exp_iir_backward(grad_psp, grad_end, x, psp, start, coefficients, grad_x):
    rows = _rows(psp.shape)
    grid = _grid(psp.shape, rows)
    grad_start = psp.new_empty(2, *psp.shape[1:])
    sums = psp.new_empty(grid[1], 3, psp.shape[2])
    _dual_exp_iir_backward[grid](
        grad_psp, grad_end, x, psp, start, coefficients, grad_x, grad_start, sums, *psp.shape, *_strides(grad_psp),
        0 if x is None else _strides(x)[0], *_strides(psp, grad_end, start)[1:], rows, x is not None,
        grad_x is not None, BLOCK,
    )  # fmt: skip
    return grad_start, sums.sum(0)


@triton.jit
def _dual_exp_iir_backward(
    grad_psp, grad_end, x, psp, start, coefficients, grad_x, grad_start, sums, length, batch, features, grad_step,
    x_step, end_row, end_state, start_row, start_state, rows,
    HAS_X: tl.constexpr, NEED_X: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = n < features
    step = batch * features
    a1 = tl.load(coefficients + n, inside)
    a2 = tl.load(coefficients + features + n, inside)
    b1 = tl.load(coefficients + 2 * features + n, inside)
    sum_a1 = tl.zeros([BLOCK], tl.float32)
    sum_a2 = tl.zeros([BLOCK], tl.float32)
    sum_b1 = tl.zeros([BLOCK], tl.float32)
    first = tl.program_id(1).to(tl.int64) * rows
    for b in range(first, tl.minimum(first + rows, batch)):
        place = b * features + n
        start_1 = tl.load(start + b * start_row + n, inside)
        start_2 = tl.load(start + start_state + b * start_row + n, inside)
        to_this = tl.load(grad_end + b * end_row + n, inside)  # gradients of psp[t] and psp[t-1] from later steps
        to_before = tl.load(grad_end + end_state + b * end_row + n, inside)
        steps = tl.cast(length - 1, tl.int64)
        psp_0 = tl.load(psp + steps * step + place, inside)
        psp_1 = start_1
        if length > 1:
            psp_1 = tl.load(psp + (steps - 1) * step + place, inside)
        for back in range(length):
            t = steps - back
            psp_2 = tl.load(psp + tl.maximum(t - 2, 0) * step + place, inside)
            psp_2 = tl.where(t > 1, psp_2, tl.where(t == 1, start_1, start_2))
            arriving = tl.load(grad_psp + t * grad_step + place, inside)
            grad = arriving + to_this
            sum_a1 += grad * psp_1
            sum_a2 += grad * psp_2
            if HAS_X:
                sum_b1 += grad * tl.load(x + t * x_step + place, inside)
            else:
                sum_b1 += arriving * psp_0
            if NEED_X:
                tl.store(grad_x + t * step + place, b1 * grad, inside)
            to_this = to_before + a1 * grad
            to_before = a2 * grad
            psp_0 = psp_1
            psp_1 = psp_2
        tl.store(grad_start + place, to_this, inside)
        tl.store(grad_start + step + place, to_before, inside)
    sums += tl.program_id(1).to(tl.int64) * 3 * features + n
    tl.store(sums, sum_a1, inside)
    tl.store(sums + features, sum_a2, inside)
    tl.store(sums + 2 * features, sum_b1, inside)


def first_order_forward(x, start, a1, psp):
    _first_order_forward[_grid(psp.shape)](x, start, a1, psp, *psp.shape, *_strides(x, start[None])[:2], BLOCK=BLOCK)
    return psp[-1].clone()


@triton.jit
def _first_order_forward(x, start, a1, psp, length, batch, features, x_step, start_row, BLOCK: tl.constexpr):
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1).to(tl.int64)
    inside = n < features
    a = tl.load(a1 + n, inside)
    last = tl.load(start + b * start_row + n, inside)
    x += b * features + n
    psp += b * features + n
    for _ in range(length):
        last = tl.load(x, inside) + a * last
        tl.store(psp, last, inside)
        x += x_step
        psp += batch * features


def first_order_backward(grad_psp, grad_end, psp, start, a1, grad_x):
    rows = _rows(psp.shape)
    grid = _grid(psp.shape, rows)
    grad_start = psp.new_empty(psp.shape[1:])
    sums = psp.new_empty(grid[1], psp.shape[2])
    _first_order_backward[grid](
        grad_psp, grad_end, psp, start, a1, grad_x, grad_start, sums, *psp.shape,
        *_strides(grad_psp, grad_end[None])[:2], _strides(psp, start[None])[1], rows, grad_x is not None, BLOCK,
    )  # fmt: skip
    return grad_start, sums.sum(0)


@triton.jit
def _first_order_backward(
    grad_psp, grad_end, psp, start, a1, grad_x, grad_start, sums, length, batch, features,
    grad_step, end_row, start_row, rows, NEED_X: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = n < features
    step = batch * features
    a = tl.load(a1 + n, inside)
    sum_a1 = tl.zeros([BLOCK], tl.float32)
    first = tl.program_id(1).to(tl.int64) * rows
    for b in range(first, tl.minimum(first + rows, batch)):
        place = b * features + n
        start_1 = tl.load(start + b * start_row + n, inside)
        to_this = tl.load(grad_end + b * end_row + n, inside)  # gradient of psp[t] from later steps
        steps = tl.cast(length - 1, tl.int64)
        for back in range(length):
            t = steps - back
            psp_1 = tl.load(psp + tl.maximum(t - 1, 0) * step + place, inside)
            psp_1 = tl.where(t > 0, psp_1, start_1)
            grad = tl.load(grad_psp + t * grad_step + place, inside) + to_this
            sum_a1 += grad * psp_1
            if NEED_X:
                tl.store(grad_x + t * step + place, grad, inside)
            to_this = a * grad
        tl.store(grad_start + place, to_this, inside)
    tl.store(sums + tl.program_id(1).to(tl.int64) * features + n, sum_a1, inside)


def neuron_forward(current, start, decay, membrane_filter, threshold, keep, spikes):
    potential = torch.empty_like(spikes) if keep else None
    end = spikes.new_empty(2, *spikes.shape[1:])
    kept_decay = decay if membrane_filter else 0.0
    _neuron_forward[_grid(spikes.shape)](
        current, start, spikes, potential, end, *spikes.shape, *_strides(current, start), decay, kept_decay, threshold,
        keep, BLOCK,
    )  # fmt: skip
    return potential, end


@triton.jit
def _neuron_forward(
    current, start, spikes, potential, end, length, batch, features, current_step, start_row, start_state,
    decay, kept_decay, threshold, KEEP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1).to(tl.int64)
    inside = n < features
    v = tl.load(start + b * start_row + n, inside)
    r = tl.load(start + start_state + b * start_row + n, inside)
    place = b * features + n
    current += place
    for t in range(length):
        v = tl.load(current, inside) - r + kept_decay * v
        spike = (v > threshold).to(tl.float32)
        r = decay * r + spike
        here = tl.cast(t, tl.int64) * batch * features + place
        tl.store(spikes + here, spike, inside)
        if KEEP:
            tl.store(potential + here, v, inside)
        current += current_step
    tl.store(end + place, v, inside)
    tl.store(end + batch * features + place, r, inside)


def neuron_backward(grad_spikes, grad_end, potential, decay, membrane_filter, threshold, surrogate, grad_current):
    grad_start = potential.new_empty(2, *potential.shape[1:])
    kept_decay = decay if membrane_filter else 0.0
    _neuron_backward_with(surrogate.gradient)[_grid(potential.shape)](
        grad_spikes, grad_end, potential, grad_current, grad_start, *potential.shape,
        *_strides(grad_spikes, grad_end), decay, kept_decay, threshold, *surrogate.constants, BLOCK,
    )  # fmt: skip
    return grad_start


def _neuron_backward(
    grad_spikes, grad_end, potential, grad_current, grad_start, length, batch, features, grad_step, end_row, end_state,
    decay, kept_decay, threshold, c_1, c_2, c_3, BLOCK: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1).to(tl.int64)
    inside = n < features
    to_v = tl.load(grad_end + b * end_row + n, inside)  # gradients of v[t] and r[t] from later steps
    to_r = tl.load(grad_end + end_state + b * end_row + n, inside)
    place = b * features + n
    steps = tl.cast(length - 1, tl.int64)
    for back in range(length):
        t = steps - back
        here = t * batch * features + place
        derivative = _surrogate(tl.load(potential + here, inside) - threshold, c_1, c_2, c_3)
        grad = (tl.load(grad_spikes + t * grad_step + place, inside) + to_r) * derivative + to_v
        tl.store(grad_current + here, grad, inside)
        to_v = kept_decay * grad
        to_r = decay * to_r - grad
    tl.store(grad_start + place, to_v, inside)
    tl.store(grad_start + batch * features + place, to_r, inside)


@cache
def _neuron_backward_with(gradient):
    """Return the neurons' backward kernel with a surrogate's formula in it."""
    names = globals() | {"_surrogate": triton.jit(surrogates.formula(gradient, tl))}
    return triton.jit(FunctionType(_neuron_backward.__code__, names, _neuron_backward.__name__))


def dual_exp_filter_forward(x, start, decay_m, decay_s, gain, y):
    end = y.new_empty(2, *y.shape[1:])
    _dual_exp_filter_forward[_grid(y.shape)](
        x, start, y, end, *y.shape, *_strides(x, start), decay_m, decay_s, gain, BLOCK
    )
    return end


@triton.jit
def _dual_exp_filter_forward(
    x, start, y, end, length, batch, features, x_step, start_row, start_state, decay_m, decay_s, gain,
    BLOCK: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1).to(tl.int64)
    inside = n < features
    m = tl.load(start + b * start_row + n, inside)
    s = tl.load(start + start_state + b * start_row + n, inside)
    place = b * features + n
    x += place
    y += place
    for _ in range(length):
        arriving = tl.load(x, inside)
        m = decay_m * m + arriving
        s = decay_s * s + arriving
        tl.store(y, gain * (m - s), inside)
        x += x_step
        y += batch * features
    tl.store(end + place, m, inside)
    tl.store(end + batch * features + place, s, inside)


def dual_exp_filter_backward(grad_y, grad_end, decay_m, decay_s, gain, shape):
    grad_x, grad_start = grad_y.new_empty(shape), grad_y.new_empty(2, *shape[1:])
    _dual_exp_filter_backward[_grid(shape)](
        grad_y, grad_end, grad_x, grad_start, *shape, *_strides(grad_y, grad_end), decay_m, decay_s, gain, BLOCK
    )
    return grad_x, grad_start


@triton.jit
def _dual_exp_filter_backward(
    grad_y, grad_end, grad_x, grad_start, length, batch, features, grad_step, end_row, end_state,
    decay_m, decay_s, gain, BLOCK: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1).to(tl.int64)
    inside = n < features
    to_m = tl.load(grad_end + b * end_row + n, inside)  # gradients of m[t] and s[t] from later steps
    to_s = tl.load(grad_end + end_state + b * end_row + n, inside)
    place = b * features + n
    steps = tl.cast(length - 1, tl.int64)
    for back in range(length):
        t = steps - back
        arriving = gain * tl.load(grad_y + t * grad_step + place, inside)
        to_m += arriving
        to_s -= arriving
        tl.store(grad_x + t * batch * features + place, to_m + to_s, inside)
        to_m *= decay_m
        to_s *= decay_s
    tl.store(grad_start + place, to_m, inside)
    tl.store(grad_start + batch * features + place, to_s, inside)


def dropout(x, scale, seeds):
    y, (seed_1, seed_2, smallest) = torch.empty_like(x), seeds
    seed = seed_1 << 31 ^ seed_2
    _dropout[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), seed, smallest, scale, BLOCK=1024)
    return y


@triton.jit(do_not_specialize=["seed", "smallest"])
def _dropout(x, y, count, seed, smallest, scale, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < count
    number = tl.randint(seed, i).to(tl.uint32, bitcast=True)
    tl.store(y + i, tl.where(number.to(tl.int64) >= smallest, scale * tl.load(x + i, inside), 0.0), inside)
