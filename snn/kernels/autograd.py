"""Autograd around the compiled loops: CompiledKernels(cpu) and (cuda) compute what `reference` does, faster.

The autograd Functions here convert tensors to the layout of the loops, and save as little as possible for the backward:
what the neuron's backward needs of its potential, and a synapse filter's output, which the next layer saves anyway.

A module of loops has a forward and a backward for each kernel, on contiguous tensors:

- sequences `[T, B, N]`, or `[1, B, N]` if all steps are equal, N being all features in memory order (channels last, if
  the input is), in float32 and bfloat16, in any mixture;
- states and their gradients `[2, B, N]`, float32, or what the module's `zero_states` returns where they are zero;
- coefficients and their gradients `[3, N]`: a1, a2, b1, float32. (The first-order filter: states `[1, B, N]`, one
  coefficient `[N]`.)
- where neurons add a bias and there is one: that, and its gradient, which is written, `[N]`, float32, as last argument.

A forward writes its output into a given sequence and returns the final states; a backward writes the input's gradient
into a given sequence and returns those of the initial states, and of coefficients. Every sum is in float32.

The neuron's threshold and the constants of its surrogate are arguments of each call; they are not compiled in.

Under autocast to bfloat16, sequences are handed over in bfloat16, as the products before and behind take them.
"""

import torch
from torch.autograd import Function

from snn.kernels.layout import Layout, where_needed
from snn.kernels.once import once_differentiable

SMALLEST_B1 = 1e-20  # replaces a b1 of 0: the gradient of b1 is computed by dividing by it


class CompiledKernels:
    """The kernels around a module of compiled loops; the same functions as in `reference`.

    Args:
        recurrent_neuron: None, or a function like that in `recurrent`.
        adds_bias: whether the neurons' loops take a bias.
    """

    takes_bf16 = fuses = True

    def __init__(self, loops, recurrent_neuron=None, adds_bias=False):
        self.loops, self.recurrent_neuron, self.adds_bias = loops, recurrent_neuron, adds_bias

    def dual_exp_iir(self, x, psp_1, psp_2, a1, a2, b1):
        return _DualExpIIR.apply(self.loops, x, psp_1, psp_2, a1, a2, b1)

    def first_order_low_pass(self, x, psp_1, a1):
        return _FirstOrderLowPass.apply(self.loops, x, psp_1, a1)

    def spiking_neuron(self, current, v, r, decay, membrane_filter, threshold, surrogate, bias=None):
        """Run the neuron on current + bias, `[*features]`; with a bias only if it `adds_bias`."""
        constants = of_loops(decay, membrane_filter, threshold, surrogate)
        return _SpikingNeuron.apply(self.loops, current, v, r, bias, constants, _keeps(current, v, r, bias))

    def neuron_and_iir(self, current, neuron_states, constants, p, synapse_states, coefficients, bias=None):
        """Run `spiking_neuron`, `dropout` of its spikes if p > 0, and `dual_exp_iir` in one loop.

        Return psp, v[T], r[T], psp[T], psp[T-1]. The spikes are never written. Only if `fuses`.
        """
        keep = _keeps(current, bias, *neuron_states, *synapse_states, *coefficients)
        dropout = _random_mask(self.loops, p, current.device)
        of_neuron = of_loops(*constants), keep, dropout, *neuron_states
        return _NeuronAndIIR.apply(self.loops, current, *of_neuron, *synapse_states, *coefficients, bias)

    def dual_exp_filter(self, x, m, s, decay_m, decay_s, gain):
        return _DualExpFilter.apply(self.loops, x, m, s, decay_m, decay_s, gain)

    def dropout(self, x, p):
        return _Dropout.apply(self.loops, x, p)


def of_loops(decay, membrane_filter, threshold, surrogate):
    """Return a neuron's constants as loops take them: the decays of its reset and its potential, threshold, surrogate.

    Without a membrane filter a potential keeps nothing: its decay is 0.
    """
    return decay, decay if membrane_filter else 0.0, threshold, surrogate


def _keeps(*tensors):
    """Whether a backward may follow."""
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def _random_mask(loops, p, device):
    """Return a new dropout's scale and seeds; the scale is 0 where p is.

    The mask is a function of the seeds and the position; a backward computes it again, so that none is saved.
    """
    if p == 0:
        return 0, loops.NO_SEEDS
    return 1 / (1 - p), loops.new_seeds(min(round(p * 2**32), 2**32 - 1), device)


