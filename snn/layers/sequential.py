"""The network: layers in sequence over time, and the layers that a config describes."""

import copy

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from snn.base.names import find_class
from snn.kernels import kernels_for
from snn.layers.dropout import Dropout
from snn.layers.encoders import Copies
from snn.layers.layer import (
    Layer,
    as_taken,
    check_goes_on,
    check_tensor,
    is_stateful,
    is_watched,
    refuse_half,
    takes_means,
    unpacked,
)
from snn.layers.linear import Conv2d, Linear, without_bias
from snn.layers.neurons import SpikingNeuron
from snn.layers.synapses import DualExpIIR, FirstOrderLowPass, Synapse, Unfiltered

SYNAPSES = {"dual_exp": DualExpIIR, "first_order": FirstOrderLowPass, "none": Unfiltered}
NEURONS = {"SpikingNeuron": SpikingNeuron}
IN_ONE_LOOP = (SpikingNeuron, DualExpIIR), (SpikingNeuron, Dropout, DualExpIIR)
ALONG_TIME = nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention  # they take `[N, features]` as a sequence, or a step
TO_LAYER = "take snn.Sequential, or a class of yours with stateful = True and y, state = forward(x, state)"


class Sequential(nn.Sequential):
    """Layers in sequence, each over all time steps at once; `y, state = net(x, state=None)`.

    A layer over time (`snn.Layer`, or any module whose class sets `stateful = True`) gets the sequence and its own
    state. Any other torch.nn module sees time folded into the batch, one call for all steps: `[T, B, *]` as
    `[T * B, *]`; its result must have as many rows, each from that row alone. Under autocast only the products of such
    modules compute in lower precision; filters and neurons compute in float32, and hand over bfloat16 where their
    kernels take it. The output is float32.
    A layer over time without parameters that is given twice, such as a neuron, is copied: each place has a name of its
    own in what is recorded and counted.
    A neuron, dropout behind it, and the synapse behind that run in one loop, in which no spikes are stored, unless a
    hook watches one of them. On CUDA the neuron's loop also adds the bias of a `snn.Linear` or `snn.Conv2d` just before
    it, unless a hook watches that.

    Shape: x `[T, B, *features]` -> y `[T, B, *features of the last layer]`; state is a tuple with one entry for each
    layer, None for a layer without state.

    Raises ValueError for a state that does not have one entry for each layer, for an input without steps, and for a
    layer over time that returns no (y, state); TypeError for an input that is no tensor, for a module that would have
    to be a layer over time and is none, and if the network is to become half precision.
    """

    stateful = True
    output = ""  # a container: its output is that of its last layer

    def __init__(self, *layers):
        super().__init__(*layers)
        seen = set()
        for name, layer in self._modules.items():
            if layer in seen and is_stateful(layer) and not list(layer.parameters()):
                self._modules[name] = copy.deepcopy(layer)
            seen.add(layer)
        self._apply(_channels_last)  # makes convolutions faster; shapes stay as they are

    def _apply(self, function, recurse=True):  # of `to`, `half` and the like
        refuse_half(function)
        return super()._apply(function, recurse)

    @property
    def input_shape(self):
        """Shape of the input at one step, if the first layer says it that isn't dropout; else None."""
        first, second = [*(layer for layer in self if not isinstance(layer, nn.Dropout)), None, None][:2]
        if isinstance(first, Sequential):
            return first.input_shape
        if isinstance(first, nn.Linear) and first.in_features:  # 0 before the first input of a lazy one
            return (first.in_features,)
        if isinstance(first, Copies) and isinstance(second, Synapse):
            return (*second.shape[:-1], second.shape[-1] // first.number)
        return tuple(first.shape) if isinstance(first, Synapse) else None

    def forward(self, x, state=None):
        check_tensor(self, x)
        if x.dim() < 2 or not x.shape[0]:  # len(x) would be a constant to torch.export
            raise ValueError(f"a network takes [T, B, *features] with at least one step, got {list(x.shape)}")
        if state is None:
            state = (None,) * len(self)
        elif len(state) != len(self):
            raise ValueError(f"a state of {len(state)} entries for a network of {len(self)} layers")
        layers, ends, bias = list(self), [], None
        while len(ends) < len(layers):
            n = len(ends)
            layer, together = layers[n], _in_one_loop(x, layers[n : n + 3])
            if _bias_is_added_behind(x, *layers[n : n + 2]):
                x = without_bias(layer, x.flatten(0, 1)).unflatten(0, x.shape[:2])
                bias = (layer.bias[:, None, None] if type(layer) is Conv2d else layer.bias).expand(x.shape[2:])
                ends.append(None)
                continue  # with the neuron, which gets the bias
            if together:
                *dropouts, behind = together[1:]
                p = sum(dropout.p for dropout in dropouts if dropout.training)
                x, end, end_behind = layer.with_synapse(behind, x, state[n], state[n + len(dropouts) + 1], p, bias)
                ends += [end, *(None for _ in dropouts), end_behind]
            else:
                if bias is None:
                    x, end = _all_steps(n, layer, x, state[n])
                elif is_watched(layer):  # hooks see the sum, in float32 as in the loop
                    x, end = _all_steps(n, layer, x.float() + bias, state[n])
                else:
                    x, end = layer.with_bias(bias, x, state[n])
                ends.append(end)
            bias = None
        return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x, tuple(ends)

    def step(self, x, state=None):
        """Run one time step, for streams: x `[B, *features]` -> y `[B, *]`, and the state for the next step.

        Raises ValueError if a layer over time returns None as its state: it can't go on from there.
        """
        y, state = self(x[None], state)
        self.check_goes_on(state)
        return y[0], state

    def check_goes_on(self, state):
        """Raise ValueError if one of the layers can't go on from its entry of a state."""
        for n, (layer, end) in enumerate(zip(self, state)):
            if is_stateful(layer):
                check_goes_on(layer, end, named(n, layer))


def _channels_last(tensor):
    """Return a convolution's weight in that memory format, and any other tensor as it is."""
    is_weight = not is_lazy(tensor) and tensor.dim() == 4
    return tensor.to(memory_format=torch.channels_last) if is_weight else tensor


def named(n, layer):
    return f"layer {n} ({type(layer).__name__})"


def _all_steps(n, layer, x, state):
    """Run layer number n on a sequence; return its output, and its state or None."""
    if is_stateful(layer):
        return unpacked(layer(as_taken(x, layer), state), named(n, layer))
    for part in layer.modules():
        rows_are_time = x.dim() == 3 or not getattr(part, "batch_first", True)
        if is_stateful(part) or (isinstance(part, ALONG_TIME) and rows_are_time):
            raise TypeError(
                f"{named(n, layer)} gets all steps of all samples as rows of one batch, in which "
                f"{type(part).__name__} can't tell them apart: {TO_LAYER}"
            )
    rows = x.flatten(0, 1)
    if torch.jit.is_tracing() or x.shape[1] or any(map(takes_means, layer.modules())):
        y = layer(rows)
    else:  # of several ranks one may have no sample; modules such as AvgPool1d take no rows for a single one
        y = layer(torch.cat([rows, rows.new_zeros(1, *rows.shape[1:])]))[:0]  # so that gradients reach all layers
    if not torch.is_tensor(y):
        raise TypeError(f"{named(n, layer)} returns {type(y).__name__}, not a tensor: {TO_LAYER}")
    return y.unflatten(0, x.shape[:2]), () if torch.jit.is_tracing() else None  # a traced result can't hold None


def _bias_is_added_behind(x, layer, neuron=None):
    """Whether the neuron behind a product gets its bias: both are of these very types, and no hook sees the product."""
    fits = type(layer) in (Linear, Conv2d) and layer.bias is not None and type(neuron) is SpikingNeuron
    return fits and kernels_for(x).adds_bias and not is_watched(layer)


def _in_one_loop(x, layers):
    """Return those of these layers, from the first on, that run in one loop: of these very types, and not watched.

    Dropout only of `[T, B, N]`: elsewhere its mask follows the order of dimensions, and the loop's that of memory.
    """
    types = tuple(type(layer) for layer in layers)
    together = [layer for kinds in IN_ONE_LOOP if types[: len(kinds)] == kinds for layer in layers[: len(kinds)]]
    if not together or not kernels_for(x).fuses or any(map(is_watched, together)):
        return []
    return [] if len(together) == 3 and (x.dim() != 3 or together[1].p == 1) else together


def synapse(shape, hyperparameters):
    """Return the synapse layer for an input of `shape` that a config's `hyperparameters` describe."""
    return find_class(hyperparameters["synapse_type"], Synapse, SYNAPSES).from_config(shape, hyperparameters)


def neuron(hyperparameters):
    """Return the neuron layer that a config's `hyperparameters` describe."""
    return find_class(hyperparameters["neuron"], Layer, NEURONS).from_config(hyperparameters)
