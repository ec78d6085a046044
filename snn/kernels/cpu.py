"""The loops over time for the CPU, compiled by Numba: each value is read once and written once.

`snn.kernels.autograd` describes the arguments and results, and `snn.kernels.compiled` how a loop runs. What a loop
computes stands here, in functions of `arrays`, `numbers`, the states before, and `here`: a vector of features of one
sample, and some steps.

The neurons' backward needs how far each potential was above the threshold, so the forward keeps that: bfloat16 then
rounds least near the threshold, where the surrogate is large.
"""

import math
from functools import cache
from types import ModuleType

import torch

from snn.kernels import surrogates
from snn.kernels.compiled import (
    LANES,
    Loop,
    ask_ahead,
    coefficients_at,
    f32,
    get,
    leaked,
    mask_at,
    over_time,
    put,
    share,
    unpack,
)
from snn.kernels.vectors import (
    absolute,
    exponent,
    in_range_of_exponents,
    inner,
    load,
    mask,
    square_root,
    step,
    store,
    whole,
    zeros,
)

NO_SEEDS = 0, 0, 0
_L0, _L1, _L2, _L3, _L4, _L5, _L6 = (f32(math.log(2) ** k / math.factorial(k)) for k in range(7))  # 2^f by powers of f
_BIAS, _NEAREST = f32(127), f32(127.5)


def dual_exp_iir_forward(x, start, coefficients, psp):
    end = start.new_empty(2, *psp.shape[1:])
    _dual_exp_iir_forward(psp, start, end, x, coefficients)
    return end


@over_time(states=2)
def _dual_exp_iir_forward(arrays, numbers, state, here):
    psp, _, _, x, coefficients = arrays[:5]
    a1, a2, b1 = coefficients_at(coefficients, here)
    psp_1, psp_2 = state
    for t in range(here.first, here.end):
        ask_ahead(x, t, here)
        value = b1 * get(x, t, here) + a1 * psp_1 + a2 * psp_2
        put(psp, t, here, value)
        psp_1, psp_2 = value, psp_1
    return psp_1, psp_2


def dual_exp_iir_backward(grad_psp, grad_end, x, psp, start, coefficients, grad_x):
    """`grad_x` is written, unless it is None."""
    grad_start = start.new_empty(2, *psp.shape[1:])
    sums = start.new_zeros(torch.get_num_threads(), 3, psp.shape[2])
    _dual_exp_iir_backward(
        psp, grad_end, grad_start, sums, grad_psp, psp if x is None else x, start, coefficients,
        psp if grad_x is None else grad_x, x is not None, grad_x is not None,
    )  # fmt: skip
    return grad_start, sums.sum(0)


@over_time(states=2, sums=3, backwards=True)
def _dual_exp_iir_backward(arrays, numbers, state, here):
    psp, _, _, _, grad_psp, x, start, coefficients, grad_x = arrays[:9]
    has_x, need_x = numbers[0] != 0, numbers[1] != 0
    a1, a2, b1 = coefficients_at(coefficients, here)
    to_this, to_before, sum_a1, sum_a2, sum_b1 = state  # gradients of psp[t] and psp[t-1] from later steps
    psp_0, psp_1 = get(psp, here.first, here), _before(psp, here.first - 1, start, 0, here)
    for t in range(here.first, here.end, -1):
        ask_ahead(grad_psp, t, here)
        ask_ahead(psp, t - 2, here)
        psp_2 = _before(psp, t - 2, start, 0, here)
        arriving = get(grad_psp, t, here)
        grad = arriving + to_this
        sum_a1 += grad * psp_1
        sum_a2 += grad * psp_2
        if has_x:
            sum_b1 += grad * get(x, t, here)
        else:
            sum_b1 += arriving * psp_0
        if need_x:
            put(grad_x, t, here, b1 * grad)
        to_this, to_before = to_before + a1 * grad, a2 * grad
        psp_0, psp_1 = psp_1, psp_2
    return to_this, to_before, sum_a1, sum_a2, sum_b1


