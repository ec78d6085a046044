"""Adaptive leaky integrate-and-fire neurons with trained time constants."""

import torch
from torch import nn

from benchmarks.neurons.common import Neuron


class ALIF(Neuron):
    """Leaky integrate-and-fire neurons whose threshold rises with their spikes (Bellec et al. 2018; Yin et al. 2021).

        a[t] = r a[t-1] + (1 - r) s[t-1],  threshold[t] = 0.01 + 1.8 a[t],  r = e^(-1/tau_adp)
        v[t] = d v[t-1] + (1 - d) I[t] - threshold[t] s[t-1],  d = e^(-1/tau_m)
        s[t] = 1 if v[t] > threshold[t] else 0

    Args:
        size: N.
        surrogate: one of `snn.surrogates`.
        tau_m, tau_adp: mean and standard deviation of the time constants before training, in steps; as a default
            those of Higuchi et al. 2024 for QTDB.

    Shape: as `Neuron`; state (spikes, v, a).
    """

    states = ("spike", "v", "a")
    multiply_adds = 6
    optimizer_options = {"tau_m": {"weight_decay": 0}, "tau_adp": {"weight_decay": 0}}

    def __init__(self, size, surrogate, tau_m=(20, 0.5), tau_adp=(7, 0.2)):
        super().__init__(size, surrogate)
        self.tau_m, self.tau_adp = (nn.Parameter(torch.normal(*tau, (size,))) for tau in (tau_m, tau_adp))

    def coefficients(self):
        d, r = (torch.exp(-1 / tau.abs()) for tau in (self.tau_m, self.tau_adp))
        return d, 1 - d, r, 1 - r, 0.01, 1.8

    @staticmethod
    def update(current, spike, state, coefficients):
        (v, a), (d, gain, r, rise, lowest, height) = state, coefficients
        a = r * a + rise * spike
        threshold = lowest + height * a
        v = d * v + gain * current - threshold * spike
        return v - threshold, (v, a)

    @staticmethod
    def gradient(grad_above, grad_state, current, spike, state, coefficients):
        (v, a), (d, gain, r, rise, lowest, height) = state, coefficients
        threshold = lowest + height * (r * a + rise * spike)
        grad_v = grad_above + grad_state[0]
        grad_threshold = 0 - grad_above - grad_v * spike
        grad_a = grad_state[1] + height * grad_threshold
        of_coefficients = grad_v * v, grad_v * current, grad_a * a, grad_a * spike
        return gain * grad_v, rise * grad_a - threshold * grad_v, (d * grad_v, r * grad_a), of_coefficients
