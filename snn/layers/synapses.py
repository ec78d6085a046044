"""Synapses as IIR filters: each input line has trained coefficients, which make its spikes a psp (paper, section 3)."""

import cmath
import math
import re
from numbers import Integral
from operator import index

import torch
from torch import nn
from torch.nn.utils import parametrize

from snn.base.errors import UserError
from snn.kernels import kernels_for
from snn.layers.layer import Layer, decay, set_value

MARGIN = 1e-3  # that `stabilize` keeps from the limit of stability; half of their own, for filters that start close
RESOLUTION = 2.0**-22  # of float32 near 2: no margin is smaller
SHORTEST = 8  # steps: of the longest time constant that filters may be spread to


class Synapse(Layer):
    """Base of synapses with one filter for each element of the input.

    A subclass names its `coefficients`, the parameters of shape `shape` that define the filters. `roots` tells where
    their poles are, thus which are stable, and `stabilize` makes them so. A synapse that a config can choose also has a
    class method `from_config(shape, hyperparameters)`.

    Args:
        shape: shape of the input at one step, an int or a tuple.
    """

    output = "psp"
    coefficients = ()

    def __init__(self, shape):
        super().__init__()
        self.shape = torch.Size(map(index, [shape] if isinstance(shape, Integral) else shape))

    def checked(self, x):
        x = super().checked(x)
        if x.shape[2:] != self.shape:
            raise ValueError(
                f"{type(self).__name__} takes [T, B, {', '.join(map(str, self.shape))}], got {list(x.shape)}"
            )
        return x

    def roots(self):
        """Return each filter's poles, real or complex numbers, `[order, *shape]`; order 0 if unknown."""
        return torch.empty(0, *self.shape)

    def poles(self):
        """Return the distances of each filter's poles from 0, `[order, *shape]`, largest first."""
        return self.roots().abs().sort(0, descending=True)[0]

    def unstable(self):
        """Return how many filters have an impulse response that does not decay: a pole at distance 1 or more."""
        return int((self.poles() >= 1).any(0).sum())

    def stabilize(self):
        """Move the coefficients of filters that are unstable, or nearly so, to where impulse responses decay."""
        raise NotImplementedError(f"{type(self).__name__} has no stabilize(), which stable_filters needs: add it")

    def extra_repr(self):
        trained = any(getattr(self, name).requires_grad for name in self.coefficients)
        return f"{tuple(self.shape)}, trainable={trained}"


