"""Threshold neurons whose reset is a filter of their own spikes (paper, section 3)."""

import math
from numbers import Real

from torch import nn

from snn.kernels import kernels_for, surrogates
from snn.layers.layer import Layer, decay


class SpikingNeuron(Layer):
    """Neuron with a threshold, an exponentially decaying reset and, optionally, a membrane filter.

        v[t] = I[t] - r[t-1]                    (membrane_filter: v[t] = d v[t-1] + I[t] - r[t-1])
        s[t] = 1 if v[t] > threshold else 0
        r[t] = d r[t-1] + s[t],  d = e^(-1/tau_m)

    The gradient of a spike, ds/dv, is the surrogate's; gradients flow through the reset and through the state.

    Args:
        tau_m: time constant of the reset, and of the membrane filter, in time steps, > 0.
        membrane_filter: whether the potential itself is low-pass filtered too.
        threshold: potential above which the neuron spikes; the paper's is 1.
        surrogate: one of `snn.surrogates`; the paper's is Gaussian(0.4).

    Shape: current `[T, B, *features]` -> spikes (0 or 1) of the same shape; state (v, r), each `[B, *features]`.

    Raises ValueError for any other time constant (TypeError for a tensor that is to be trained), a threshold that is no
    number, another surrogate, and for an input without steps or of integers.
    """

    output = "spikes"
    states = ("v", "reset")
    multiply_adds = 1
    on_kernels = True

    def __init__(self, tau_m, membrane_filter=False, threshold=1.0, surrogate=surrogates.Gaussian(0.4)):
        super().__init__()
        if isinstance(tau_m, str) or math.prod(getattr(tau_m, "shape", ())) != 1 or not tau_m > 0:
            raise ValueError(f"SpikingNeuron needs a number as tau_m, > 0, got {tau_m}")
        if isinstance(threshold, bool) or not isinstance(threshold, Real):
            raise ValueError(f"SpikingNeuron needs a number as threshold, got {threshold!r}")
        threshold = threshold if isinstance(threshold, int) else float(threshold)  # also of a NumPy number
        self.tau_m, self.membrane_filter, self.threshold = tau_m, membrane_filter, threshold
        self.surrogate = surrogates.checked(surrogate)
        self.multiply_adds += membrane_filter

    def __setattr__(self, name, value):
        is_own = type(self).forward is Layer.forward or not type(self).forward.__module__.startswith("snn.")
        is_trained = isinstance(value, nn.Parameter) or getattr(value, "requires_grad", False)
        if name == "tau_m" and not (is_own and is_trained):  # also when it is changed later
            self.decay = decay(value)
        if name == "threshold" and is_trained and not is_own:
            raise TypeError("the threshold here is a number: to train it, write a layer of your own")
        super().__setattr__(name, value)

    @classmethod
    def from_config(cls, hyperparameters):
        """Return the neuron that a config's `hyperparameters` describe."""
        p = hyperparameters
        surrogate = surrogates.make(p["surrogate"], p["surrogate_arguments"])
        return cls(p["tau_m"], p["membrane_filter"], p["threshold"], surrogate)

    def forward(self, x, state=None):  # `with_bias` and `with_synapse` compute the same, in networks: change all
        return _in_own_loop(self, x, state)

    def with_bias(self, bias, x, state=None):
        """Run this neuron on x + bias, `[*features]`. Only where `kernels_for(x).adds_bias`."""
        return _in_own_loop(self, x, state, bias)

    def with_synapse(self, synapse, x, state=None, synapse_state=None, p=0.0, bias=None):
        """Run this neuron, dropout of probability p, and the `DualExpIIR` behind it in one loop.

        Only where `kernels_for(x).fuses`; with a bias of the current, `[*features]`, only where it `adds_bias`.

        Shape: current `[T, B, *features]` -> psp of the same shape, this neuron's state, the synapse's state.
        """
        x = synapse.checked(self.checked(x))
        constants = self.decay, self.membrane_filter, self.threshold, self.surrogate
        coefficients = synapse.a1, synapse.a2, synapse.b1
        psp, v, r, psp_1, psp_2 = kernels_for(x).neuron_and_iir(
            x, state or (None, None), constants, p, synapse_state or (None, None), coefficients, bias
        )
        return psp, (v, r), (psp_1, psp_2)

    def extra_repr(self):
        membrane = ", membrane_filter=True" if self.membrane_filter else ""
        return f"tau_m={self.tau_m}{membrane}, threshold={self.threshold}, surrogate={self.surrogate}"


def _in_own_loop(neuron, x, state, *bias):
    x = neuron.checked(x)
    v, r = state or (None, None)
    spikes, *state = kernels_for(x).spiking_neuron(
        x, v, r, neuron.decay, neuron.membrane_filter, neuron.threshold, neuron.surrogate, *bias
    )
    return spikes, tuple(state)