class _B1FromOutput:
    """The gradient of b1 is the sum of grad x[t], grad being that of psp[t] along all paths.

    Where the filter starts from zero, psp is linear in b1, so that sum equals the sum of grad_psp[t] psp[t] / b1, and x
    need not be saved.
    """

    @staticmethod
    def prepare(coefficients):
        """Keep b1 away from 0, in place."""
        coefficients[2].masked_fill_(coefficients[2].abs() < SMALLEST_B1, SMALLEST_B1)

    @staticmethod
    def finish(sums, coefficients, psp, grad_end, arrived):
        """Turn the sum of grad_psp[t] psp[t], in `sums[2]`, into the gradient of b1.

        Args:
            grad_end: gradients of final states, the last two those of psp[T] and psp[T-1], `[*, B, N]`.
            arrived: these two as they arrived, None for one that did not.
        """
        for back, gradient in enumerate(arrived):  # they add to grad_psp at the last two steps
            if gradient is not None and back < len(psp):
                sums[2] += (grad_end[back - 2] * psp[-1 - back]).sum(0)
        sums[2] /= coefficients[2]


class _DualExpIIR(Function):
    """psp[t] = a1 psp[t-1] + a2 psp[t-2] + b1 x[t]"""

    @staticmethod
    def forward(ctx, loops, x, psp_1, psp_2, a1, a2, b1):
        layout, ctx.x_dtype = Layout(loops, x), x.dtype
        from_zero = psp_1 is None and psp_2 is None
        x, start = layout.flatten(x), layout.flatten_states(psp_1, psp_2)
        coefficients = layout.flatten_coefficients(a1, a2, b1)
        if from_zero:
            _B1FromOutput.prepare(coefficients)
        y, psp = layout.new_sequence()
        end = loops.dual_exp_iir_forward(x, start, coefficients, psp)
        ctx.save_for_backward(None if from_zero else x, psp, start, coefficients)
        ctx.loops, ctx.layout = loops, layout
        ctx.set_materialize_grads(False)
        return y, *layout.states(end)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_psp, grad_last, grad_before):
        x, psp, start, coefficients = ctx.saved_tensors
        layout, needed = ctx.layout, ctx.needs_input_grad
        grad_x = layout.new_gradient(ctx.x_dtype) if needed[1] else None
        grad_end = layout.flatten_states(grad_last, grad_before)
        grad_start, sums = ctx.loops.dual_exp_iir_backward(
            layout.flatten(grad_psp), grad_end, x, psp, start, coefficients, grad_x
        )
        if x is None:
            _B1FromOutput.finish(sums, coefficients, psp, grad_end, (grad_last, grad_before))
        grad_x = None if grad_x is None else layout.unflatten(grad_x)
        return None, grad_x, *where_needed(needed[2:4], grad_start, layout), *layout.unflatten(sums)


class _FirstOrderLowPass(Function):
    """psp[t] = a1 psp[t-1] + x[t]"""

    @staticmethod
    def forward(ctx, loops, x, psp_1, a1):
        layout, ctx.x_dtype = Layout(loops, x), x.dtype
        start, coefficient = layout.flatten_states(psp_1), layout.flatten_coefficients(a1)[0]
        y, psp = layout.new_sequence()
        end = loops.first_order_forward(layout.flatten(x), start, coefficient, psp)
        ctx.save_for_backward(psp, start, coefficient)
        ctx.loops, ctx.layout = loops, layout
        ctx.set_materialize_grads(False)
        return y, *layout.states(end)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_psp, grad_last):
        psp, start, coefficient = ctx.saved_tensors
        layout, needed = ctx.layout, ctx.needs_input_grad
        grad_x = layout.new_gradient(ctx.x_dtype) if needed[1] else None
        grad_end = layout.flatten_states(grad_last)
        grad_start, grad_a1 = ctx.loops.first_order_backward(
            layout.flatten(grad_psp), grad_end, psp, start, coefficient, grad_x
        )
        grad_x = None if grad_x is None else layout.unflatten(grad_x)
        return None, grad_x, *where_needed(needed[2:3], grad_start, layout), layout.unflatten(grad_a1)