class DualExpIIR(Synapse):
    """Second-order synapse with a dual-exponential impulse response.

        psp[t] = a1 psp[t-1] + a2 psp[t-2] + b1 x[t]

    Before training, the response to a spike is e^(-k/tau_m) - e^(-k/tau_s), k = 1, 2, ... from the spike's step on:

        a1 = e^(-1/tau_m) + e^(-1/tau_s),  a2 = -e^(-(tau_m + tau_s)/(tau_m tau_s)),  b1 = e^(-1/tau_m) - e^(-1/tau_s)

    Args:
        shape: shape of the input at one step, an int or a tuple; every element has its own a1, a2, b1.
        tau_m, tau_s: time constants of decay and rise in time steps, tau_m > tau_s > 0, before training.
        trainable: whether a1, a2 and b1 are trained.

    Shape: x `[T, B, *shape]` -> psp `[T, B, *shape]`; state (psp[t-1], psp[t-2]), each `[B, *shape]`.

    Raises ValueError for other time constants, and for an input of another shape, without steps or of integers.
    """

    states, multiply_adds = ("psp", "psp_before"), 3
    on_kernels = True
    coefficients = ("a1", "a2", "b1")

    def __init__(self, shape, tau_m, tau_s, trainable=True):
        super().__init__(shape)
        if not tau_m > tau_s > 0:
            raise ValueError(f"DualExpIIR needs tau_m > tau_s > 0, got tau_m {tau_m}, tau_s {tau_s}")
        self.tau_m, self.tau_s = tau_m, tau_s
        decay_m, decay_s = decay(tau_m), decay(tau_s)
        self.a1 = _coefficient(self.shape, decay_m + decay_s, trainable)
        self.a2 = _coefficient(self.shape, -decay_m * decay_s, trainable)
        self.b1 = _coefficient(self.shape, decay_m - decay_s, trainable)
        self.margin = _margin(decay_m, decay_s)

    @classmethod
    def from_config(cls, shape, hyperparameters):
        p = hyperparameters
        layer = cls(shape, p["tau_m"], p["tau_s"], p["train_coefficients"])
        if p["filters"]["start"] == "spread":
            layer.spread(p["filters"]["longest"] or p["length"] / 2, p["filters"]["rotating"])
        return layer

    def forward(self, x, state=None):
        x = self.checked(x)
        psp_1, psp_2 = state or (None, None)
        psp, *state = kernels_for(x).dual_exp_iir(x, psp_1, psp_2, self.a1, self.a2, self.b1)
        return psp, tuple(state)

    @torch.no_grad()
    def spread(self, longest, rotating=0.5):
        """Start the filters anew, from fast to slow, so that together they keep a sequence at all its time scales.

        The first ones have time constants tau_m from 2 steps to `longest`, evenly on a logarithmic scale. The share
        `rotating` after them has pairs of complex poles instead: they ring, with periods from 4 steps to `longest`,
        and decay to 1/e in each. Impulse responses have norm 1: a psp is about as large as the input. Call it before
        `load_state_dict`: how close to 1 `stabilize` leaves a pole is no part of that.

        Args:
            longest: in time steps; if it is below 8, it is 8.
            rotating: from 0 to 1.
        """
        longest, number = max(longest, SHORTEST), round(rotating * self.a1.numel())
        decay_m, decay_s = (-1 / _between(2, longest, self.a1.numel() - number)).exp(), decay(self.tau_s)
        period = _between(4, longest, number)
        radius = (-1 / period).exp()
        a1 = torch.cat([decay_m + decay_s, 2 * radius * torch.cos(2 * math.pi / period)])
        a2 = torch.cat([-decay_m * decay_s, -radius * radius])
        b1 = ((1 + a2) * ((1 - a2) ** 2 - a1**2) / (1 - a2)).sqrt()  # 1 / the norm that b1 = 1 has
        for coefficient, values in ((self.a1, a1), (self.a2, a2), (self.b1, b1)):
            coefficient.copy_(values.view(self.shape))
        slowest = [cmath.exp(complex(-1, sign * 2 * math.pi) / longest) for sign in (1, -1)]
        self.margin = min(_margin(math.exp(-1 / longest), decay_s), _margin(*slowest))

    def roots(self):
        """Return the roots of z^2 - a1 z - a2, complex128 `[2, *shape]`: the upper or larger one first."""
        a1, a2 = self.a1.detach().double(), self.a2.detach().double()
        root = torch.sqrt((a1**2 + 4 * a2).to(torch.complex128))
        return torch.stack([a1 + root, a1 - root]) / 2

    @torch.no_grad()
    def unstable(self):
        """Count those outside the triangle |a2| < 1, |a1| < 1 - a2, in which both poles are in the unit circle."""
        return int(((self.a2.abs() >= 1) | (self.a1.abs() >= 1 - self.a2)).sum())

    @torch.no_grad()
    def stabilize(self):
        """Clamp into that triangle, less a margin."""
        self.a2.clamp_(self.margin - 1, 1 - self.margin)
        largest = 1 - self.margin - self.a2
        self.a1.clamp_(-largest, largest)


class FirstOrderLowPass(Synapse):
    """First-order synapse with an exponential impulse response.

        psp[t] = a1 psp[t-1] + x[t],  a1 = e^(-1/tau) before training

    Filters that `spread` has started take gain x[t], with a gain for each that stays as it was then.

    Args:
        shape: shape of the input at one step, an int or a tuple; every element has its own a1.
        tau: time constant in time steps, > 0, before training.
        trainable: whether a1 is trained.

    Shape: x `[T, B, *shape]` -> psp `[T, B, *shape]`; state psp[t-1], `[B, *shape]`.

    Raises ValueError for any other time constant, and for an input of another shape, without steps or of integers.
    """

    states, multiply_adds = ("psp",), 1
    on_kernels = True
    coefficients = ("a1",)

    def __init__(self, shape, tau, trainable=True):
        super().__init__(shape)
        if not tau > 0:
            raise ValueError(f"FirstOrderLowPass needs tau > 0, got {tau}")
        self.tau = tau
        self.a1 = _coefficient(self.shape, decay(tau), trainable)
        self.register_buffer("gain", None)
        self.margin = _margin(decay(tau))

    @classmethod
    def from_config(cls, shape, hyperparameters):
        p = hyperparameters
        layer = cls(shape, p["tau_m"], p["train_coefficients"])
        if p["filters"]["start"] == "spread":
            layer.spread(p["filters"]["longest"] or p["length"] / 2)
        return layer

    def forward(self, x, state=None):
        x = self.checked(x)
        return kernels_for(x).first_order_low_pass(x if self.gain is None else x * self.gain, state, self.a1)

    @torch.no_grad()
    def spread(self, longest):
        """Start the filters anew, in order, with time constants from 2 steps to `longest`; see `DualExpIIR`.

        Impulse responses get norm 1: without a gain, that of a time constant of 400 steps has 14.
        """
        longest = max(longest, SHORTEST)
        self.a1.copy_((-1 / _between(2, longest, self.a1.numel())).exp().view(self.shape))
        self.gain, self.multiply_adds = (1 - self.a1**2).sqrt(), 2
        self.margin = _margin(math.exp(-1 / longest))

    def roots(self):
        return self.a1.detach()[None]

    @torch.no_grad()
    def stabilize(self):
        """Clamp to |a1| < 1, less a margin."""
        self.a1.clamp_(self.margin - 1, 1 - self.margin)


