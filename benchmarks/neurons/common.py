"""What the neurons in this folder share: their step, their recurrence in a compiled loop over time, and a readout.

A neuron's own file has its formulas and, by hand, their gradients. Both use + - * / alone, so that they run on tensors,
in the step that defines the neuron, and on vectors of numbers, in the loop. tests/test_neurons.py compares the two.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch.autograd import Function

import snn
from snn.kernels import kernels_for, surrogates
from snn.kernels.compiled import LANES, WIDEST, Loop, f32, part_of, thread_number, unpack
from snn.kernels.cpu import compiled_formula
from snn.kernels.once import once_differentiable
from snn.kernels.recurrent import AT_ONCE, in_strips, products
from snn.kernels.vectors import inlined, inner, load, load_all, pointer_of, step, store, store_all, zeros
from snn.layers.synapses import FirstOrderLowPass, Unfiltered

STATES = COEFFICIENTS = update = gradient = _surrogate = None  # each copy of a loop gets its neuron's


class Neuron(snn.Layer):
    """Base of neurons that each have coefficients of their own. A subclass names its `states`, first "spike", and has

        coefficients()                                    -> a list of tensors `[size]` and numbers
        update(current, spike, state, coefficients)       -> how far the potential is above the threshold, the new state
        gradient(grad_above, grad_state, current, spike, state, coefficients)
                                                          -> gradients of the current, the spike, the state, and of the
                                                             first coefficients: those that are trained

    `spike` is of the step before; `state` is a tuple, and at first zeros.

    Args:
        size: N, the number of neurons.
        surrogate: one of `snn.surrogates`.

    Shape: current `[T, B, N]` -> spikes `[T, B, N]`; state (spikes, *state), each `[B, N]`.
    """

    output = "spikes"

    def __init__(self, size, surrogate):
        super().__init__()
        self.size, self.surrogate = size, surrogates.checked(surrogate)

    @classmethod
    def from_config(cls, hyperparameters):
        sizes = set(hyperparameters.get("hidden", []))
        if len(sizes) != 1:
            raise snn.UserError(
                f"hyperparameters.neuron: {cls.__name__} needs one size of all layers in hyperparameters.hidden"
            )
        return cls(*sizes, surrogate_of(hyperparameters))

    def step(self, x, state=None):
        spikes, *before = self.from_zero(x) if state is None else state
        above, after = self.update(x, spikes, before, self.coefficients())
        slope = self.surrogate.gradient(above, *self.surrogate.constants).detach()
        spikes = (above > 0).to(x.dtype) + slope * (above - above.detach())
        return spikes, (spikes, *after)

    def from_zero(self, x):
        """Return the state before the first step, for x `[B, N]`."""
        return [torch.zeros_like(x) for _ in self.states]


def surrogate_of(hyperparameters):
    return surrogates.make(hyperparameters["surrogate"], hyperparameters["surrogate_arguments"])


class Recurrent(snn.Recurrent):
    """Neurons of this folder whose spikes come back a step later through weights, without filters: in one loop.

    Shape: as `snn.Recurrent`.
    """

    def __init__(self, neuron):
        super().__init__(neuron, Unfiltered(neuron.size))

    def forward(self, x, state=None):
        x = self.checked(x)
        if not kernels_for(x).recurrent_neuron:  # of this project's own neuron: there are compiled loops
            return super().forward(x, state)
        neuron = self.neuron
        before = neuron.from_zero(x[0]) if state is None else state[1]
        coefficients = torch.stack([torch.as_tensor(c).expand(neuron.size) for c in neuron.coefficients()])
        spikes, *states = _Sequence.apply(type(neuron), neuron.surrogate, x, self.back.weight, coefficients, *before)
        last = spikes[-1]
        return spikes, (last, (last, *states), last)


class LeakyIntegrator(FirstOrderLowPass):
    """The usual readout of these networks: y[t] = a y[t-1] + (1 - a) x[t], with a trained a for each class.

    Shape: x `[T, B, classes]` -> potentials `[T, B, classes]`; state y[t-1], `[B, classes]`.
    """

    def forward(self, x, state=None):
        return super().forward((1 - self.a1) * x, state)


class _Sequence(Function):
    """The steps of `Recurrent`: spikes `[T, B, N]`, and the states at the end."""

    @staticmethod
    def forward(ctx, kind, surrogate, current, weight, coefficients, spikes, *states):
        (length, _, size), count = current.shape, len(coefficients)
        current, coefficients = _padded(current), _in_blocks(coefficients)
        weight = _padded(_padded(weight).t()).t().contiguous()
        all_spikes = current.new_empty(length + 1, *current.shape[1:])  # from that before the first step on
        all_states = current.new_empty(length + 1, current.shape[1], len(states) * current.shape[2])
        all_spikes[0], all_states[0] = _padded(spikes), _in_blocks(torch.stack(states))
        ctx.loops = _loops(kind, count, surrogate.gradient)
        ctx.loops.forward(current, all_spikes, all_states, weight.t().contiguous(), coefficients)
        ctx.save_for_backward(current, all_spikes, all_states, weight, coefficients)
        ctx.surrogate, ctx.count, ctx.size = surrogate, count, size
        return all_spikes[1:, :, :size], *_out_of_blocks(all_states[-1], len(states), size)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_spikes, *grad_states):
        current, all_spikes, all_states, weight, coefficients = ctx.saved_tensors
        grad_current, grad_start = torch.empty_like(current), torch.zeros_like(current[0])
        states, grad_states = len(grad_states), _in_blocks(torch.stack(grad_states))
        sums = current.new_zeros(torch.get_num_threads(), coefficients.numel())
        ctx.loops.backward(
            grad_current, _padded(grad_spikes), current, all_spikes, all_states, in_strips(weight), coefficients,
            grad_start, grad_states, sums, *ctx.surrogate.constants,
        )  # fmt: skip
        grad_weight = grad_current.flatten(0, 1).t() @ all_spikes[:-1].flatten(0, 1)
        size, grad_coefficients = ctx.size, _out_of_blocks(sums.sum(0), ctx.count, ctx.size)
        return (
            None, None, grad_current[..., :size], grad_weight[:size, :size], torch.stack(grad_coefficients),
            grad_start[:, :size], *_out_of_blocks(grad_states, states, size),
        )  # fmt: skip


def _padded(x):
    """Return a copy of `[*, N]` with zeros behind it, to a whole number of vectors."""
    size = x.shape[-1]
    padded = x.new_zeros(*x.shape[:-1], size + -size % LANES)
    padded[..., :size] = x
    return padded


def _in_blocks(x):
    """Return `[K, *, N]` as `[*, K * N]`, padded: for each vector of neurons the first values, then the second..."""
    return _padded(x).unflatten(-1, (-1, LANES)).movedim(0, -2).flatten(-3).contiguous()


def _out_of_blocks(x, count, size):
    """Return the parts of what `_in_blocks` returns, each `[*, N]`."""
    return [part.flatten(-2)[..., :size] for part in x.unflatten(-1, (-1, count, LANES)).unbind(-2)]


class _Loops(NamedTuple):
    forward: Loop
    backward: Loop


@cache
def _loops(kind, coefficients, surrogate_gradient):
    """Return the loops over time of a kind of neurons."""
    names = {"STATES": len(kind.states) - 1, "COEFFICIENTS": coefficients, "_add_product": _add_product}
    names |= {name: inlined(getattr(kind, name)) for name in ("update", "gradient")}
    return _Loops(Loop(_forward, **names), Loop(_backward, **names, _surrogate=compiled_formula(surrogate_gradient)))


def _forward(task):
    """Add to the current what comes back; write the spikes and states after each step, at the next step's place."""
    (length, batch, features), arrays, _, _, _ = unpack(task)
    current, spikes, states, weight, coefficients = arrays[:5]
    for b in range(*part_of(batch)):
        for t in range(length):
            now, before = t * current.step + b * current.row, t * spikes.step + b * spikes.row
            of_states = t * states.step + b * states.row
            _add_product(spikes.pointer, before, weight.pointer, current.pointer, now, features)
            for j in range(0, features, LANES):
                above, state = update(
                    load(current.pointer, now + j, zeros(LANES)), load(spikes.pointer, before + j, zeros(LANES)),
                    load_all(states.pointer, of_states + j * STATES, LANES, STATES, zeros(LANES)),
                    load_all(coefficients.pointer, j * COEFFICIENTS, LANES, COEFFICIENTS, zeros(LANES)),
                )  # fmt: skip
                store(spikes.pointer, before + spikes.step + j, step(above), False)
                store_all(states.pointer, of_states + states.step + j * STATES, LANES, state)


