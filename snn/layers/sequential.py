"""The network: layers in sequence over time, and the layers that a config describes."""

import torch
from torch import nn

from snn.base.names import find_class
from snn.kernels import kernels_for
from snn.layers.dropout import Dropout
from snn.layers.layer import Layer, as_taken, is_stateful, is_watched
from snn.layers.neurons import SpikingNeuron
from snn.layers.synapses import DualExpIIR, FirstOrderLowPass, Synapse, Unfiltered

SYNAPSES = {"dual_exp": DualExpIIR, "first_order": FirstOrderLowPass, "none": Unfiltered}
NEURONS = {"SpikingNeuron": SpikingNeuron}
IN_ONE_LOOP = (SpikingNeuron, DualExpIIR), (SpikingNeuron, Dropout, DualExpIIR)


class Sequential(nn.Sequential):
    """Layers in sequence, each over all time steps at once; `y, state = net(x, state=None)`.

    A layer over time (`snn.Layer`, or any module whose class sets `stateful = True`) gets the sequence and its own
    state. Any other torch.nn module sees time folded into the batch, one call for all steps: `[T, B, *]` as
    `[T * B, *]`. Under autocast only these products compute in lower precision; filters and neurons compute in float32,
    and hand over bfloat16 where their kernels take it. The output is float32.
    A neuron, dropout behind it, and the synapse behind that run in one loop, in which no spikes are stored, unless a
    hook watches one of them.

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
        while len(ends) < len(layers):
            n = len(ends)
            layer, together = layers[n], _in_one_loop(x, layers[n : n + 3])
            if together:
                *dropouts, behind = together[1:]
                p = sum(dropout.p for dropout in dropouts if dropout.training)
                x, end, end_behind = layer.with_synapse(behind, x, state[n], state[n + len(dropouts) + 1], p)
                ends += [end, *(None for _ in dropouts), end_behind]
            elif is_stateful(layer):
                x, end = layer(as_taken(x, layer), state[n])
                ends.append(end)
            else:
                x = layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
                ends.append(None)
        return x.float() if x.dtype == torch.bfloat16 else x, tuple(ends)

    def step(self, x, state=None):
        """Run one time step, for streams: x `[B, *features]` -> y `[B, *]`, and the state for the next step."""
        y, state = self(x[None], state)
        return y[0], state


def _in_one_loop(x, layers):
    """Return those of these layers, from the first on, that run in one loop: of these very types, and not watched.

    Dropout only of `[T, B, N]`: elsewhere its mask follows the order of dimensions, and the loop's that of memory.
    """
    types = tuple(type(layer) for layer in layers)
    together = next((layers[: len(kinds)] for kinds in IN_ONE_LOOP if types[: len(kinds)] == kinds), [])
    if not together or not kernels_for(x).fuses or any(map(is_watched, together)):
        return []
    return [] if len(together) == 3 and (x.dim() != 3 or together[1].p == 1) else together


def synapse(shape, hyperparameters):
    """Return the synapse layer for an input of `shape` that a config's `hyperparameters` describe."""
    return find_class(hyperparameters["synapse_type"], Synapse, SYNAPSES).from_config(shape, hyperparameters)


def neuron(hyperparameters):
    """Return the neuron layer that a config's `hyperparameters` describe."""
    return find_class(hyperparameters["neuron"], Layer, NEURONS).from_config(hyperparameters)
