"""The networks that the benchmarks measure, each with an input and a loss like its experiment's."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F

import associative_memory
import sequential_mnist
import snn
import snn_conv_1_gesture
import snn_conv_1_mnist
import snn_mlp_1
from snn import config
from snn.data.images import ImageSplit
from snn.layers.start import initialize

ROOT = Path(__file__).parents[1]


class Case(NamedTuple):
    make: Callable  # the network
    batch: int
    length: int
    shape: tuple  # of one step's input
    association: bool = False  # mean squared error of a filtered output; else cross-entropy of spike counts
    repeats: bool = False  # whether every step's input is the same (copy encoding)

    def input(self):
        """Return `[T, B, *shape]`: pixel values, or spikes at 5 % of the places."""
        if self.repeats:
            return torch.rand(self.batch, *self.shape).expand(self.length, -1, *(-1 for _ in self.shape))
        return (torch.rand(self.length, self.batch, *self.shape) < 0.05).float()

    def loss(self, device):
        """Return a function from the output `[T, B, *]` to the loss."""
        if self.association:
            target = torch.rand(self.length, self.batch, 300, device=device)
            return lambda y: F.mse_loss(y, target)
        labels = torch.randint(10, (self.batch,), device=device)
        return lambda y: F.cross_entropy(y.sum(0), labels)


def mlp(*sizes):
    """Return filters, a product and neurons for each two of these sizes in turn."""
    layers = []
    for of_input, size in pairwise(sizes):
        layers += [snn.DualExpIIR(of_input, 4, 1), snn.Linear(of_input, size), snn.SpikingNeuron(4)]
    return snn.Sequential(*layers)


def random_images(split, count, device="cpu"):
    """Return a split of this many random images and labels, with all else of another one."""
    images = torch.randint(256, (count, 28, 28), dtype=torch.uint8, device=device)
    return ImageSplit(images, torch.randint(10, (count,), device=device), split.encode, split.shape, split.augment)


def of_script(script):
    """Return a function that makes an experiment's network, with weights as before training."""

    def make():
        settings = config.resolve(ROOT / "configs" / f"{script.__name__}.yaml", warn=lambda line: None)
        net = script.network(settings)
        initialize(net, settings["hyperparameters"])
        return net

    return make


CASES = {
    "MLP": Case(of_script(snn_mlp_1), 64, 25, (784,), repeats=True),
    "MNIST CNN": Case(of_script(snn_conv_1_mnist), 8, 25, (1, 28, 28), repeats=True),
    "gesture CNN": Case(of_script(snn_conv_1_gesture), 2, 50, (2, 128, 128)),
    "association": Case(of_script(associative_memory), 16, 300, (300,), association=True),
    "pixels in time": Case(of_script(sequential_mnist), 32, 784, (1,)),
}
BATCH_ON_CUDA = {"MNIST CNN": 64, "gesture CNN": 16}  # the experiments' own


def case_on(device, name):
    """Return a network's case with the batch that it is measured with on a device."""
    batch = BATCH_ON_CUDA.get(name) if device == "cuda" else None
    return CASES[name]._replace(batch=batch) if batch else CASES[name]