def _backward(task):
    """Write the current's gradient; make the start's of those of the end; add up those of coefficients."""
    (length, batch, features), arrays, numbers, _, _ = unpack(task)
    grad_current, arriving, current, spikes, states, weight, coefficients, grad_spikes, grad_states, sums = arrays[:10]
    c_1, c_2, c_3 = numbers[:3]
    of_sums, width = thread_number() * sums.row, -(-features // WIDEST) * WIDEST
    back = np.empty(AT_ONCE * width, f32)
    first, last = part_of(batch)
    for b_0 in range(first, last, AT_ONCE):
        rows = min(AT_ONCE, last - b_0)
        back[:] = 0
        for t in range(length - 1, -1, -1):
            for b in range(b_0, b_0 + rows):
                now, before = t * current.step + b * current.row, t * spikes.step + b * spikes.row
                of_states, later, of_back = t * states.step + b * states.row, b * grad_spikes.row, (b - b_0) * width
                for j in range(0, features, LANES):
                    inputs = (
                        load(current.pointer, now + j, zeros(LANES)), load(spikes.pointer, before + j, zeros(LANES)),
                        load_all(states.pointer, of_states + j * STATES, LANES, STATES, zeros(LANES)),
                        load_all(coefficients.pointer, j * COEFFICIENTS, LANES, COEFFICIENTS, zeros(LANES)),
                    )  # fmt: skip
                    above, _ = update(*inputs)
                    grad = load(arriving.pointer, now + j, zeros(LANES))
                    grad += load(grad_spikes.pointer, later + j, zeros(LANES))
                    grad += load(pointer_of(back), of_back + j, zeros(LANES))
                    of_state = load_all(grad_states.pointer, (later + j) * STATES, LANES, STATES, zeros(LANES))
                    of_current, of_spike, of_state, of_coefficients = gradient(
                        grad * _surrogate(above, c_1, c_2, c_3), of_state, *inputs
                    )
                    store(grad_current.pointer, now + j, of_current, False)
                    store(grad_spikes.pointer, later + j, of_spike, False)
                    store_all(grad_states.pointer, (later + j) * STATES, LANES, of_state)
                    for k in range(len(of_coefficients)):
                        place = of_sums + j * COEFFICIENTS + k * LANES
                        store(sums.pointer, place, load(sums.pointer, place, zeros(LANES)) + of_coefficients[k], False)
            now = t * grad_current.step + b_0 * grad_current.row
            products(
                grad_current.pointer, now, grad_current.row, rows, weight.pointer, features, width, pointer_of(back)
            )
        for b in range(b_0, b_0 + rows):
            for j in range(0, features, LANES):
                place = b * grad_spikes.row + j
                value = load(grad_spikes.pointer, place, zeros(LANES))
                value += load(pointer_of(back), (b - b_0) * width + j, zeros(LANES))
                store(grad_spikes.pointer, place, value, False)


@inner(error_model="numpy")
def _add_product(vector, place, matrix, result, to, size):
    """Add a vector's product with a matrix; most spikes are 0, and padding is."""
    for m in range(size):
        value = load(vector, place + m, f32(0))
        if value != 0:
            for j in range(0, size, LANES):
                row = load(matrix, m * size + j, zeros(LANES))
                store(result, to + j, load(result, to + j, zeros(LANES)) + value * row, False)
