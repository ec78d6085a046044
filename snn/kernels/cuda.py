"""The loops over time for CUDA, in Triton: each value is read once and written once.

`snn.kernels.autograd` describes the arguments and results, and `snn.kernels.launched` how a loop runs. What a filter
computes stands here, and what a neuron does in `snn.kernels.cuda_neurons`.
"""

import torch
import triton
import triton.language as tl

from snn.kernels.cuda_neurons import neuron_backward, neuron_forward, neuron_iir_backward, neuron_iir_forward  # noqa: F401
from snn.kernels.launched import (
    coefficients_at,
    launch,
    load_back,
    load_steps,
    mask_at,
    moves,
    place_of,
    rows_of,
    state_of,
    store_sums,
)

NO_SEEDS = None, 0


def dual_exp_iir_forward(x, start, coefficients, psp):
    end = coefficients.new_empty(2, *psp.shape[1:])
    launch(_dual_exp_iir_forward, psp, x, start, coefficients, psp, end, moves(x))
    return end


@triton.jit
def _dual_exp_iir_forward(
    x, start, coefficients, psp, end, x_moves, length, batch, groups,
    VECTOR: tl.constexpr, BLOCK: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    n, inside, b, features = place_of(groups, VECTOR, BLOCK)
    place, step = b * features + n, tl.cast(batch, tl.int64) * features
    a1, a2, b1 = coefficients_at(coefficients, n, features, inside)
    psp_1 = state_of(start, 0, place, step, inside, BLOCK)
    psp_2 = state_of(start, 1, place, step, inside, BLOCK)
    for first in range(0, length, STEPS):
        arriving = load_steps(x + place, first, step * x_moves, length, inside, STEPS)
        for k in tl.static_range(STEPS):
            if first + k < length:
                value = b1 * arriving[k] + a1 * psp_1 + a2 * psp_2
                tl.store(psp + (first + k) * step + place, value, inside)
                psp_2 = psp_1
                psp_1 = value
    tl.store(end + place, psp_1, inside)
    tl.store(end + step + place, psp_2, inside)


def dual_exp_iir_backward(grad_psp, grad_end, x, psp, start, coefficients, grad_x):
    rows = rows_of(psp.shape)
    grad_start = coefficients.new_empty(2, *psp.shape[1:])
    sums = coefficients.new_empty(triton.cdiv(psp.shape[1], rows), 3, psp.shape[2])
    launch(
        _dual_exp_iir_backward, psp, grad_psp, grad_end, x, psp, start, coefficients, grad_x, grad_start, sums,
        moves(grad_psp), 0 if x is None else moves(x), rows, rows=rows,
    )  # fmt: skip
    return grad_start, sums.sum(0)


@triton.jit
def _dual_exp_iir_backward(
    grad_psp, grad_end, x, psp, start, coefficients, grad_x, grad_start, sums, grad_moves, x_moves, rows,
    length, batch, groups, VECTOR: tl.constexpr, BLOCK: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    n, inside, number, features = place_of(groups, VECTOR, BLOCK)
    step = tl.cast(batch, tl.int64) * features
    a1, a2, b1 = coefficients_at(coefficients, n, features, inside)
    sum_a1 = tl.zeros([BLOCK], tl.float32)
    sum_a2 = tl.zeros([BLOCK], tl.float32)
    sum_b1 = tl.zeros([BLOCK], tl.float32)
    for b in range(number * rows, tl.minimum(number * rows + rows, batch)):
        place = b * features + n
        last = (length - 1) * step + place
        start_1 = state_of(start, 0, place, step, inside, BLOCK)
        start_2 = state_of(start, 1, place, step, inside, BLOCK)
        to_this = state_of(grad_end, 0, place, step, inside, BLOCK)  # gradients of psp[t] and psp[t-1] from later steps
        to_before = state_of(grad_end, 1, place, step, inside, BLOCK)
        psp_0 = tl.load(psp + last, inside).to(tl.float32)
        psp_1 = start_1
        if length > 1:
            psp_1 = tl.load(psp + last - step, inside).to(tl.float32)
        for first in range(0, length, STEPS):  # steps back from the last
            arriving = load_back(grad_psp, grad_moves, place, first, step, length, inside, STEPS)
            before = load_steps(psp + last - 2 * step, first, -step, length - 2, inside, STEPS)
            if x is not None:
                inputs = load_back(x, x_moves, place, first, step, length, inside, STEPS)
            for k in tl.static_range(STEPS):
                if first + k < length:
                    t = length - 1 - first - k
                    psp_2 = before[k]
                    if start is not None:
                        psp_2 = tl.where(t > 1, psp_2, tl.where(t == 1, start_1, start_2))
                    grad = arriving[k] + to_this
                    sum_a1 += grad * psp_1
                    sum_a2 += grad * psp_2
                    if x is not None:
                        sum_b1 += grad * inputs[k]
                    else:
                        sum_b1 += arriving[k] * psp_0
                    if grad_x is not None:
                        tl.store(grad_x + t * step + place, b1 * grad, inside)
                    to_this = to_before + a1 * grad
                    to_before = a2 * grad
                    psp_0 = psp_1
                    psp_1 = psp_2
        tl.store(grad_start + place, to_this, inside)
        tl.store(grad_start + step + place, to_before, inside)
    store_sums(sums, number, n, features, inside, sum_a1, sum_a2, sum_b1)


def first_order_forward(x, start, a1, psp):
    end = a1.new_empty(1, *psp.shape[1:])
    launch(_first_order_forward, psp, x, start, a1, psp, end, moves(x))
    return end


@triton.jit
def _first_order_forward(
    x, start, a1, psp, end, x_moves, length, batch, groups,
    VECTOR: tl.constexpr, BLOCK: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    n, inside, b, features = place_of(groups, VECTOR, BLOCK)
    place, step = b * features + n, tl.cast(batch, tl.int64) * features
    a = tl.load(a1 + n, inside)
    last = state_of(start, 0, place, step, inside, BLOCK)
    for first in range(0, length, STEPS):
        arriving = load_steps(x + place, first, step * x_moves, length, inside, STEPS)
        for k in tl.static_range(STEPS):
            if first + k < length:
                last = arriving[k] + a * last
                tl.store(psp + (first + k) * step + place, last, inside)
    tl.store(end + place, last, inside)


def first_order_backward(grad_psp, grad_end, psp, start, a1, grad_x):
    rows = rows_of(psp.shape)
    grad_start = a1.new_empty(1, *psp.shape[1:])
    sums = a1.new_empty(triton.cdiv(psp.shape[1], rows), psp.shape[2])
    launch(
        _first_order_backward, psp, grad_psp, grad_end, psp, start, a1, grad_x, grad_start, sums,
        moves(grad_psp), rows, rows=rows,
    )  # fmt: skip
    return grad_start, sums.sum(0)


@triton.jit
def _first_order_backward(
    grad_psp, grad_end, psp, start, a1, grad_x, grad_start, sums, grad_moves, rows, length, batch, groups,
    VECTOR: tl.constexpr, BLOCK: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    n, inside, number, features = place_of(groups, VECTOR, BLOCK)
    step = tl.cast(batch, tl.int64) * features
    a = tl.load(a1 + n, inside)
    sum_a1 = tl.zeros([BLOCK], tl.float32)
    for b in range(number * rows, tl.minimum(number * rows + rows, batch)):
        place = b * features + n
        last = (length - 1) * step + place
        start_1 = state_of(start, 0, place, step, inside, BLOCK)
        to_this = state_of(grad_end, 0, place, step, inside, BLOCK)  # gradient of psp[t] from later steps
        for first in range(0, length, STEPS):
            arriving = load_back(grad_psp, grad_moves, place, first, step, length, inside, STEPS)
            before = load_steps(psp + last - step, first, -step, length - 1, inside, STEPS)
            for k in tl.static_range(STEPS):
                if first + k < length:
                    t = length - 1 - first - k
                    psp_1 = before[k]
                    if start is not None:
                        psp_1 = tl.where(t > 0, psp_1, start_1)
                    grad = arriving[k] + to_this
                    sum_a1 += grad * psp_1
                    if grad_x is not None:
                        tl.store(grad_x + t * step + place, grad, inside)
                    to_this = a * grad
        tl.store(grad_start + place, to_this, inside)
    tl.store(sums + number * features + n, sum_a1, inside)


def dual_exp_filter_forward(x, start, decay_m, decay_s, gain, y):
    end = y.new_empty(2, *y.shape[1:])
    launch(_dual_exp_filter_forward, y, x, start, y, end, moves(x), decay_m, decay_s, gain)
    return end


@triton.jit
def _dual_exp_filter_forward(
    x, start, y, end, x_moves, decay_m, decay_s, gain, length, batch, groups,
    VECTOR: tl.constexpr, BLOCK: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    n, inside, b, features = place_of(groups, VECTOR, BLOCK)
    place, step = b * features + n, tl.cast(batch, tl.int64) * features
    m = state_of(start, 0, place, step, inside, BLOCK)
    s = state_of(start, 1, place, step, inside, BLOCK)
    for first in range(0, length, STEPS):
        arriving = load_steps(x + place, first, step * x_moves, length, inside, STEPS)
        for k in tl.static_range(STEPS):
            if first + k < length:
                m = decay_m * m + arriving[k]
                s = decay_s * s + arriving[k]
                tl.store(y + (first + k) * step + place, gain * (m - s), inside)
    tl.store(end + place, m, inside)
    tl.store(end + step + place, s, inside)


def dual_exp_filter_backward(grad_y, grad_end, decay_m, decay_s, gain, grad_x):
    grad_start = grad_x.new_empty(2, *grad_x.shape[1:])
    launch(
        _dual_exp_filter_backward, grad_x, grad_y, grad_end, grad_x, grad_start, moves(grad_y), decay_m, decay_s, gain
    )
    return grad_start


@triton.jit
def _dual_exp_filter_backward(
    grad_y, grad_end, grad_x, grad_start, grad_moves, decay_m, decay_s, gain, length, batch, groups,
    VECTOR: tl.constexpr, BLOCK: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    n, inside, b, features = place_of(groups, VECTOR, BLOCK)
    place, step = b * features + n, tl.cast(batch, tl.int64) * features
    to_m = state_of(grad_end, 0, place, step, inside, BLOCK)  # gradients of m[t] and s[t] from later steps
    to_s = state_of(grad_end, 1, place, step, inside, BLOCK)
    last = (length - 1) * step + place
    for first in range(0, length, STEPS):
        arriving = load_back(grad_y, grad_moves, place, first, step, length, inside, STEPS)
        for k in tl.static_range(STEPS):
            if first + k < length:
                to_m += gain * arriving[k]
                to_s -= gain * arriving[k]
                tl.store(grad_x + last - (first + k) * step, to_m + to_s, inside)
                to_m *= decay_m
                to_s *= decay_s
    tl.store(grad_start + place, to_m, inside)
    tl.store(grad_start + step + place, to_s, inside)


def new_seeds(smallest, device):
    """Return a dropout's seeds: a number on the device, so that a CUDA graph draws a new one at each replay."""
    return torch.randint(2**62, (1,), device=device), smallest


def zero_states(count, features):
    """Return what stands for states of zeros."""
    return None


def dropout(x, scale, seeds):
    y, (seed, smallest) = torch.empty_like(x), seeds
    with torch.cuda.device_of(x):
        _dropout[(triton.cdiv(x.numel(), 1024),)](x, y, seed, x.numel(), smallest, scale, BLOCK=1024)
    return y


@triton.jit(do_not_specialize=["smallest"])
def _dropout(x, y, seed, count, smallest, scale, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < count
    kept = mask_at(tl.load(seed), i, smallest, scale)
    tl.store(y + i, tl.where(kept > 0, kept * tl.load(x + i, inside).to(tl.float32), 0.0), inside)
