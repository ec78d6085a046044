"""The network: layers in sequence over time, and the layers that a config describes."""

import torch
from torch import nn

from snn.base.names import find_class
from snn.kernels import kernels_for
from snn.layers.layer import Layer, as_taken, is_stateful, is_watched
from snn.layers.neurons import SpikingNeuron
from snn.layers.synapses import DualExpIIR, FirstOrderLowPass, Synapse

SYNAPSES = {"dual_exp": DualExpIIR, "first_order": FirstOrderLowPass}
NEURONS = {"SpikingNeuron": SpikingNeuron}


class Sequential(nn.Sequential):
    """Layers in sequence, each over all time steps at once; `y, state = net(x, state=None)`.

    A layer over time (`snn.Layer`, or any module whose class sets `stateful = True`) gets the sequence and its own
    state. Any other torch.nn module sees time folded into the batch, one call for all steps: `[T, B, *]` as
    `[T * B, *]`. Under autocast only these products run in lower precision; filters and potentials stay in float32.
    A neuron and the synapse behind it run in one loop, without the spikes between them, unless a hook watches one.

    Shape: x `[T, B, *features]` -> y `[T, B, *features of the last layer]`; state is a tuple with one entry for each
    layer, None for a layer without state.

    Raises ValueError for a state that does not have one entry for each layer, and for an input without steps.
    """

    stateful = True
    output = ""  # a container: its output is that of its last layer

    def __init__(self, *layers):
        super().__init__(*layers)
        self.to(memory_format=torch.channels_last)  # makes convolutions faster; shapes stay as they are

    @property
    def input_shape(self):
        """Shape of the input at one step, if the first layer says it; else None."""
        first = next(iter(self), None)
        if isinstance(first, nn.Linear):
            return (first.in_features,)
        return tuple(first.shape) if isinstance(first, Synapse) else None

    def forward(self, x, state=None):
        if x.dim() < 2 or not len(x):
            raise ValueError(f"a network takes [T, B, *features] with at least one step, got {list(x.shape)}")
        if state is None:
            state = (None,) * len(self)
        elif len(state) != len(self):
            raise ValueError(f"a state of {len(state)} entries for a network of {len(self)} layers")
        layers, ends = list(self), []
        while (n := len(ends)) < len(layers):
            layer = layers[n]
            if not is_stateful(layer):
                x, end = layer(x.flatten(0, 1)).unflatten(0, x.shape[:2]), [None]
            elif _in_one_loop(x, *layers[n : n + 2]):
                x, *end = layer.with_synapse(layers[n + 1], x, *state[n : n + 2])
            else:
                x, *end = layer(as_taken(x, layer), state[n])
            ends += end
        return x.float() if x.dtype == torch.bfloat16 and is_stateful(layer) else x, tuple(ends)

    def step(self, x, state=None):
        """Run one time step, for streams: x `[B, *features]` -> y `[B, *]`, and the state for the next step."""
        y, state = self(x[None], state)
        return y[0], state


def _in_one_loop(x, layer, behind=None):
    """Whether a neuron and the synapse behind it run in one loop: the paper's types, and no hook on the spikes."""
    types = type(layer) is SpikingNeuron and type(behind) is DualExpIIR
    return types and kernels_for(x).fuses and not is_watched(layer) and not is_watched(behind)


def synapse(shape, hyperparameters):
    """Return the synapse layer for an input of `shape` that a config's `hyperparameters` describe."""
    return find_class(hyperparameters["synapse_type"], Synapse, SYNAPSES).from_config(shape, hyperparameters)


def neuron(hyperparameters):
    """Return the neuron layer that a config's `hyperparameters` describe."""
    return find_class(hyperparameters["neuron"], Layer, NEURONS).from_config(hyperparameters)
