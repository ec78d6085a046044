"""Autograd around the compiled loops: FastKernels(cpu) and FastKernels(cuda) compute what `reference` does, faster.

The autograd Functions here convert tensors to the layout of the loops, and save as little as possible for the backward:
the neuron's potential, and a synapse filter's output, which the next layer saves anyway.

A module of loops has a forward and a backward for each kernel, on contiguous float32 tensors:

- sequences `[T, B, N]`, or `[1, B, N]` if all steps are equal, N being all features in memory order (channels last, if
  the input is);
- states and their gradients `[2, B, N]`, or `[2, 1, N]` where they are zero;
- coefficients and their gradients `[3, N]`: a1, a2, b1. (The first-order filter: one state, one coefficient.)

The neuron's threshold and the constants of its surrogate are arguments of each call; they are not compiled in.
"""

import math

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

SMALLEST_B1 = 1e-20  # replaces a b1 of 0: the gradient of b1 is computed by dividing by it


class FastKernels:
    """The kernels around a module of compiled loops; the same functions as in `reference`."""

    def __init__(self, loops):
        self.loops = loops

    def dual_exp_iir(self, x, psp_1, psp_2, a1, a2, b1):
        return _DualExpIIR.apply(self.loops, x, psp_1, psp_2, a1, a2, b1)

    def first_order_low_pass(self, x, psp_1, a1):
        return _FirstOrderLowPass.apply(self.loops, x, psp_1, a1)

    def spiking_neuron(self, current, v, r, decay, membrane_filter, threshold, surrogate):
        needs_grad = any(tensor is not None and tensor.requires_grad for tensor in (current, v, r))
        keep = needs_grad and torch.is_grad_enabled()
        constants = decay, membrane_filter, threshold, surrogate
        return _SpikingNeuron.apply(self.loops, current, v, r, constants, keep)

    def dual_exp_filter(self, x, m, s, decay_m, decay_s, gain):
        return _DualExpFilter.apply(self.loops, x, m, s, decay_m, decay_s, gain)

    def dropout(self, x, p):
        return _Dropout.apply(self.loops, x, p)


class _Layout:
    """The memory layout of a sequence `[T, B, *features]`, with conversions to `[T, B, N]` and back."""

    def __init__(self, x):
        self.shape, self.device = x.shape, x.device
        self.order = sorted(range(2, x.dim()), key=lambda dim: -x.stride(dim))
        self.in_order = self.order == list(range(2, x.dim()))
        self.flat_shape = (*x.shape[:2], math.prod(x.shape[2:]))

    def new_sequence(self):
        """Return an empty sequence in this layout, and the same memory as `[T, B, N]`."""
        if self.in_order:
            sequence = torch.empty(self.shape, device=self.device)
            return sequence, sequence.view(self.flat_shape)
        strides = self.unflatten(torch.empty(self.flat_shape, device="meta")).stride()
        sequence = torch.empty_strided(self.shape, strides, device=self.device)  # not a view: may be changed in place
        return sequence, self._flat(sequence)

    def flatten(self, sequence):
        """Return a sequence as `[T, B, N]`, or as `[1, B, N]` if it repeats one step; None means zeros."""
        if sequence is None:
            sequence = torch.zeros((), device=self.device).expand(self.shape)
        if sequence.stride(0) == 0:
            sequence = sequence[:1]
        return self._flat(sequence)

    def flatten_states(self, *states):
        """Return states `[B, *features]` as `[len(states), B, N]`; if all are None, zeros `[len(states), 1, N]`."""
        if all(state is None for state in states):
            return torch.zeros(len(states), 1, self.flat_shape[2], device=self.device)
        zeros = torch.zeros((), device=self.device)
        return self._flat(torch.stack([(zeros if s is None else s.float()).expand(self.shape[1:]) for s in states]))

    def flatten_coefficients(self, *coefficients):
        """Return coefficients `[*features]` as `[len(coefficients), N]`."""
        return self._flat(torch.stack([c.float() for c in coefficients])[None])[0]

    def _flat(self, tensor):
        if not self.in_order:
            tensor = tensor.permute(0, 1, *self.order)
        return tensor.reshape(*tensor.shape[:2], self.flat_shape[2]).contiguous()

    def unflatten(self, flat):
        """Return a tensor `[*leading dimensions, N]` as `[*leading dimensions, *features]`, a view."""
        leading = flat.shape[:-1]
        if self.in_order:
            return flat.view(*leading, *self.shape[2:])
        places = [len(leading) + self.order.index(dim) for dim in range(2, len(self.shape))]
        return flat.view(*leading, *(self.shape[dim] for dim in self.order)).permute(*range(len(leading)), *places)


