"""The time loops in plain torch, for any device and dtype: the definition that faster kernels must match.

Every loop is one autograd Function over a whole sequence `[T, B, *features]`, with its backward written by hand, so
that autograd never sees a single step. In the backward, `grad[t]` first holds the gradient that arrives at step t;
after the loop it holds the gradient along all paths, including those through later steps.
"""

import torch
from torch.autograd import Function

from snn.kernels.once import once_differentiable

takes_bf16 = fuses = adds_bias = False
recurrent_neuron = None


def _initial(x, *states):
    """Return the initial states of a layer with input `x` `[T, B, *features]`, each `[B, *features]`.

    A state may have any shape that broadcasts to that, such as `[*features]` or `[1, *features]`; None means zeros.
    Each forward calls it: what happens to a state before `apply` is lost to autograd within an operator.
    """
    return [x.new_zeros(()).expand(x.shape[1:]) if s is None else s.expand(x.shape[1:]) for s in states]


class _DualExpIIR(Function):
    """psp[t] = a1 psp[t-1] + a2 psp[t-2] + b1 x[t]"""

    @staticmethod
    def forward(ctx, x, psp_1, psp_2, a1, a2, b1):
        psp_1, psp_2 = _initial(x, psp_1, psp_2)
        last, before, psp = psp_1, psp_2, []
        for x_t in x.unbind(0):
            last, before = (b1 * x_t).addcmul_(a1, last).addcmul_(a2, before), last
            psp.append(last)
        psp = torch.stack(psp)
        ctx.save_for_backward(x, psp_1, psp_2, a1, a2, b1, psp)
        return psp, last, before.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_psp, grad_last, grad_before):
        x, psp_1, psp_2, a1, a2, b1, psp = ctx.saved_tensors
        need_x, need_1, need_2, need_a1, need_a2, need_b1 = ctx.needs_input_grad
        grad_x = grad_psp.clone(memory_format=torch.contiguous_format)
        # Entries 0 and 1 are the two steps before the first, so the recursion needs no special case.
        psp = [psp_2, psp_1, *psp.unbind(0)]
        grad = [torch.zeros_like(psp_2), torch.zeros_like(psp_1), *grad_x.unbind(0)]
        grad[-1] += grad_last
        grad[-2] += grad_before
        sum_a1, sum_a2, sum_b1 = (torch.zeros_like(psp_1) for _ in range(3))
        for t in range(len(grad) - 1, 1, -1):
            grad[t - 1].addcmul_(a1, grad[t])
            grad[t - 2].addcmul_(a2, grad[t])
            if need_a1:
                sum_a1.addcmul_(grad[t], psp[t - 1])
            if need_a2:
                sum_a2.addcmul_(grad[t], psp[t - 2])
            if need_b1:
                sum_b1.addcmul_(grad[t], x[t - 2])
        return (
            grad_x.mul_(b1) if need_x else None,
            grad[1] if need_1 else None,
            grad[0] if need_2 else None,
            sum_a1.sum(0) if need_a1 else None,
            sum_a2.sum(0) if need_a2 else None,
            sum_b1.sum(0) if need_b1 else None,
        )


class _FirstOrderLowPass(Function):
    """psp[t] = a1 psp[t-1] + x[t]"""

    @staticmethod
    def forward(ctx, x, psp_1, a1):
        (psp_1,) = _initial(x, psp_1)
        last, psp = psp_1, []
        for x_t in x.unbind(0):
            last = torch.addcmul(x_t, a1, last)
            psp.append(last)
        psp = torch.stack(psp)
        ctx.save_for_backward(psp_1, a1, psp)
        return psp, last

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_psp, grad_last):
        psp_1, a1, psp = ctx.saved_tensors
        _, need_1, need_a1 = ctx.needs_input_grad
        grad_x = grad_psp.clone(memory_format=torch.contiguous_format)
        psp = [psp_1, *psp.unbind(0)]
        grad = [torch.zeros_like(psp_1), *grad_x.unbind(0)]
        grad[-1] += grad_last
        sum_a1 = torch.zeros_like(psp_1)
        for t in range(len(grad) - 1, 0, -1):
            grad[t - 1].addcmul_(a1, grad[t])
            if need_a1:
                sum_a1.addcmul_(grad[t], psp[t - 1])
        return grad_x, grad[0] if need_1 else None, sum_a1.sum(0) if need_a1 else None


