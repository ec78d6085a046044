"""Threshold neurons whose reset is a filter of their own spikes (paper, section 3)."""

import math

from torch import nn

from snn.kernels import kernels_for


class SpikingNeuron(nn.Module):
    """Neuron with threshold 1, an exponentially decaying reset and, if asked for, a membrane filter.

        v[t] = I[t] - r[t-1]                    (membrane_filter: v[t] = d v[t-1] + I[t] - r[t-1])
        s[t] = 1 if v[t] > 1 else 0
        r[t] = d r[t-1] + s[t],  d = e^(-1/tau_m)

    The gradient of the spike is the surrogate exp(-(1 - v)^2 / (2 sigma^2)) / (sqrt(2 pi) sigma), sigma = 0.4;
    gradients flow through the reset and through the state.

    Args:
        tau_m: time constant of the reset, and of the membrane filter, in time steps, > 0.
        membrane_filter: whether the potential itself is low-pass filtered too.

    Shape: current `[T, B, *features]` -> spikes (0 or 1) of the same shape; state (v, r), each `[B, *features]`.

    Raises ValueError for another time constant.
    """

    stateful = True

    def __init__(self, tau_m, membrane_filter=False):
        super().__init__()
        if not tau_m > 0:
            raise ValueError(f"SpikingNeuron needs tau_m > 0, got {tau_m}")
        self.tau_m, self.membrane_filter = tau_m, membrane_filter
        self.decay = math.exp(-1 / tau_m)

    def forward(self, x, state=None):
        v, r = state or (None, None)
        spikes, *state = kernels_for(x).spiking_neuron(x, v, r, self.decay, self.membrane_filter)
        return spikes, tuple(state)

    def extra_repr(self):
        return f"tau_m={self.tau_m}, membrane_filter={self.membrane_filter}"
