"""Synapses as IIR filters: each input line turns its spikes into a post-synaptic potential (psp) with coefficients of
its own, which are trained (paper, section 3)."""

import math

import torch
from torch import nn

from snn.kernels import kernels_for

COEFFICIENTS = ("a1", "a2", "b1")  # names of a synapse's parameters
MARGIN = 1e-3  # of stability, for `stabilize`


class DualExpIIR(nn.Module):
    """Second-order synapse with a dual-exponential impulse response.

        psp[t] = a1 psp[t-1] + a2 psp[t-2] + b1 x[t]

    At the start a spike answers with e^(-k/tau_m) - e^(-k/tau_s), k = 1, 2, ... from the step of the spike on:

        a1 = e^(-1/tau_m) + e^(-1/tau_s),  a2 = -e^(-(tau_m + tau_s)/(tau_m tau_s)),  b1 = e^(-1/tau_m) - e^(-1/tau_s)

    Args:
        shape: shape of the input at one step, an int or a tuple; every element has its own a1, a2, b1.
        tau_m, tau_s: time constants of decay and rise in time steps, tau_m > tau_s > 0.
        trainable: whether a1, a2 and b1 are trained.

    Shape: x `[T, B, *shape]` -> psp `[T, B, *shape]`; state (psp[t-1], psp[t-2]), each `[B, *shape]`.

    Raises ValueError for other time constants and for an input of another shape.
    """

    stateful = True

    def __init__(self, shape, tau_m, tau_s, trainable=True):
        super().__init__()
        if not tau_m > tau_s > 0:
            raise ValueError(f"DualExpIIR needs tau_m > tau_s > 0, got tau_m {tau_m}, tau_s {tau_s}")
        self.shape = torch.Size([shape] if isinstance(shape, int) else shape)
        self.tau_m, self.tau_s = tau_m, tau_s
        decay_m, decay_s = math.exp(-1 / tau_m), math.exp(-1 / tau_s)
        self.a1 = _coefficient(self.shape, decay_m + decay_s, trainable)
        self.a2 = _coefficient(self.shape, -decay_m * decay_s, trainable)
        self.b1 = _coefficient(self.shape, decay_m - decay_s, trainable)

    def forward(self, x, state=None):
        _check_input(self, x)
        psp_1, psp_2 = state or (None, None)
        psp, *state = kernels_for(x).dual_exp_iir(x, psp_1, psp_2, self.a1, self.a2, self.b1)
        return psp, tuple(state)

    @torch.no_grad()
    def stabilize(self):
        """Move a1 and a2 of filters whose impulse response does not die away, or hardly, to where it does.

        That is the triangle |a2| < 1, |a1| < 1 - a2 (both poles in the unit circle), less a margin.
        """
        self.a2.clamp_(MARGIN - 1, 1 - MARGIN)
        largest = 1 - MARGIN - self.a2
        self.a1.clamp_(-largest, largest)

    def extra_repr(self):
        return f"{tuple(self.shape)}, trainable={self.a1.requires_grad}"


class FirstOrderLowPass(nn.Module):
    """First-order synapse with an exponential impulse response.

        psp[t] = a1 psp[t-1] + x[t],  a1 = e^(-1/tau) at the start

    Args:
        shape: shape of the input at one step, an int or a tuple; every element has its own a1.
        tau: time constant in time steps, > 0.
        trainable: whether a1 is trained.

    Shape: x `[T, B, *shape]` -> psp `[T, B, *shape]`; state psp[t-1], `[B, *shape]`.

    Raises ValueError for another time constant and for an input of another shape.
    """

    stateful = True

    def __init__(self, shape, tau, trainable=True):
        super().__init__()
        if not tau > 0:
            raise ValueError(f"FirstOrderLowPass needs tau > 0, got {tau}")
        self.shape = torch.Size([shape] if isinstance(shape, int) else shape)
        self.a1 = _coefficient(self.shape, math.exp(-1 / tau), trainable)

    def forward(self, x, state=None):
        _check_input(self, x)
        return kernels_for(x).first_order_low_pass(x, state, self.a1)

    @torch.no_grad()
    def stabilize(self):
        """Move a1 of filters whose impulse response does not die away, or hardly, to where it does: |a1| < 1."""
        self.a1.clamp_(MARGIN - 1, 1 - MARGIN)

    def extra_repr(self):
        return f"{tuple(self.shape)}, trainable={self.a1.requires_grad}"


class DualExpFilter(nn.Module):
    """Fixed dual-exponential filter whose impulse response peaks at 1: the output filter of the associative memory.

        m[t] = e^(-1/tau_m) m[t-1] + x[t],  s[t] = e^(-1/tau_s) s[t-1] + x[t],  y[t] = v0 (m[t] - s[t])
        v0 = eta^(eta / (eta - 1)) / (eta - 1),  eta = tau_m / tau_s

    Args:
        tau_m, tau_s: time constants of decay and rise in time steps, tau_m > tau_s > 0.

    Shape: x `[T, B, *features]` -> y of the same shape; state (m, s), each `[B, *features]`.

    Raises ValueError for other time constants.
    """

    stateful = True

    def __init__(self, tau_m, tau_s):
        super().__init__()
        if not tau_m > tau_s > 0:
            raise ValueError(f"DualExpFilter needs tau_m > tau_s > 0, got tau_m {tau_m}, tau_s {tau_s}")
        self.tau_m, self.tau_s = tau_m, tau_s
        self.decay_m, self.decay_s = math.exp(-1 / tau_m), math.exp(-1 / tau_s)
        eta = tau_m / tau_s
        self.gain = eta ** (eta / (eta - 1)) / (eta - 1)

    def forward(self, x, state=None):
        m, s = state or (None, None)
        y, *state = kernels_for(x).dual_exp_filter(x, m, s, self.decay_m, self.decay_s, self.gain)
        return y, tuple(state)

    def extra_repr(self):
        return f"tau_m={self.tau_m}, tau_s={self.tau_s}"


def _coefficient(shape, value, trainable):
    return nn.Parameter(torch.full(shape, value), requires_grad=trainable)


def _check_input(layer, x):
    if x.shape[2:] != layer.shape:
        raise ValueError(
            f"{type(layer).__name__} takes [T, B, {', '.join(map(str, layer.shape))}], got {list(x.shape)}"
        )