class _SpikingNeuron(Function):
    """v[t] = I[t] - r[t-1] (+ d v[t-1] with the membrane filter); s[t] = v[t] > threshold; r[t] = d r[t-1] + s[t]"""

    @staticmethod
    def forward(ctx, current, v, r, decay, membrane_filter, threshold, surrogate):
        (v, r), potential, spikes = _initial(current, v, r), [], []
        for current_t in current.unbind(0):
            v = torch.add(current_t - r, v, alpha=decay) if membrane_filter else current_t - r
            potential.append(v)
            spikes.append((v > threshold).to(v.dtype))
            r = decay * r + spikes[-1]
        ctx.save_for_backward(torch.stack(potential))
        ctx.constants = decay, membrane_filter, threshold, surrogate
        return torch.stack(spikes), v, r

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_spikes, grad_v, grad_r):
        (potential,) = ctx.saved_tensors
        decay, membrane_filter, threshold, surrogate = ctx.constants
        # Starts as ds/dv; the loop turns each step into the gradient of v[t], which equals that of I[t].
        grad_current = surrogate.gradient(potential - threshold, *surrogate.constants)
        grad_r = grad_r.clone()
        later = grad_v
        for grad_t, grad_s in zip(reversed(grad_current.unbind(0)), reversed(grad_spikes.unbind(0))):
            grad_t.mul_(grad_s + grad_r)
            if later is not None:
                grad_t.add_(later)
            grad_r.mul_(decay).sub_(grad_t)
            later = decay * grad_t if membrane_filter else None
        _, need_v, need_r, *_ = ctx.needs_input_grad
        return grad_current, later if need_v else None, grad_r if need_r else None, None, None, None, None


class _DualExpFilter(Function):
    """m[t] = dm m[t-1] + x[t]; s[t] = ds s[t-1] + x[t]; y[t] = gain (m[t] - s[t])"""

    @staticmethod
    def forward(ctx, x, m, s, decay_m, decay_s, gain):
        ctx.constants = decay_m, decay_s, gain
        (m, s), y = _initial(x, m, s), []
        for x_t in x.unbind(0):
            m, s = decay_m * m + x_t, decay_s * s + x_t
            y.append(gain * (m - s))
        return torch.stack(y), m, s

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_y, grad_m, grad_s):
        decay_m, decay_s, gain = ctx.constants
        grad_x = grad_y.new_empty(grad_y.shape)
        grad_m, grad_s = grad_m.clone(), grad_s.clone()
        for grad_x_t, grad_y_t in zip(reversed(grad_x.unbind(0)), reversed(grad_y.unbind(0))):
            grad_m.add_(grad_y_t, alpha=gain)
            grad_s.sub_(grad_y_t, alpha=gain)
            torch.add(grad_m, grad_s, out=grad_x_t)
            grad_m.mul_(decay_m)
            grad_s.mul_(decay_s)
        _, need_m, need_s, *_ = ctx.needs_input_grad
        return grad_x, grad_m if need_m else None, grad_s if need_s else None, None, None, None


def dual_exp_iir(x, psp_1, psp_2, a1, a2, b1):
    return _DualExpIIR.apply(x, psp_1, psp_2, a1, a2, b1)


def first_order_low_pass(x, psp_1, a1):
    return _FirstOrderLowPass.apply(x, psp_1, a1)


def spiking_neuron(current, v, r, decay, membrane_filter, threshold, surrogate):
    return _SpikingNeuron.apply(current, v, r, decay, membrane_filter, threshold, surrogate)


def dual_exp_filter(x, m, s, decay_m, decay_s, gain):
    return _DualExpFilter.apply(x, m, s, decay_m, decay_s, gain)


dropout = torch.nn.functional.dropout
