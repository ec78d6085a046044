"""Encoders: layers that turn a time series into spikes, and train with the network."""

import torch
from torch import nn

from snn.kernels import surrogates
from snn.layers.layer import Layer
from snn.layers.neurons import SpikingNeuron

LEAST_LINES = 4  # of the bank, for each channel


def encoder(channels, config):
    """Return the layers of the encoder that a config's `encoding` names, and how many lines leave them.

    `current` has none: the values themselves go into the first synapse filters, and the first threshold neurons make
    spikes of them (direct encoding: Rueckauer et al. 2017). `bank` is the same with several filters for each channel.
    """
    p = config["hyperparameters"]
    if config["encoding"] == "population":
        return [Population(channels, p["population"], p["tau_m"])], channels * p["population"]
    if config["encoding"] == "delta":
        return [Delta(channels, p["delta"])], 2 * channels
    if config["encoding"] == "bank":
        number = max(LEAST_LINES, p["lines"] // channels)
        return [Copies(number)], channels * number
    return [], channels


class Copies(nn.Module):
    """Each channel on N lines, `[*, C]` -> `[*, N * C]`: all channels, and all again, N times."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def forward(self, x):
        return x.repeat(*[1] * (x.dim() - 1), self.number)

    def extra_repr(self):
        return str(self.number)


class Population(SpikingNeuron):
    """Each channel drives N neurons, each with a trained gain and bias (Eliasmith, Anderson 2003).

        I[t] = gain x[t] + bias,  then as `SpikingNeuron`

    Before training, gains are 1 and -1 in turn, and biases spread from -2 to 2.

    Args:
        channels, neurons: C, and N for each channel.
        tau_m: time constant of the reset, in time steps, > 0.

    Shape: x `[T, B, C]` -> spikes (0 or 1) `[T, B, C * N]`; state (v, r), each `[B, C * N]`.
    """

    on_kernels = False
    multiply_adds = 2  # also of the gain

    def __init__(self, channels, neurons, tau_m):
        super().__init__(tau_m)
        self.gain = nn.Parameter((1 - 2.0 * (torch.arange(neurons) % 2)).repeat(channels, 1))
        self.bias = nn.Parameter(torch.linspace(-2, 2, neurons).repeat(channels, 1))

    def forward(self, x, state=None):
        return super().forward((_of_channels(self, x)[..., None] * self.gain + self.bias).flatten(2), state)


class Delta(Layer):
    """Each channel has a line for rises and one for falls, as a pixel of an event camera (Lichtsteiner et al. 2008).

        e[t] = gain x[t] - r[t-1],  up[t] = 1 if e[t] > 1 else 0,  down[t] = 1 if -e[t] > 1 else 0
        r[t] = r[t-1] + up[t] - down[t],  gain = 1 / threshold before training

    The gradient of a spike is the surrogate's, Gaussian(0.4); none flows through r.

    Args:
        channels: C.
        threshold: the change that makes a spike, > 0.

    Shape: x `[T, B, C]` -> spikes (0 or 1) `[T, B, 2 C]`, first those of rises; state r, `[B, C]`.
    """

    output, states = "spikes", ("followed",)
    multiply_adds = 0.5  # of the gain, for each of two lines

    def __init__(self, channels, threshold):
        super().__init__()
        self.surrogate = surrogates.Gaussian(0.4)
        self.gain = nn.Parameter(torch.full((channels,), 1 / threshold))

    def forward(self, x, state=None):
        followed = x.new_zeros(x.shape[1:]) if state is None else state
        spikes = []
        for scaled in (self.gain * _of_channels(self, x)).unbind(0):
            up, down = (self._spike(sign * (scaled - followed)) for sign in (1, -1))
            followed = followed + (up - down).detach()
            spikes.append(torch.cat([up, down], -1))
        return torch.stack(spikes), followed

    def _spike(self, v):
        slope = self.surrogate.gradient(v - 1, *self.surrogate.constants).detach()
        return (v > 1).to(v.dtype) + slope * (v - v.detach())


def _of_channels(encoder, x):
    """Return a checked input; raise ValueError if it is not `[T, B, C]`."""
    x, channels = encoder.checked(x), len(encoder.gain)
    if x.shape[2:] != (channels,):
        raise ValueError(f"{type(encoder).__name__} takes [T, B, {channels}], got {list(x.shape)}")
    return x


ENCODERS = Population, Delta
