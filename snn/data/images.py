"""Image datasets for the experiments: read once, kept as uint8 on the training device, encoded batch by batch."""

from functools import partial

import torch

from snn.base.keys import NETWORK, PLACE, Key, boolean, choice, fraction
from snn.data import augment, digits, mnist
from snn.data.augment import RandomAugment
from snn.data.base import Split, dataset_keys, root_key, same_order

BATCHES_AT_ONCE = 16  # augmented together: small tensors cost more in calls than in arithmetic

NAMES = ("mnist", "digits")
KEYS = {
    "encoding": Key(
        "copy", choice("copy", "poisson"), "copy: a pixel's value at every step; poisson: spikes at that rate", NETWORK
    ),
    "dataset": dataset_keys(
        NAMES,
        root=root_key("data", "MNIST/raw"),
        download=Key(True, boolean, "download MNIST into root if it is not there", PLACE),
    ),
    "mnist_config": {
        "max_rate": Key(1, fraction, "poisson: probability of a spike at a white pixel", NETWORK),
        "use_transform": Key(True, boolean, "augment train and dev images"),
    },
    "transform": augment.KEYS,
}


class ImageSplit(Split):
    """Labelled images that come in batches of encoded sequences.

    Args:
        images, labels: `[N, 28, 28]`, 0 to 255, and `[N]` int64, on the device for the batches.
        encode: from images `[B, *shape]` (0 to 1) and a generator to `[T, B, *shape]`.
        shape: one image's shape as the network takes it.
        augment: from images `[B, 28, 28]` (0 to 255) and a generator to the same; None for no augmentation.
    """

    def __init__(self, images, labels, encode, shape, augment=None):
        self.images, self.labels, self.encode, self.shape, self.augment = images, labels, encode, shape, augment
        self.device = images.device

    def __len__(self):
        return len(self.images)

    def batches_of(self, shares, generator):
        """Yield (x `[T, B, *shape]`, labels `[B]`) of each share."""
        for first in range(0, len(shares), BATCHES_AT_ONCE):
            sizes = [len(share) for share in shares[first : first + BATCHES_AT_ONCE]]
            block = torch.cat(shares[first : first + BATCHES_AT_ONCE])
            images = self.images[block].float()
            if self.augment:
                images = self.augment(images, generator)
            images = images.div_(255).view(-1, *self.shape)
            for batch, labels in zip(images.split(sizes), self.labels[block].split(sizes)):
                yield self.encode(batch, generator), labels


def load(config, device, shape):
    """Return the splits "train", "dev" and "test" of the config's image dataset, and a note for the test line.

    Train and dev images are augmented if `mnist_config.use_transform` is true, test images never.

    Args:
        shape: one image's shape as the network takes it: (784,) or (1, 28, 28).
    Returns (splits by name, note).
    Raises UserError if the dataset is missing or broken.
    """
    dataset = config["dataset"]
    if dataset["name"] == "digits":
        (images, labels), test = digits.read()
        sizes, note = digits.TRAIN_DEV, "embedded digits"
    else:
        (images, labels), test = mnist.read(dataset["root"], dataset["download"])
        sizes, note = mnist.TRAIN_DEV, ""
    train, dev = same_order(len(images)).split(sizes)
    parts = {"train": (images[train], labels[train]), "dev": (images[dev], labels[dev]), "test": test}
    augment = RandomAugment(config["transform"]) if config["mnist_config"]["use_transform"] else None
    splits = {}
    for name, (images, labels) in parts.items():
        size = dataset[f"{name}_size"] or len(images)
        images, labels = images[:size].to(device), labels[:size].to(device)
        augmented = None if name == "test" else augment
        splits[name] = ImageSplit(images, labels, partial(encode, config), shape or (1, 28, 28), augmented)
    return splits, note


def encode(config, images, generator):
    """Return images `[B, *shape]` (0 to 1) as a config's network takes them, `[T, B, *shape]`."""
    length = config["hyperparameters"]["length"]
    if config["encoding"] == "poisson":
        return poisson(images, length, config["mnist_config"]["max_rate"], generator)
    return copy(images, length)


def copy(images, length):
    """Return the real value of every pixel at every step.

    Shape: images `[B, *features]` -> `[T, B, *features]`, a view that repeats the images without copying them.
    """
    return images.expand(length, *images.shape)


def poisson(images, length, max_rate=1.0, generator=None):
    """Return spikes with probability pixel * max_rate (Bernoulli), drawn anew at each step.

    Shape: images `[B, *features]`, values 0 to 1 -> spikes (0 or 1) `[T, B, *features]` of the same dtype.
    """
    uniform = torch.rand(length, *images.shape, generator=generator, device=images.device, dtype=images.dtype)
    return torch.lt(uniform, images * max_rate, out=uniform)
