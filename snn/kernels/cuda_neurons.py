"""The neurons' loops over time for CUDA: part of `snn.kernels.cuda`.

Their backward needs how far each potential was above the threshold, so the forward keeps that, as on the CPU. They add
the bias of the product before them, `[N]` or None, and sum its gradients: apart from them, each would read all steps.
"""

from functools import cache

import torch
import triton
import triton.language as tl

from snn.kernels.launched import (
    coefficients_at,
    launch,
    leaked,
    load_back,
    load_steps,
    mask_at,
    moves,
    place_of,
    rows_of,
    state_of,
    store_sums,
    with_surrogate,
)

_surrogate = None  # each copy of a backward gets a surrogate's formula in its place
_kernel_with = cache(with_surrogate)


def neuron_forward(current, start, decay, kept_decay, threshold, keep, spikes, bias=None):
    above = torch.empty_like(spikes) if keep else None
    end = torch.empty(2, *spikes.shape[1:], dtype=torch.float32, device=spikes.device)
    launch(
        _neuron_forward, spikes, current, start, bias, spikes, above, end, moves(current), decay, kept_decay,
        float(threshold),
    )  # fmt: skip
    return above, end


@triton.jit
def _neuron_forward(
    current, start, bias, spikes, above, end, current_moves, decay, kept_decay, threshold, length, batch, groups,
    VECTOR: tl.constexpr, BLOCK: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    n, inside, b, features = place_of(groups, VECTOR, BLOCK)
    place, step = b * features + n, tl.cast(batch, tl.int64) * features
    added = state_of(bias, 0, n, 0, inside, BLOCK)
    v = state_of(start, 0, place, step, inside, BLOCK)
    r = state_of(start, 1, place, step, inside, BLOCK)
    for first in range(0, length, STEPS):
        arriving = load_steps(current + place, first, step * current_moves, length, inside, STEPS)
        for k in tl.static_range(STEPS):
            if first + k < length:
                v = arriving[k] + added - r + leaked(v, kept_decay)
                spike = (v > threshold).to(tl.float32)
                r = decay * r + spike
                tl.store(spikes + (first + k) * step + place, spike, inside)
                if above is not None:
                    tl.store(above + (first + k) * step + place, v - threshold, inside)
    tl.store(end + place, v, inside)
    tl.store(end + step + place, r, inside)


def neuron_backward(grad_spikes, grad_end, above, decay, kept_decay, surrogate, grad_current, grad_bias=None):
    """Write the gradient of the bias too, if there is a `grad_bias` `[N]` for it."""
    grad_start = torch.empty(2, *above.shape[1:], dtype=torch.float32, device=above.device)
    rows = 1 if grad_bias is None else rows_of(above.shape)
    bias_sums = _bias_sums(grad_bias, above.shape, rows)
    launch(
        _kernel_with(surrogate.gradient, _neuron_backward), above, grad_spikes, grad_end, above, grad_current,
        grad_start, bias_sums, moves(grad_spikes), decay, kept_decay, *map(float, surrogate.constants), rows, rows=rows,
    )  # fmt: skip
    if grad_bias is not None:
        torch.sum(bias_sums, 0, out=grad_bias)
    return grad_start


def _bias_sums(grad_bias, shape, rows):
    """Return an empty `[programs of a feature, N]` if the gradient of a bias is needed."""
    return None if grad_bias is None else grad_bias.new_empty(triton.cdiv(shape[1], rows), shape[2])


def _neuron_backward(
    grad_spikes, grad_end, above, grad_current, grad_start, bias_sums, grad_moves, decay, kept_decay, c_1, c_2, c_3,
    rows, length, batch, groups, VECTOR: tl.constexpr, BLOCK: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    n, inside, number, features = place_of(groups, VECTOR, BLOCK)
    step = tl.cast(batch, tl.int64) * features
    sum_bias = tl.zeros([BLOCK], tl.float32)
    for b in range(number * rows, tl.minimum(number * rows + rows, batch)):
        place = b * features + n
        last = (length - 1) * step + place
        to_v = state_of(grad_end, 0, place, step, inside, BLOCK)  # gradients of v[t] and r[t] from later steps
        to_r = state_of(grad_end, 1, place, step, inside, BLOCK)
        for first in range(0, length, STEPS):
            arriving = load_back(grad_spikes, grad_moves, place, first, step, length, inside, STEPS)
            distances = load_steps(above + last, first, -step, length, inside, STEPS)
            for k in tl.static_range(STEPS):
                if first + k < length:
                    grad = (arriving[k] + to_r) * _surrogate(distances[k], c_1, c_2, c_3) + to_v
                    tl.store(grad_current + last - (first + k) * step, grad, inside)
                    sum_bias += grad
                    to_v = leaked(grad, kept_decay)
                    to_r = decay * to_r - grad
        tl.store(grad_start + place, to_v, inside)
        tl.store(grad_start + step + place, to_r, inside)
    if bias_sums is not None:
        tl.store(bias_sums + number * features + n, sum_bias, inside)


def neuron_iir_forward(current, start, decay, kept_decay, threshold, keep, coefficients, dropout, psp, bias=None):
    """Run a neuron and the synapse behind it; their states are `[4, B, N]`: v, r, psp[t-1], psp[t-2].

    `dropout` of the spikes between them is a scale and seeds, as for `dropout`; a scale of 0 means none.
    """
    above = torch.empty_like(psp) if keep else None
    end = coefficients.new_empty(4, *psp.shape[1:])
    scale, (seed, smallest) = dropout
    launch(
        _neuron_iir_forward, psp, current, start, bias, coefficients, seed, psp, above, end, moves(current), decay,
        kept_decay, float(threshold), float(scale), smallest,
    )  # fmt: skip
    return above, end


@triton.jit(do_not_specialize=["smallest"])
def _neuron_iir_forward(
    current, start, bias, coefficients, seed, psp, above, end, current_moves, decay, kept_decay, threshold, scale,
    smallest, length, batch, groups, VECTOR: tl.constexpr, BLOCK: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    n, inside, b, features = place_of(groups, VECTOR, BLOCK)
    place, step = b * features + n, tl.cast(batch, tl.int64) * features
    a1, a2, b1 = coefficients_at(coefficients, n, features, inside)
    added = state_of(bias, 0, n, 0, inside, BLOCK)
    v = state_of(start, 0, place, step, inside, BLOCK)
    r = state_of(start, 1, place, step, inside, BLOCK)
    psp_1 = state_of(start, 2, place, step, inside, BLOCK)
    psp_2 = state_of(start, 3, place, step, inside, BLOCK)
    for first in range(0, length, STEPS):
        arriving = load_steps(current + place, first, step * current_moves, length, inside, STEPS)
        for k in tl.static_range(STEPS):
            if first + k < length:
                here = (first + k) * step + place
                v = arriving[k] + added - r + leaked(v, kept_decay)
                spike = (v > threshold).to(tl.float32)
                r = decay * r + spike
                if above is not None:
                    tl.store(above + here, v - threshold, inside)
                if seed is not None:
                    spike *= mask_at(tl.load(seed), here, smallest, scale)
                value = b1 * spike + a1 * psp_1 + a2 * psp_2
                tl.store(psp + here, value, inside)
                psp_2 = psp_1
                psp_1 = value
    tl.store(end + place, v, inside)
    tl.store(end + step + place, r, inside)
    tl.store(end + 2 * step + place, psp_1, inside)
    tl.store(end + 3 * step + place, psp_2, inside)


def neuron_iir_backward(
    grad_psp, grad_end, above, psp, start, coefficients, decay, kept_decay, surrogate, from_zero, dropout,
    grad_current, grad_bias=None,
):  # fmt: skip
    """`start` and `grad_end` are `[4, B, N]`, in the order of `neuron_iir_forward`; `grad_bias` as of a neuron."""
    rows = rows_of(psp.shape)
    grad_start = coefficients.new_empty(4, *psp.shape[1:])
    sums = coefficients.new_empty(triton.cdiv(psp.shape[1], rows), 3, psp.shape[2])
    bias_sums = _bias_sums(grad_bias, psp.shape, rows)
    scale, (seed, smallest) = dropout
    launch(
        _kernel_with(surrogate.gradient, _neuron_iir_backward), psp, grad_psp, grad_end, above, psp, start,
        coefficients, seed, grad_current, grad_start, sums, bias_sums, moves(grad_psp), decay, kept_decay,
        *map(float, surrogate.constants), float(scale), smallest, rows, from_zero, rows=rows,
    )  # fmt: skip
    if grad_bias is not None:
        torch.sum(bias_sums, 0, out=grad_bias)
    return grad_start, sums.sum(0)


def _neuron_iir_backward(
    grad_psp, grad_end, above, psp, start, coefficients, seed, grad_current, grad_start, sums, bias_sums, grad_moves,
    decay, kept_decay, c_1, c_2, c_3, scale, smallest, rows, FROM_ZERO: tl.constexpr,
    length, batch, groups, VECTOR: tl.constexpr, BLOCK: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    n, inside, number, features = place_of(groups, VECTOR, BLOCK)
    step = tl.cast(batch, tl.int64) * features
    a1, a2, b1 = coefficients_at(coefficients, n, features, inside)
    sum_a1 = tl.zeros([BLOCK], tl.float32)
    sum_a2 = tl.zeros([BLOCK], tl.float32)
    sum_b1 = tl.zeros([BLOCK], tl.float32)
    sum_bias = tl.zeros([BLOCK], tl.float32)
    for b in range(number * rows, tl.minimum(number * rows + rows, batch)):
        place = b * features + n
        last = (length - 1) * step + place
        start_1 = state_of(start, 2, place, step, inside, BLOCK)
        start_2 = state_of(start, 3, place, step, inside, BLOCK)
        to_v = state_of(
            grad_end, 0, place, step, inside, BLOCK
        )  # gradients of v, r, psp[t] and psp[t-1] from later steps
        to_r = state_of(grad_end, 1, place, step, inside, BLOCK)
        to_this = state_of(grad_end, 2, place, step, inside, BLOCK)
        to_before = state_of(grad_end, 3, place, step, inside, BLOCK)
        psp_0 = tl.load(psp + last, inside).to(tl.float32)
        psp_1 = start_1
        if length > 1:
            psp_1 = tl.load(psp + last - step, inside).to(tl.float32)
        for first in range(0, length, STEPS):  # steps back from the last
            arriving = load_back(grad_psp, grad_moves, place, first, step, length, inside, STEPS)
            before = load_steps(psp + last - 2 * step, first, -step, length - 2, inside, STEPS)
            distances = load_steps(above + last, first, -step, length, inside, STEPS)
            for k in tl.static_range(STEPS):
                if first + k < length:
                    t = length - 1 - first - k
                    psp_2 = before[k]
                    if start is not None:
                        psp_2 = tl.where(t > 1, psp_2, tl.where(t == 1, start_1, start_2))
                    grad = arriving[k] + to_this
                    sum_a1 += grad * psp_1
                    sum_a2 += grad * psp_2
                    to_this = to_before + a1 * grad
                    to_before = a2 * grad
                    if seed is not None:
                        grad *= mask_at(tl.load(seed), t * step + place, smallest, scale)
                    if FROM_ZERO:
                        sum_b1 += arriving[k] * psp_0
                    else:
                        sum_b1 += tl.where(distances[k] > 0, grad, 0.0)
                    psp_0 = psp_1
                    psp_1 = psp_2
                    grad = (b1 * grad + to_r) * _surrogate(distances[k], c_1, c_2, c_3) + to_v
                    tl.store(grad_current + t * step + place, grad, inside)
                    sum_bias += grad
                    to_v = leaked(grad, kept_decay)
                    to_r = decay * to_r - grad
        tl.store(grad_start + place, to_v, inside)
        tl.store(grad_start + step + place, to_r, inside)
        tl.store(grad_start + 2 * step + place, to_this, inside)
        tl.store(grad_start + 3 * step + place, to_before, inside)
    store_sums(sums, number, n, features, inside, sum_a1, sum_a2, sum_b1)
    if bias_sums is not None:
        tl.store(bias_sums + number * features + n, sum_bias, inside)
