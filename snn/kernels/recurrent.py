"""The loop over time of recurrent neurons for the CPU, compiled by Numba as `snn.kernels.compiled` tells.

At each step all neurons see what came back from all of them, so a thread takes whole samples through time: no block of
features could go by itself. The product with the weights is done here: to call a library at each step would take longer
than the product.
"""

from functools import cache
from types import FunctionType

import numpy as np
import torch
from torch.autograd import Function
from torch.nn.functional import pad

from snn.kernels import cpu
from snn.kernels.autograd import of_loops
from snn.kernels.compiled import (
    LANES,
    WIDEST,
    Here,
    Loop,
    coefficients_at,
    f32,
    get,
    leaked,
    part_of,
    put,
    thread_number,
    unpack,
)
from snn.kernels.layout import Layout, where_needed
from snn.kernels.once import once_differentiable
from snn.kernels.vectors import inlined, inner, load, load_all, pointer_of, step, store, store_all, zeros

AT_ONCE = 4  # samples, in `products`
STATES = 4  # v, r, psp[t-1], psp[t-2]
ALL = BACKWARDS = body = _surrogate = None  # each copy of a loop gets its own


def recurrent_neuron(current, neuron_states, constants, weight, synapse_states, coefficients):
    """Run `spiking_neuron` with the current I[t] + W psp[t-1], psp being `dual_exp_iir` of its spikes.

    Shape: current `[T, B, N]`, float32, weight `[N, N]` -> spikes, v[T], r[T], psp[T], psp[T-1].
    """
    return _RecurrentNeuron.apply(current, constants, weight, *neuron_states, *synapse_states, *coefficients)


class _RecurrentNeuron(Function):
    """v[t] = I[t] + W psp[t-1] - r[t-1] (+ d v[t-1] with the membrane filter); then as a neuron and its synapse"""

    @staticmethod
    def forward(ctx, current, constants, weight, v, r, psp_1, psp_2, a1, a2, b1):
        layout = Layout(cpu, current, bf16=False)
        start, coefficients = layout.flatten_states(v, r, psp_1, psp_2), layout.flatten_coefficients(a1, a2, b1)
        spikes, flat_spikes = layout.new_sequence()
        weight = weight.float().contiguous()
        constants = of_loops(*constants)
        above, psp, end = _run(layout.flatten(current), start, weight, coefficients, *constants[:3], flat_spikes)
        ctx.save_for_backward(above, psp, start, weight, coefficients)
        ctx.layout, ctx.constants = layout, constants
        ctx.set_materialize_grads(False)
        return spikes, *layout.states(end)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_spikes, *grads):
        layout, (decay, kept_decay, _, surrogate) = ctx.layout, ctx.constants
        arriving = layout.flatten(grad_spikes), layout.flatten_states(*grads)
        grad_current, grad_start, grad_weight, sums = _run_back(
            *arriving, *ctx.saved_tensors, decay, kept_decay, surrogate
        )
        grad_states = where_needed(ctx.needs_input_grad[3:7], grad_start, layout)
        return layout.unflatten(grad_current), None, grad_weight, *grad_states, *layout.unflatten(sums)


def _run(current, start, weight, coefficients, decay, kept_decay, threshold, spikes):
    """Write the spikes; return their distances from the threshold, psp `[T + 1, B, N]` from psp[-1] on, and the end.

    `start` and the end are `[4, B, N]`: v, r, psp[t-1], psp[t-2]. `weight` is `[N, N]`, from the neuron in its column.
    """
    above, end = torch.empty_like(spikes), start.new_empty(4, *spikes.shape[1:])
    psp = spikes.new_empty(len(spikes) + 1, *spikes.shape[1:])
    psp[0] = start[2]
    _forward(
        spikes, start, end, spikes, in_strips(weight.t()), psp, coefficients, current, above,
        decay, kept_decay, threshold,
    )  # fmt: skip
    return above, psp, end