class Unfiltered(FirstOrderLowPass):
    """No filter, psp[t] = x[t]: a first-order synapse in the limit of tau to 0, for comparisons.

    Shape: x `[T, B, *shape]` -> psp of the same shape; state psp[t-1], `[B, *shape]`.
    """

    multiply_adds = 0

    def __init__(self, shape):
        super().__init__(shape, tau=1e-3, trainable=False)  # e^(-1000) is 0

    @classmethod
    def from_config(cls, shape, hyperparameters):
        return cls(shape)

    def _load_from_state_dict(self, *arguments):
        super()._load_from_state_dict(*arguments)
        self.a1.data.zero_()  # that of a first-order synapse has the same name and shape


def stabilize(net):
    """Move the filters of a network's trained synapses back to where impulse responses decay, e.g. after a step.

    A synapse moves as a whole, also what of it is frozen, unless all is. If coefficients are pruned or parametrized,
    what they are computed from moves. Raises UserError if it can't.
    """
    trained = (layer for layer in _synapses(net) if any(value.requires_grad for value in layer.parameters()))
    for layer in trained:
        with parametrize.cached():
            layer.stabilize()
            computed = [name for name in layer.coefficients if name not in layer._parameters]
            values = [getattr(layer, name).detach().clone() for name in computed]
        for name, value in zip(computed, values):
            set_value(layer, name, value)
        _recompute(layer)
        if computed and not (layer.unstable() == 0 and all(getattr(layer, name).isfinite().all() for name in computed)):
            raise UserError(
                f"stabilize: torch computes {', '.join(computed)} of {type(layer).__name__} from parameters that can't "
                "be set so that its filters are stable: give each parametrization a right_inverse, or remove it"
            )


def _synapses(net):
    """Yield the synapses of a network, their coefficients as the next forward pass computes them."""
    for layer in net.modules():
        if isinstance(layer, Synapse):
            _recompute(layer)
            yield layer


def _recompute(layer):
    for hook in layer._forward_pre_hooks.values():
        if type(hook).__module__.startswith("torch.nn.utils."):  # pruning, and norms
            hook(layer, ())


def check_stabilizes(net):
    """Raise UserError if a synapse of a network has no `stabilize`."""
    for layer in _synapses(net):
        if type(layer).stabilize is Synapse.stabilize:
            raise UserError(
                f"hyperparameters.stable_filters: {type(layer).__name__} has no stabilize(): add it, or set false"
            )


@torch.no_grad()
def would_move(net):
    """Return how many filters of a network `stabilize` would move."""

    def coefficients():
        return [[getattr(layer, name).clone() for name in layer.coefficients] for layer in _synapses(net)]

    start, before = {name: value.clone() for name, value in net.state_dict().items()}, coefficients()
    stabilize(net)
    after = coefficients()
    net.load_state_dict(start)
    moved = 0
    for layer, old, new in zip(_synapses(net), before, after):
        exact = layer._parameters.keys() >= set(layer.coefficients)  # what computes others may round
        differ = [a != b if exact else ~torch.isclose(a, b, 1e-6, 0) for a, b in zip(old, new)]
        moved += int(torch.stack(differ).any(0).sum()) if differ else 0
    return moved


def is_filter(layer):
    """Whether a layer is a synapse that filters its input."""
    return isinstance(layer, Synapse) and not isinstance(layer, Unfiltered)


def unstable_filters(net):
    """Return how many synapse filters of a network have an impulse response that does not decay."""
    return sum(layer.unstable() for layer in _synapses(net))


def coefficient_names(net):
    """Return the names of a network's parameters that are coefficients of synapse filters, or that give these."""
    return {
        f"{name}.{parameter}" if name else parameter
        for name, layer in net.named_modules()
        if isinstance(layer, Synapse)
        for coefficient in layer.coefficients
        for parameter, _ in layer.named_parameters()
        if re.fullmatch(rf"{coefficient}(_orig|_g|_v)?|parametrizations\.{coefficient}\..*", parameter)
    }


def _margin(*poles):
    """Return the margin for filters that start with these poles: 1 - a1 - a2 is the product of their distances to 1."""
    return max(RESOLUTION, min(MARGIN, abs(math.prod(1 - pole for pole in poles)) / 2))


def _between(lowest, highest, number):
    """Return `number` values from the lowest to the highest, evenly on a logarithmic scale, float64."""
    return lowest * (highest / lowest) ** torch.linspace(0, 1, number, dtype=torch.float64)


def _coefficient(shape, value, trainable):
    return nn.Parameter(torch.full(shape, value), requires_grad=trainable)
