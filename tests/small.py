"""Small networks, data and trainers, with the config of snn_mlp_1."""

import torch
from scripts import ROOT
from torch import nn

import snn
from snn import checkpoint, config
from snn.data.images import ImageSplit, copy, poisson
from snn.run.trainer import Trainer
from snn.tasks.classification import Classification

CONFIG = ROOT / "configs/snn_mlp_1.yaml"


def resolve(*overrides):
    return config.resolve(CONFIG, overrides=overrides)


def make_net():
    torch.manual_seed(0)
    return snn.Sequential(snn.FirstOrderLowPass(784, 4), nn.Linear(784, 10), snn.SpikingNeuron(4))


def make_split(count):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (count, 28, 28), dtype=torch.uint8, generator=generator)
    labels = torch.randint(10, (count,), generator=generator)
    return ImageSplit(images, labels, lambda batch, _: copy(batch, 5), (784,))


def make_trainer(folder, *overrides, net=None, resume_from=None):
    """Return a Trainer on 40 noise images in batches of 8."""
    words = ("hyperparameters.batch_size=8", "hyperparameters.epoch=1", f"checkpoint_base_path={folder / 'checkpoint'}")
    settings = resolve(*words, *overrides)
    torch.manual_seed(0)
    if net is None:
        net = snn.Sequential(
            snn.DualExpIIR(784, 4, 1), nn.Linear(784, 20), snn.SpikingNeuron(4),
            snn.FirstOrderLowPass(20, 4), nn.Linear(20, 10), snn.SpikingNeuron(4),
        )  # fmt: skip
        with torch.no_grad():
            net[1].weight.mul_(5)  # so that it spikes
            net[4].weight.mul_(5)
    images = torch.randint(256, (40, 28, 28), dtype=torch.uint8)
    split = ImageSplit(images, torch.randint(10, (40,)), lambda batch, noise: poisson(batch, 5, 1, noise), (784,))
    if resume_from:
        checkpoint.load_model(net, resume_from, "last.pt")
    return Trainer(net, {"train": split, "dev": split}, settings, Classification(), resume_from)