@inner
def _before(psp, t, start, first, here):
    """Return psp[t], which for -1 and -2 is in `start` from its row `first` on."""
    if t >= 0:
        return get(psp, t, here)
    return get(start, first - 1 - t, here)


def first_order_forward(x, start, a1, psp):
    end = start.new_empty(1, *psp.shape[1:])
    _first_order_forward(psp, start, end, x, a1)
    return end


@over_time(states=1)
def _first_order_forward(arrays, numbers, state, here):
    psp, _, _, x, a1 = arrays[:5]
    a, (psp_1,) = get(a1, 0, here), state
    for t in range(here.first, here.end):
        ask_ahead(x, t, here)
        psp_1 = get(x, t, here) + a * psp_1
        put(psp, t, here, psp_1)
    return (psp_1,)


def first_order_backward(grad_psp, grad_end, psp, start, a1, grad_x):
    """`grad_x` is written, unless it is None."""
    grad_start = start.new_empty(1, *psp.shape[1:])
    sums = start.new_zeros(torch.get_num_threads(), 1, psp.shape[2])
    _first_order_backward(
        psp, grad_end, grad_start, sums, grad_psp, start, a1, psp if grad_x is None else grad_x,
        grad_x is not None,
    )  # fmt: skip
    return grad_start, sums.sum((0, 1))


@over_time(states=1, sums=1, backwards=True)
def _first_order_backward(arrays, numbers, state, here):
    psp, _, _, _, grad_psp, start, a1, grad_x = arrays[:8]
    a, need_x, (to_this, sum_a1) = get(a1, 0, here), numbers[0] != 0, state
    for t in range(here.first, here.end, -1):
        ask_ahead(grad_psp, t, here)
        ask_ahead(psp, t - 1, here)
        grad = get(grad_psp, t, here) + to_this
        sum_a1 += grad * _before(psp, t - 1, start, 0, here)
        if need_x:
            put(grad_x, t, here, grad)
        to_this = a * grad
    return to_this, sum_a1


def neuron_forward(current, start, decay, kept_decay, threshold, keep, spikes):
    above = torch.empty_like(spikes) if keep else None
    end = start.new_empty(2, *spikes.shape[1:])
    _neuron_forward(
        spikes, start, end, current, above if keep else spikes, decay, kept_decay, threshold, keep
    )  # fmt: skip
    return above, end


@over_time(states=2)
def _neuron_forward(arrays, numbers, state, here):
    spikes, _, _, current, above = arrays[:5]
    decay, kept_decay, threshold, keep = numbers[0], numbers[1], numbers[2], numbers[3] != 0
    v, r = state
    for t in range(here.first, here.end):
        ask_ahead(current, t, here)
        v = get(current, t, here) - r + leaked(v, kept_decay, here)
        spike = step(v - threshold)
        r = decay * r + spike
        put(spikes, t, here, spike)
        if keep:
            put(above, t, here, v - threshold)
    return v, r


def neuron_backward(grad_spikes, grad_end, above, decay, kept_decay, surrogate, grad_current):
    grad_start = grad_end.new_empty(2, *above.shape[1:])
    loop = _with_surrogate(surrogate.gradient, _neuron_backward, states=2)
    loop(above, grad_end, grad_start, grad_spikes, grad_current, decay, kept_decay, *surrogate.constants)
    return grad_start


def _neuron_backward(arrays, numbers, state, here):
    above, _, _, grad_spikes, grad_current = arrays[:5]
    decay, kept_decay, c_1, c_2, c_3 = numbers[:5]
    to_v, to_r = state  # gradients of v[t] and r[t] from later steps
    for t in range(here.first, here.end, -1):
        ask_ahead(grad_spikes, t, here)
        ask_ahead(above, t, here)
        derivative = _surrogate(get(above, t, here), c_1, c_2, c_3)
        grad = (get(grad_spikes, t, here) + to_r) * derivative + to_v
        put(grad_current, t, here, grad)
        to_v, to_r = leaked(grad, kept_decay, here), decay * to_r - grad
    return to_v, to_r


