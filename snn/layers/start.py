"""How a network's weights and biases start, by a config's `hyperparameters.init`."""

import torch
from torch import nn


@torch.no_grad()
def initialize(net, hyperparameters):
    """Draw a network's weights and biases anew, unless `init` is "published": then they stay as torch.nn drew them.

    "kaiming": weights are normal with a deviation of sqrt(2 / fan-in) (He et al. 2015), biases half the threshold. A
    neuron without input then rests half-way to its threshold, where the surrogate gradient is still large, so that
    layers which are silent at first learn all the same; torch's biases lie around 0, where it has almost vanished.
    """
    if hyperparameters["init"] == "published":
        return
    for layer in net.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                layer.bias.fill_(hyperparameters["threshold"] / 2)