class _SpikingNeuron(Function):
    """v[t] = I[t] - r[t-1] (+ d v[t-1] with the membrane filter); s[t] = v[t] > threshold; r[t] = d r[t-1] + s[t]"""

    @staticmethod
    def forward(ctx, loops, current, v, r, bias, constants, keep):
        layout, ctx.current_dtype = Layout(loops, current), current.dtype
        spikes, flat_spikes = layout.new_sequence()
        kept, end = loops.neuron_forward(
            layout.flatten(current), layout.flatten_states(v, r), *constants[:3], keep, flat_spikes, *layout.bias(bias)
        )
        ctx.save_for_backward(kept)
        ctx.loops, ctx.layout, ctx.constants = loops, layout, constants
        ctx.set_materialize_grads(False)
        return spikes, *layout.states(end)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_spikes, grad_v, grad_r):
        (kept,) = ctx.saved_tensors
        layout, (decay, kept_decay, _, surrogate) = ctx.layout, ctx.constants
        grad_current = layout.new_gradient(ctx.current_dtype)
        grad_bias = layout.new_bias_gradient(ctx.needs_input_grad[4])
        grad_start = ctx.loops.neuron_backward(
            layout.flatten(grad_spikes), layout.flatten_states(grad_v, grad_r), kept, decay, kept_decay, surrogate,
            grad_current, *grad_bias,
        )  # fmt: skip
        grad_states = where_needed(ctx.needs_input_grad[2:4], grad_start, layout)
        grad_bias = next(map(layout.unflatten, grad_bias), None)
        return None, layout.unflatten(grad_current), *grad_states, grad_bias, None, None


class _NeuronAndIIR(Function):
    """A neuron, dropout of its spikes, and the synapse filter of what is left."""

    @staticmethod
    def forward(ctx, loops, current, constants, keep, dropout, v, r, psp_1, psp_2, a1, a2, b1, bias):
        layout, ctx.current_dtype = Layout(loops, current), current.dtype
        ctx.from_zero = psp_1 is None and psp_2 is None
        start = layout.flatten_states(v, r, psp_1, psp_2)
        coefficients = layout.flatten_coefficients(a1, a2, b1)
        if ctx.from_zero:
            _B1FromOutput.prepare(coefficients)
        y, psp = layout.new_sequence()
        kept, end = loops.neuron_iir_forward(
            layout.flatten(current), start, *constants[:3], keep, coefficients, dropout, psp, *layout.bias(bias)
        )
        ctx.save_for_backward(kept, psp, start, coefficients)
        ctx.loops, ctx.layout, ctx.constants, ctx.dropout = loops, layout, constants, dropout
        ctx.set_materialize_grads(False)
        return y, *layout.states(end)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_psp, *grads):
        kept, psp, start, coefficients = ctx.saved_tensors
        layout, (decay, kept_decay, _, surrogate) = ctx.layout, ctx.constants
        grad_current = layout.new_gradient(ctx.current_dtype)
        grad_bias = layout.new_bias_gradient(ctx.needs_input_grad[12])
        grad_end = layout.flatten_states(*grads)
        grad_start, sums = ctx.loops.neuron_iir_backward(
            layout.flatten(grad_psp), grad_end, kept, psp, start, coefficients, decay, kept_decay, surrogate,
            ctx.from_zero, ctx.dropout, grad_current, *grad_bias,
        )  # fmt: skip
        if ctx.from_zero:
            _B1FromOutput.finish(sums, coefficients, psp, grad_end, grads[2:])
        grad_states = where_needed(ctx.needs_input_grad[5:9], grad_start, layout)
        grad_bias = next(map(layout.unflatten, grad_bias), None)
        return None, layout.unflatten(grad_current), None, None, None, *grad_states, *layout.unflatten(sums), grad_bias


class _DualExpFilter(Function):
    """m[t] = dm m[t-1] + x[t]; s[t] = ds s[t-1] + x[t]; y[t] = gain (m[t] - s[t])"""

    @staticmethod
    def forward(ctx, loops, x, m, s, *constants):
        layout = Layout(loops, x, bf16=False)  # what the loss sees
        start = layout.flatten_states(m, s)
        y, flat_y = layout.new_sequence()
        end = loops.dual_exp_filter_forward(layout.flatten(x), start, *constants, flat_y)
        ctx.loops, ctx.layout, ctx.constants = loops, layout, constants
        ctx.set_materialize_grads(False)
        return y, *layout.states(end)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_y, grad_m, grad_s):
        layout = ctx.layout
        grad_end = layout.flatten_states(grad_m, grad_s)
        grad_x = layout.new_gradient(torch.float32)
        grad_start = ctx.loops.dual_exp_filter_backward(layout.flatten(grad_y), grad_end, *ctx.constants, grad_x)
        grad_states = where_needed(ctx.needs_input_grad[2:4], grad_start, layout)
        return None, layout.unflatten(grad_x), *grad_states, None, None, None


class _Dropout(Function):
    """y = x / (1 - p) where a random number of 32 bits is large enough, else 0"""

    @staticmethod
    def forward(ctx, loops, x, p):
        scale, seeds = _random_mask(loops, p, x.device)
        ctx.mask = lambda x: loops.dropout(x.contiguous(), scale, seeds)
        return ctx.mask(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return None, ctx.mask(grad), None
