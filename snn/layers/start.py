"""How a network's weights and biases start, by a config's `hyperparameters.init`."""

import math

import torch
from torch import nn

from snn.base.errors import UserError
from snn.layers.layer import PRODUCTS, set_value

TAKEN = 4  # inputs of each neuron of a diverse first layer


@torch.no_grad()
def initialize(net, hyperparameters):
    """Draw a network's weights and biases anew, unless `init` is "published": then they stay as torch.nn drew them.

    "kaiming": weights are normal with a deviation of sqrt(2 / fan-in) (He et al. 2015), biases half the threshold. A
    neuron without input then rests half-way to its threshold, where the surrogate gradient is still large, so that
    layers which are silent at first learn all the same; torch's biases lie around 0, where it has almost vanished.

    "diverse": the same, but each neuron of the first layer takes a few of its inputs alone, and their biases differ: so
    that neurons answer to different shapes, as random kernels do (Dempster et al. 2020), from the start.

    Raises UserError for a weight that can't be set.
    """
    if hyperparameters["init"] == "published":
        return
    threshold = hyperparameters["threshold"]
    attentions = [layer for layer in net.modules() if isinstance(layer, nn.MultiheadAttention)]  # no neurons behind it
    parts = {part for attention in attentions for part in attention.modules()}
    layers = [layer for layer in net.modules() if isinstance(layer, PRODUCTS) and layer not in parts]
    for layer in layers:
        _set(layer, nn.init.kaiming_normal_(torch.empty_like(layer.weight)))
        if layer.bias is not None:
            layer.bias.fill_(threshold / 2)
    if hyperparameters["init"] == "diverse" and layers:
        _diversify(layers[0], threshold)


def _set(layer, weight):
    if not set_value(layer, "weight", weight):
        name = type(layer).__name__
        raise UserError(f"hyperparameters.init: torch computes the weight of {name} from others: use published")


def _diversify(layer, threshold):
    """Keep TAKEN weights of each neuron, as large as if it had no others; spread the biases about the threshold."""
    rows = layer.weight.flatten(1)
    taken = min(TAKEN, rows.shape[1])
    places = torch.rand_like(rows).argsort(1)[:, :taken]
    values = torch.randn_like(rows[:, :taken]) * math.sqrt(2 / taken)
    _set(layer, torch.zeros_like(rows).scatter(1, places, values).view_as(layer.weight))
    if layer.bias is not None:
        nn.init.uniform_(layer.bias, *sorted((0, 2 * threshold)))