def _forward_step(arrays, numbers, state, back, here):
    spikes, _, _, _, _, psp, coefficients, current, above = arrays[:9]
    decay, kept_decay, threshold = numbers[:3]
    a1, a2, b1 = coefficients_at(coefficients, here)
    v, r, psp_1, psp_2 = state
    v = get(current, here.first, here) + back - r + leaked(v, kept_decay, here)
    spike = step(v - threshold)
    r = decay * r + spike
    value = b1 * spike + a1 * psp_1 + a2 * psp_2
    put(spikes, here.first, here, spike)
    put(above, here.first, here, v - threshold)
    put(psp, here.first + 1, here, value)
    return v, r, value, psp_1


def _run_back(grad_spikes, grad_end, above, psp, start, weight, coefficients, decay, kept_decay, surrogate):
    """Return the gradients of the current `[T, B, N]`, of the start, of the weights, and of the coefficients."""
    grad_current, grad_start = torch.empty_like(psp), start.new_empty(4, *above.shape[1:])
    grad_current[-1] = 0  # of the step behind the last
    sums = start.new_zeros(torch.get_num_threads(), 3, above.shape[2])
    _backward_with(surrogate.gradient)(
        above, grad_end, grad_start, sums, in_strips(weight), grad_current, coefficients, grad_spikes, psp, start,
        decay, kept_decay, *surrogate.constants,
    )  # fmt: skip
    grad_start[2] += grad_current[0] @ weight
    grad_current = grad_current[:-1]
    grad_weight = grad_current.flatten(0, 1).t() @ psp[:-1].flatten(0, 1)
    return grad_current, grad_start, grad_weight, sums.sum(0)


def _backward_step(arrays, numbers, state, back, here):
    above, _, _, _, _, grad_current, coefficients, grad_spikes, psp, start = arrays[:10]
    decay, kept_decay, c_1, c_2, c_3 = numbers[:5]
    a1, a2, b1 = coefficients_at(coefficients, here)
    to_v, to_r, to_this, to_before, sum_a1, sum_a2, sum_b1 = state
    t = here.first
    distance, grad = get(above, t, here), back + to_this
    sum_a1 += grad * get(psp, t, here)  # at its place t is psp[t-1]
    sum_a2 += grad * (get(psp, t - 1, here) if t > 0 else get(start, 3, here))
    sum_b1 += grad * step(distance)
    to_this, to_before = to_before + a1 * grad, a2 * grad
    grad = (get(grad_spikes, t, here) + to_r + b1 * grad) * _surrogate(distance, c_1, c_2, c_3) + to_v
    put(grad_current, t, here, grad)
    return leaked(grad, kept_decay, here), decay * to_r - grad, to_this, to_before, sum_a1, sum_a2, sum_b1


def in_strips(matrix):
    """Return `[M, N]` as `products` reads it, `[N / LANES, M, LANES]`: with columns of zeros, to whole vectors."""
    padded = pad(matrix, (0, -matrix.shape[1] % WIDEST))
    return padded.unflatten(1, (-1, LANES)).movedim(1, 0).contiguous()


@inner(error_model="numpy")
def products(vectors, first, apart, rows, matrix, size, width, results):
    """Write the products of up to four vectors of `size` values, `apart` values apart, with a matrix, `width` apart.

    What is loaded of the matrix serves all four: it is in a slower cache than they are. Results have room for four.
    """
    if rows > 1:
        second, third, fourth = first + apart, first + min(2, rows - 1) * apart, first + (rows - 1) * apart
        for j in range(0, width, LANES):
            a = b = c = d = zeros(LANES)
            for m in range(size):
                row = load(matrix, j * size + m * LANES, zeros(LANES))
                a += load(vectors, first + m, f32(0)) * row
                b += load(vectors, second + m, f32(0)) * row
                c += load(vectors, third + m, f32(0)) * row
                d += load(vectors, fourth + m, f32(0)) * row
            store(results, j, a, False)
            store(results, width + j, b, False)
            store(results, 2 * width + j, c, False)
            store(results, 3 * width + j, d, False)
    else:
        for j in range(0, width, WIDEST):  # two sums at a time: each waits for its last addition
            low = high = zeros(LANES)
            for m in range(size):
                value, place = load(vectors, first + m, f32(0)), j * size + m * LANES
                low += value * load(matrix, place, zeros(LANES))
                high += value * load(matrix, place + LANES * size, zeros(LANES))
            store(results, j, low, False)
            store(results, j + LANES, high, False)


