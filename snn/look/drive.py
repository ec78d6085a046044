"""What drives a network's output neurons: their potential without resets, which decides between equal spike counts."""

from contextlib import contextmanager

import torch
from torch import nn

from snn.base.errors import UserError
from snn.layers.chunks import as_configured
from snn.layers.layer import hidden_layers, hooked, is_stateful, output_name, spiking_layers
from snn.layers.recurrent import Recurrent

NONE = "ties: potential needs a network whose last layer over time is one of neurons; use first"


def check(net, config):
    """Raise UserError if potentials are to decide ties, and a Sequential ends without neurons.

    Of a network of another kind a test finds out.
    """
    if config["ties"] == "potential" and spiking_layers(net).keys() == hidden_layers(net).keys():
        raise UserError(NONE)


def run(net, config, x, state=None):
    """Return a network's output `[T, B, *]`, its state at the end, and what drives its output neurons, as `of_output`.

    That is None too unless it `decides` ties.
    """
    if not decides(net, config):
        return *as_configured(net, config, x, state), None
    with recorded(net) as currents:
        y, end = as_configured(net, config, x, state)
    return y, end, of_output(net, currents, y)


def decides(net, config):
    """Whether what drives the output neurons decides ties: by the config, and in eval mode."""
    return config["ties"] == "potential" and not net.training


@contextmanager
def recorded(net):
    """In the block, each call of `net` appends the input current of its output neurons to the yielded list."""
    found, hidden = [], hidden_layers(net)
    output = {name: layer for name, layer in spiking_layers(net).items() if name not in hidden}
    for name, layer in output.items():
        if isinstance(layer, Recurrent) and type(layer).forward is Recurrent.forward:
            output[name] = layer.neuron  # which gets what comes back too
    with hooked(output, lambda _, __, arguments, ___: found.append(arguments[0].detach())):
        yield found


def of_output(net, currents, y):
    """Return the `recorded` currents of one pass as the layers behind the neurons, such as pooling, pass them on.

    Shape: as the network's output `y`. Returns None if it can't be told: there are no neurons, or a layer over time is
    behind them.
    """
    current = torch.cat(currents).float() if currents else None
    if current is not None and current.shape != y.shape and isinstance(net, nn.Sequential):
        layers = list(net)
        last = max((n for n, layer in enumerate(layers) if output_name(layer) == "spikes"), default=len(layers))
        for layer in layers[last + 1 :]:
            if is_stateful(layer):
                return None
            current = layer(current.flatten(0, 1)).unflatten(0, current.shape[:2])
    return current if current is not None and current.shape == y.shape else None


def less_than_a_spike(drive):
    """Return values `[*, classes]` in the order of `drive`, below what spike counts, also averaged ones, differ by.

    They are float64: added to thousands of spikes they must not get lost. Raises UserError if `drive` is None.
    """
    if drive is None:
        raise UserError(NONE)
    return drive.argsort(-1).argsort(-1).double() / drive.shape[-1] / 1000