class _DualExpIIR(Function):
    """psp[t] = a1 psp[t-1] + a2 psp[t-2] + b1 x[t]

    The gradient of b1 is the sum of grad x[t], grad being that of psp[t] along all paths. Where the filter starts from
    zero, psp is linear in b1, so that sum equals the sum of grad_psp[t] psp[t] / b1, and x need not be saved.
    """

    @staticmethod
    def forward(ctx, loops, x, psp_1, psp_2, a1, a2, b1):
        layout = _Layout(x)
        from_zero = psp_1 is None and psp_2 is None
        x, start = layout.flatten(x), layout.flatten_states(psp_1, psp_2)
        coefficients = layout.flatten_coefficients(a1, a2, b1)
        if from_zero:
            coefficients[2].masked_fill_(coefficients[2].abs() < SMALLEST_B1, SMALLEST_B1)
        y, psp = layout.new_sequence()
        loops.dual_exp_iir_forward(x, start, coefficients, psp)
        before = psp[-2] if len(psp) > 1 else start[0].expand_as(psp[0])
        ctx.save_for_backward(None if from_zero else x, psp, start, coefficients)
        ctx.loops, ctx.layout = loops, layout
        ctx.set_materialize_grads(False)
        return y, layout.unflatten(psp[-1].clone()), layout.unflatten(before.clone())

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_psp, grad_last, grad_before):
        x, psp, start, coefficients = ctx.saved_tensors
        layout, (need_x, need_1, need_2, *_) = ctx.layout, ctx.needs_input_grad[1:]
        grad_end = layout.flatten_states(grad_last, grad_before)
        grad_x, grad_start, sums = ctx.loops.dual_exp_iir_backward(
            layout.flatten(grad_psp), grad_end, x, psp, start, coefficients, need_x
        )
        if x is None:
            for grad, step in ((grad_last, -1), (grad_before, -2)):  # add to grad_psp at the last two steps
                if grad is not None and len(psp) >= -step:
                    sums[2] += (grad_end[-1 - step] * psp[step]).sum(0)
            sums[2] /= coefficients[2]
        grad_x = layout.unflatten(grad_x) if need_x else None
        grad_1, grad_2 = (layout.unflatten(g) if need else None for g, need in zip(grad_start, (need_1, need_2)))
        return None, grad_x, grad_1, grad_2, *layout.unflatten(sums)


class _FirstOrderLowPass(Function):
    """psp[t] = a1 psp[t-1] + x[t]"""

    @staticmethod
    def forward(ctx, loops, x, psp_1, a1):
        layout = _Layout(x)
        start, coefficient = layout.flatten_states(psp_1)[0], layout.flatten_coefficients(a1)[0]
        y, psp = layout.new_sequence()
        loops.first_order_forward(layout.flatten(x), start, coefficient, psp)
        ctx.save_for_backward(psp, start, coefficient)
        ctx.loops, ctx.layout = loops, layout
        ctx.set_materialize_grads(False)
        return y, layout.unflatten(psp[-1].clone())

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_psp, grad_last):
        psp, start, coefficient = ctx.saved_tensors
        layout, (need_x, need_1, _) = ctx.layout, ctx.needs_input_grad[1:]
        grad_end = layout.flatten_states(grad_last)[0]
        grad_x, grad_start, grad_a1 = ctx.loops.first_order_backward(
            layout.flatten(grad_psp), grad_end, psp, start, coefficient, need_x
        )
        grad_x = layout.unflatten(grad_x) if need_x else None
        return None, grad_x, layout.unflatten(grad_start) if need_1 else None, layout.unflatten(grad_a1)


class _SpikingNeuron(Function):
    """v[t] = I[t] - r[t-1] (+ d v[t-1] with the membrane filter); s[t] = v[t] > threshold; r[t] = d r[t-1] + s[t]"""

    @staticmethod
    def forward(ctx, loops, current, v, r, constants, keep):
        layout = _Layout(current)
        spikes, flat_spikes = layout.new_sequence()
        potential, end = loops.neuron_forward(
            layout.flatten(current), layout.flatten_states(v, r), *constants[:3], keep, flat_spikes
        )
        ctx.save_for_backward(potential)
        ctx.loops, ctx.layout, ctx.constants = loops, layout, constants
        ctx.set_materialize_grads(False)
        return spikes, *layout.unflatten(end)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_spikes, grad_v, grad_r):
        (potential,) = ctx.saved_tensors
        layout, (need_v, need_r) = ctx.layout, ctx.needs_input_grad[2:4]
        grad_end = layout.flatten_states(grad_v, grad_r)
        grad_current, grad_start = ctx.loops.neuron_backward(
            layout.flatten(grad_spikes), grad_end, potential, *ctx.constants
        )
        grad_v, grad_r = (layout.unflatten(g) if need else None for g, need in zip(grad_start, (need_v, need_r)))
        return None, layout.unflatten(grad_current), grad_v, grad_r, None, None


class _DualExpFilter(Function):
    """m[t] = dm m[t-1] + x[t]; s[t] = ds s[t-1] + x[t]; y[t] = gain (m[t] - s[t])"""

    @staticmethod
    def forward(ctx, loops, x, m, s, *constants):
        layout = _Layout(x)
        start = layout.flatten_states(m, s)
        y, flat_y = layout.new_sequence()
        end = loops.dual_exp_filter_forward(layout.flatten(x), start, *constants, flat_y)
        ctx.loops, ctx.layout, ctx.constants = loops, layout, constants
        ctx.set_materialize_grads(False)
        return y, *layout.unflatten(end)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_y, grad_m, grad_s):
        layout, (need_m, need_s) = ctx.layout, ctx.needs_input_grad[2:4]
        grad_end = layout.flatten_states(grad_m, grad_s)
        grad_x, grad_start = ctx.loops.dual_exp_filter_backward(
            layout.flatten(grad_y), grad_end, *ctx.constants, layout.flat_shape
        )
        grad_m, grad_s = (layout.unflatten(g) if need else None for g, need in zip(grad_start, (need_m, need_s)))
        return None, layout.unflatten(grad_x), grad_m, grad_s, None, None, None


class _Dropout(Function):
    """y = x / (1 - p) where a random number of 32 bits is large enough, else 0

    The numbers are a function of two seeds and the position; the backward computes them again, so no mask is saved.
    """

    @staticmethod
    def forward(ctx, loops, x, p):
        seeds = torch.randint(2**32, (2,)).tolist()
        smallest = min(round(p * 2**32), 2**32 - 1)
        ctx.mask = lambda x: loops.dropout(x.contiguous(), seeds, smallest, 1 / (1 - p))
        return ctx.mask(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return None, ctx.mask(grad), None