def _through_time(task):
    """Call `body` for each step and vector of features, with their states and their share of signal[t] @ weight.

    It returns their states after the step. The signal is `[T + 1, B, N]`; if BACKWARDS, it is signal[t + 1] @ weight.
    """
    shape, arrays, numbers, seeds, _ = unpack(task)
    _, start, end, sums, weight, signal = arrays[:6]
    length, batch, features = shape
    width = -(-features // WIDEST) * WIDEST
    kept, back = np.zeros(AT_ONCE * ALL * width, f32), np.empty(AT_ONCE * width, f32)
    vectors_end = features - features % LANES
    first, last = part_of(batch)
    for b_0 in range(first, last, AT_ONCE):
        rows = min(AT_ONCE, last - b_0)
        for row in range(rows):
            for k in range(STATES):
                for j in range(features):
                    value = load(start.pointer, k * start.step + (b_0 + row) * start.row + j, f32(0))
                    kept[_place(row * width + j, ALL) + k * WIDEST] = value
        for done in range(length):
            t = length - 1 - done if BACKWARDS else done
            values = (t + 1 if BACKWARDS else t) * signal.step + b_0 * signal.row
            products(signal.pointer, values, signal.row, rows, weight.pointer, features, width, pointer_of(back))
            for row in range(rows):
                for j in range(0, vectors_end, LANES):
                    here, place = Here(b_0 + row, j, t, t, 0, False, seeds, zeros(LANES)), row * width + j
                    state = load_all(pointer_of(kept), _place(place, ALL), WIDEST, ALL, here.like)
                    state = body(arrays, numbers, state, load(pointer_of(back), place, here.like), here)
                    store_all(pointer_of(kept), _place(place, ALL), WIDEST, state)
                for j in range(vectors_end, features):
                    here, place = Here(b_0 + row, j, t, t, 0, False, seeds, f32(0)), row * width + j
                    state = load_all(pointer_of(kept), _place(place, ALL), WIDEST, ALL, here.like)
                    state = body(arrays, numbers, state, load(pointer_of(back), place, here.like), here)
                    store_all(pointer_of(kept), _place(place, ALL), WIDEST, state)
        for row in range(rows):
            for k in range(STATES):
                for j in range(features):
                    value = kept[_place(row * width + j, ALL) + k * WIDEST]
                    store(end.pointer, k * end.step + (b_0 + row) * end.row + j, value, False)
    for k in range(STATES, ALL):
        for j in range(features):
            total = f32(0)
            for row in range(AT_ONCE):
                total += kept[_place(row * width + j, ALL) + k * WIDEST]
            store(sums.pointer, thread_number() * sums.step + (k - STATES) * sums.row + j, total, False)


@inner
def _place(j, states):
    """Return where the first state of a feature is kept; the others are WIDEST places apart."""
    return j // WIDEST * (states * WIDEST) + j % WIDEST


def _loop(function, sums=0, backwards=False, **formulas):
    copy = FunctionType(function.__code__, globals() | formulas, function.__name__)
    names = {"ALL": STATES + sums, "BACKWARDS": backwards, "body": inlined(copy)}
    return Loop(_through_time, **names, **formulas)


_forward = _loop(_forward_step)


@cache
def _backward_with(gradient):
    return _loop(_backward_step, sums=3, backwards=True, _surrogate=cpu.compiled_formula(gradient))