def neuron_iir_forward(current, start, decay, kept_decay, threshold, keep, coefficients, dropout, psp):
    """Run a neuron and the synapse behind it; their states are `[4, B, N]`: v, r, psp[t-1], psp[t-2].

    `dropout` of the spikes between them is a scale and seeds, as for `dropout`; a scale of 0 means none.
    """
    above = torch.empty_like(psp) if keep else None
    end = start.new_empty(4, *psp.shape[1:])
    scale, seeds = dropout
    _neuron_iir_forward(
        psp, start, end, current, coefficients, above if keep else psp, decay, kept_decay, threshold, keep, scale,
        seeds=seeds,
    )  # fmt: skip
    return above, end


@over_time(states=4)
def _neuron_iir_forward(arrays, numbers, state, here):
    psp, _, _, current, coefficients, above = arrays[:6]
    decay, kept_decay, threshold, keep, scale = numbers[0], numbers[1], numbers[2], numbers[3] != 0, numbers[4]
    a1, a2, b1 = coefficients_at(coefficients, here)
    v, r, psp_1, psp_2 = state
    for t in range(here.first, here.end):
        ask_ahead(current, t, here)
        v = get(current, t, here) - r + leaked(v, kept_decay, here)
        spike = step(v - threshold)
        r = decay * r + spike
        if keep:
            put(above, t, here, v - threshold)
        if scale != 0:
            spike = spike * mask_at(psp, t, here, scale)
        value = b1 * spike + a1 * psp_1 + a2 * psp_2
        put(psp, t, here, value)
        psp_1, psp_2 = value, psp_1
    return v, r, psp_1, psp_2


def neuron_iir_backward(
    grad_psp, grad_end, above, psp, start, coefficients, decay, kept_decay, surrogate, from_zero, dropout,
    grad_current,
):  # fmt: skip
    """`start` and `grad_end` are `[4, B, N]`, in the order of `neuron_iir_forward`."""
    grad_start = grad_end.new_empty(4, *psp.shape[1:])
    sums = grad_end.new_zeros(torch.get_num_threads(), 3, psp.shape[2])
    loop = _with_surrogate(surrogate.gradient, _neuron_iir_backward, states=4, sums=3)
    loop(
        psp, grad_end, grad_start, sums, grad_psp, above, start, coefficients, grad_current,
        decay, kept_decay, not from_zero, dropout[0], *surrogate.constants, seeds=dropout[1],
    )  # fmt: skip
    return grad_start, sums.sum(0)


def _neuron_iir_backward(arrays, numbers, state, here):
    psp, _, _, _, grad_psp, above, start, coefficients, grad_current = arrays[:9]
    decay, kept_decay, from_spikes, scale, c_1, c_2, c_3 = numbers[:7]
    a1, a2, b1 = coefficients_at(coefficients, here)
    to_v, to_r, to_this, to_before, sum_a1, sum_a2, sum_b1 = state
    psp_0, psp_1 = get(psp, here.first, here), _before(psp, here.first - 1, start, 2, here)
    for t in range(here.first, here.end, -1):
        ask_ahead(grad_psp, t, here)
        ask_ahead(above, t, here)
        ask_ahead(psp, t - 2, here)
        psp_2 = _before(psp, t - 2, start, 2, here)
        arriving, distance = get(grad_psp, t, here), get(above, t, here)
        grad = arriving + to_this
        sum_a1 += grad * psp_1
        sum_a2 += grad * psp_2
        to_this, to_before = to_before + a1 * grad, a2 * grad
        if scale != 0:
            grad = grad * mask_at(psp, t, here, scale)
        if from_spikes != 0:
            sum_b1 += grad * step(distance)
        else:
            sum_b1 += arriving * psp_0
        psp_0, psp_1 = psp_1, psp_2
        grad = (b1 * grad + to_r) * _surrogate(distance, c_1, c_2, c_3) + to_v
        put(grad_current, t, here, grad)
        to_v, to_r = leaked(grad, kept_decay, here), decay * to_r - grad
    return to_v, to_r, to_this, to_before, sum_a1, sum_a2, sum_b1


