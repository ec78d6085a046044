"""Leaky integrate-and-fire neurons with trained time constants."""

import torch
from torch import nn

from benchmarks.neurons.common import Neuron


class LIF(Neuron):
    """Leaky integrate-and-fire neurons as in Yin, Corradi, Bohté 2021 and Zheng et al. 2024 (their baseline).

        v[t] = d v[t-1] + (1 - d) I[t] - threshold s[t-1],  d = e^(-1/tau_m)
        s[t] = 1 if v[t] > threshold else 0

    So the reset is soft: a spike takes the threshold from the next step's potential.

    Args:
        size: N.
        surrogate: one of `snn.surrogates`.
        tau_m: mean and standard deviation of the time constants before training, in steps.
        threshold: potential above which a neuron spikes.

    Shape: as `Neuron`; state (spikes, v).
    """

    states = ("spike", "v")
    multiply_adds = 3
    optimizer_options = {"tau_m": {"weight_decay": 0}}

    def __init__(self, size, surrogate, tau_m=(20, 5), threshold=1.0):
        super().__init__(size, surrogate)
        self.tau_m, self.threshold = nn.Parameter(torch.normal(*tau_m, (size,))), threshold

    @classmethod
    def from_config(cls, hyperparameters):
        layer = super().from_config(hyperparameters)
        layer.threshold = hyperparameters["threshold"]
        return layer

    def coefficients(self):
        d = torch.exp(-1 / self.tau_m.abs())
        return d, 1 - d, self.threshold

    @staticmethod
    def update(current, spike, state, coefficients):
        (v,), (d, gain, threshold) = state, coefficients
        v = d * v + gain * current - threshold * spike
        return v - threshold, (v,)

    @staticmethod
    def gradient(grad_above, grad_state, current, spike, state, coefficients):
        (v,), (d, gain, threshold) = state, coefficients
        grad = grad_above + grad_state[0]
        return gain * grad, 0 - threshold * grad, (d * grad,), (v * grad, current * grad)
