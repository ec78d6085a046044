"""The network: layers in sequence over time, and the layers that a config describes."""

import torch
from torch import nn

from snn.layers.neurons import SpikingNeuron
from snn.layers.synapses import DualExpIIR, FirstOrderLowPass


class Sequential(nn.Sequential):
    """Layers in sequence, each over the whole time at once; `y, state = net(x, state=None)`.

    A layer that carries state (its class says `stateful = True`) gets the sequence and its own state. Any other
    torch.nn module sees time folded into the batch, one call for all steps: `[T, B, *]` as `[T * B, *]`. Under autocast
    only these products run in less precision; filters and potentials stay in float32.

    Shape: x `[T, B, *features]` -> y `[T, B, *features of the last layer]`; state is a tuple with one entry for each
    layer, None for a layer without state.

    Raises ValueError for a state that does not have one entry for each layer.
    """

    stateful = True

    def __init__(self, *layers):
        super().__init__(*layers)
        self.to(memory_format=torch.channels_last)  # makes convolutions faster; shapes stay as they are

    def forward(self, x, state=None):
        if state is None:
            state = (None,) * len(self)
        elif len(state) != len(self):
            raise ValueError(f"a state of {len(state)} entries for a network of {len(self)} layers")
        ends = []
        for layer, start in zip(self, state):
            if getattr(layer, "stateful", False):
                if x.dtype in (torch.bfloat16, torch.float16):  # of products under autocast
                    x = x.float()
                x, end = layer(x, start)
            else:
                x, end = layer(x.flatten(0, 1)).unflatten(0, x.shape[:2]), None
            ends.append(end)
        return x, tuple(ends)


def synapse(shape, hyperparameters):
    """The synapse layer for an input of `shape` that a config's `hyperparameters` describe."""
    p = hyperparameters
    if p["synapse_type"] == "first_order":
        return FirstOrderLowPass(shape, p["tau_m"], p["train_coefficients"])
    return DualExpIIR(shape, p["tau_m"], p["tau_s"], p["train_coefficients"])


def neuron(hyperparameters):
    """The neuron layer that a config's `hyperparameters` describe."""
    return SpikingNeuron(hyperparameters["tau_m"], hyperparameters["membrane_filter"])