@inner
def _power_of_2(x):
    """Return 2^x with a relative error of 2e-7, for x from -126 to 127."""
    x = in_range_of_exponents(x)
    biased = whole(x + _NEAREST)
    f = x - (biased - _BIAS)
    return exponent(biased) * (_L0 + f * (_L1 + f * (_L2 + f * (_L3 + f * (_L4 + f * (_L5 + f * _L6))))))


_surrogate = None  # each copy of a neuron's backward gets a surrogate's formula in its place
_m = ModuleType("m")  # what a surrogate's formula calls
_m.exp2, _m.abs, _m.sqrt = _power_of_2, absolute, square_root


def compiled_formula(gradient):
    """Return a surrogate's formula for what is compiled here."""
    return inner(error_model="numpy")(surrogates.formula(gradient, _m))


@cache
def _with_surrogate(gradient, function, states, sums=0):
    """Return a neuron's backward loop with a surrogate's formula in it."""
    return over_time(states, sums, backwards=True, _surrogate=compiled_formula(gradient))(function)


def dual_exp_filter_forward(x, start, decay_m, decay_s, gain, y):
    end = start.new_empty(2, *y.shape[1:])
    _dual_exp_filter_forward(y, start, end, x, decay_m, decay_s, gain)
    return end


@over_time(states=2)
def _dual_exp_filter_forward(arrays, numbers, state, here):
    y, _, _, x = arrays[:4]
    decay_m, decay_s, gain = numbers[:3]
    m, s = state
    for t in range(here.first, here.end):
        ask_ahead(x, t, here)
        x_t = get(x, t, here)
        m, s = decay_m * m + x_t, decay_s * s + x_t
        put(y, t, here, gain * (m - s))
    return m, s


def dual_exp_filter_backward(grad_y, grad_end, decay_m, decay_s, gain, grad_x):
    grad_start = grad_end.new_empty(2, *grad_x.shape[1:])
    _dual_exp_filter_backward(grad_x, grad_end, grad_start, grad_y, decay_m, decay_s, gain)
    return grad_start


@over_time(states=2, backwards=True)
def _dual_exp_filter_backward(arrays, numbers, state, here):
    grad_x, _, _, grad_y = arrays[:4]
    decay_m, decay_s, gain = numbers[:3]
    to_m, to_s = state  # gradients of m[t] and s[t] from later steps
    for t in range(here.first, here.end, -1):
        ask_ahead(grad_y, t, here)
        arriving = gain * get(grad_y, t, here)
        to_m, to_s = to_m + arriving, to_s - arriving
        put(grad_x, t, here, to_m + to_s)
        to_m, to_s = decay_m * to_m, decay_s * to_s
    return to_m, to_s


def zero_states(count, features):
    """Return what stands for states of zeros, `[count, B, features]`."""
    return torch.zeros(count, 1, features, dtype=torch.float32, device="cpu")


def new_seeds(smallest, device):
    """Return a dropout's seeds; a random number of 32 bits below `smallest` drops its place."""
    return *torch.randint(2**32, (2,), device="cpu").tolist(), smallest


def dropout(x, scale, seeds):
    """Multiply by `scale`, or by 0 where `vectors.mask` of the seeds is."""
    y = torch.empty_like(x)
    _dropout(x.view(1, 1, -1), y.view(1, 1, -1), scale, seeds=seeds)
    return y


@Loop
def _dropout(task):
    shape, arrays, numbers, seeds, _ = unpack(task)
    x, y, scale = arrays[0].pointer, arrays[1].pointer, numbers[0]
    _, _, first, last = share(shape)
    vectors_end = last - (last - first) % LANES
    for i in range(first, vectors_end, LANES):
        store(y, i, mask(i, seeds, scale, zeros(LANES)) * load(x, i, zeros(LANES)), False)
    for i in range(vectors_end, last):
        store(y, i, mask(i, seeds, scale, f32(0)) * load(x, i, f32(0)), False)
