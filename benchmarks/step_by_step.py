"""The same networks step by step: the baseline of the benchmarks and, in double precision, of the gradient tests.

A Python loop over time calls cells, batch first and time last (`[B, *features, T]`), with plain autograd through every
step. The formulas are those of `snn.layers.synapses` and `snn.layers.neurons`.
"""

import math

import torch
from torch import nn

from snn.layers.layer import is_stateful
from snn.layers.neurons import SpikingNeuron
from snn.layers.output_filter import DualExpFilter
from snn.layers.synapses import DualExpIIR, FirstOrderLowPass


class Spike(torch.autograd.Function):
    """1 where the potential is above the threshold; backward with a surrogate gradient."""

    @staticmethod
    def forward(ctx, v, threshold, surrogate):
        ctx.save_for_backward(v)
        ctx.constants = threshold, surrogate
        return (v > threshold).to(v.dtype)

    @staticmethod
    def backward(ctx, grad):
        (v,), (threshold, surrogate) = ctx.saved_tensors, ctx.constants
        return grad * surrogate(v - threshold), None, None


def gaussian(x, sigma=0.4):
    return torch.exp(-(x**2) / (2 * sigma**2)) / (math.sqrt(2 * math.pi) * sigma)


def dual_exp_iir_step(x, state, a1, a2, b1):
    last, before = state
    psp = a1 * last + a2 * before + b1 * x
    return psp, (psp, last)


def first_order_step(x, state, a1):
    (last,) = state
    psp = a1 * last + x
    return psp, (psp,)


def neuron_step(current, state, decay, membrane_filter, threshold=1.0, surrogate=gaussian):
    v, r = state
    v = current - r + (decay * v if membrane_filter else 0)
    spike = Spike.apply(v, threshold, surrogate)
    return spike, (v, decay * r + spike)


def dual_exp_filter_step(x, state, decay_m, decay_s, gain):
    m, s = state
    m, s = decay_m * m + x, decay_s * s + x
    return gain * (m - s), (m, s)


class StepByStep(nn.Module):
    """An `snn.Sequential` computed step by step, with the same parameters.

    Shape: x `[B, *features, T]` -> spikes `[B, classes, T]`.
    """

    def __init__(self, net):
        super().__init__()
        self.net = net.to(memory_format=torch.contiguous_format)

    def forward(self, x):
        for layer in self.net:
            outputs, state = [], None
            for x_t in x.unbind(-1):  # x[..., t] would cost the backward a tensor of x's size at every step
                y, state = self._step(layer, x_t, state)
                outputs.append(y)
            x = torch.stack(outputs, dim=-1)
        return x

    @staticmethod
    def _step(layer, x, state):
        kind = type(layer)
        if kind is DualExpIIR:
            return dual_exp_iir_step(x, state or _zeros(x, 2), layer.a1, layer.a2, layer.b1)
        if kind is FirstOrderLowPass:
            return first_order_step(x if layer.gain is None else x * layer.gain, state or _zeros(x, 1), layer.a1)
        if kind is SpikingNeuron:
            gradient, constants = layer.surrogate.gradient, layer.surrogate.constants
            of_neuron = layer.decay, layer.membrane_filter, layer.threshold, lambda v: gradient(v, *constants)
            return neuron_step(x, state or _zeros(x, 2), *of_neuron)
        if kind is DualExpFilter:
            return dual_exp_filter_step(x, state or _zeros(x, 2), *layer.constants)
        if is_stateful(layer):
            y, state = layer(x[None], state)
            return y[0], state
        return layer(x), None


def _zeros(x, count):
    return (torch.zeros_like(x),) * count
