"""The networks that the benchmarks measure, each with an input and a loss like those of its experiment."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

import snn
import snn_conv_1_mnist
import snn_mlp_1
from snn import config
from snn.network import neuron, synapse

ROOT = Path(__file__).parents[1]
SETTINGS = {"tau_m": 4, "tau_s": 1, "synapse_type": "dual_exp", "train_coefficients": True, "membrane_filter": False}


class Case(NamedTuple):
    make: Callable  # the network
    batch: int
    length: int
    shape: tuple  # of one step's input
    association: bool = False  # mean squared error of a filtered output; else cross-entropy of spike counts
    repeats: bool = False  # whether every step's input is the same (copy encoding)

    def input(self):
        """`[T, B, *shape]`: pixel values, or spikes at 5 % of the places."""
        if self.repeats:
            return torch.rand(self.batch, *self.shape).expand(self.length, -1, *(-1 for _ in self.shape))
        return (torch.rand(self.length, self.batch, *self.shape) < 0.05).float()

    def loss(self, device):
        """A function from the output `[T, B, *]` to the loss."""
        if self.association:
            target = torch.rand(self.length, self.batch, 300, device=device)
            return lambda y: F.mse_loss(y, target)
        labels = torch.randint(10, (self.batch,), device=device)
        return lambda y: F.cross_entropy(y.sum(0), labels)


def gesture():
    """2x128x128: 64C7 stride 3 padding 1 - 32C3 stride 3 - 32C3 padding 1 - 256 - 11."""
    p = SETTINGS
    return snn.Sequential(
        synapse((2, 128, 128), p), nn.Conv2d(2, 64, 7, stride=3, padding=1), neuron(p),
        synapse((64, 42, 42), p), nn.Conv2d(64, 32, 3, stride=3), neuron(p),
        synapse((32, 14, 14), p), nn.Conv2d(32, 32, 3, padding=1), neuron(p), nn.Flatten(),
        synapse(32 * 14 * 14, p), nn.Linear(32 * 14 * 14, 256), neuron(p), snn.Dropout(0.3),
        synapse(256, p), nn.Linear(256, 11), neuron(p),
    )  # fmt: skip


def association():
    """300-500-200-500-300 with the output filter."""
    p = SETTINGS | {"tau_m": 8, "tau_s": 2}
    sizes = [300, 500, 200, 500, 300]
    layers = [
        layer
        for inputs, outputs in zip(sizes, sizes[1:])
        for layer in (synapse(inputs, p), nn.Linear(inputs, outputs), neuron(p))
    ]
    return snn.Sequential(*layers, snn.DualExpFilter(8, 2))


def of_script(script):
    return lambda: script.network(config.resolve(ROOT / "configs" / f"{script.__name__}.yaml"))


CASES = {
    "MLP": Case(of_script(snn_mlp_1), 64, 25, (784,), repeats=True),
    "MNIST CNN": Case(of_script(snn_conv_1_mnist), 8, 25, (1, 28, 28), repeats=True),
    "gesture CNN": Case(gesture, 2, 50, (2, 128, 128)),
    "association": Case(association, 16, 300, (300,), association=True),
}
