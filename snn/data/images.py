"""Image datasets for the experiments: read once, kept as uint8 on the training device, encoded batch by batch."""

import math

import torch
import torch.nn.functional as F

from snn.base.errors import UserError
from snn.base.keys import NETWORK, PLACE, REQUIRED, Key, boolean, choice, fraction, list_of, number, size
from snn.data import augment, digits, mnist
from snn.data.augment import RandomAugment
from snn.data.base import RATE_SCALE, Split, dataset_keys, root_key, same_order, used

BATCHES_AT_ONCE = 16  # augmented together: small tensors cost more in calls than in arithmetic

SIDE = 28  # pixels
IN_TIME = "pixels", "permuted"  # encodings: one pixel at each step

NAMES = ("mnist", "digits")
_share = number("a number above 0, up to 1", lambda value: 0 < value <= 1)
KEYS = {
    "encoding": Key(
        "copy",
        choice("copy", "poisson", *IN_TIME),
        "copy: a pixel's value at every step; poisson: spikes at that rate; pixels: a pixel at each step, row by row, "
        "of an image shrunk to `length` pixels; permuted: the same, in one random order for all images",
        NETWORK,
    ),
    "dataset": dataset_keys(
        NAMES,
        root=root_key("data", "MNIST/raw"),
        download=Key(True, boolean, "download MNIST into root if it is not there", PLACE),
    ),
    "mnist_config": {
        "max_rate": Key(
            1, fraction, "poisson: probability of a spike at a white pixel", NETWORK, {"encoding": ["copy", *IN_TIME]}
        ),
        "use_transform": Key(True, boolean, "augment train and dev images"),
    },
    "transform": augment.KEYS,
    "hyperparameters": {
        "readout": Key(1, _share, "share of the output steps that counts, the last ones", NETWORK),
        "rate_scale": RATE_SCALE,
    },
}


_permutation = list_of(size, "a permutation of pixels", lambda order: sorted(order) == list(range(len(order))))
MEASURED = {"order": Key(REQUIRED, _permutation, "permuted: numbers of the pixels as they come")}


def measure(config):
    """Return what the encoding permuted depends on, as MEASURED has it; of other encodings nothing.

    Raises UserError if pixels are to come one at a time, and `length` is not the number of them in a square.
    """
    length = config["hyperparameters"]["length"]
    if config["encoding"] in IN_TIME and (length > SIDE**2 or math.isqrt(length) ** 2 != length):
        raise UserError(
            f"config: hyperparameters.length: {length} is not allowed with encoding {config['encoding']}, which has a "
            f"step for each pixel of a square image: use {SIDE**2}, or a smaller square"
        )
    return {"order": same_order(length).tolist()} if config["encoding"] == "permuted" else {}


class ImageSplit(Split):
    """Labelled images that come in batches of encoded sequences.

    Args:
        images, labels: `[N, 28, 28]`, 0 to 255, and `[N]` int64, on the device for the batches.
        encode: from images `[B, *shape]` (0 to 1) and a generator to `[T, B, *shape]`.
        shape: one image's shape as `encode` takes it.
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
        shape: the network's input shape at one step: (784,), (1, 28, 28), or (1,) for a pixel; None if it is not known.
    Raises UserError if the dataset is missing or broken, or the encoding is not one for the network.
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
    splits, encode = {}, encoder(config, device)
    for name, (images, labels) in parts.items():
        chosen = used(name, len(images), dataset[f"{name}_size"])
        images, labels = images[chosen].to(device), labels[chosen].to(device)
        augmented = None if name == "test" else augment
        splits[name] = ImageSplit(images, labels, encode, image_shape(config, shape), augmented)
    return splits, note


def image_shape(config, shape):
    """Return an image's shape for its encoding; `shape` is the network's input shape at one step, if it is known.

    Raises UserError if the network takes another number of values at a step than the encoding gives.
    """
    encoding = config["encoding"]
    values = 1 if encoding in IN_TIME else SIDE**2
    if shape and math.prod(shape) != values:
        raise UserError(
            f"config: encoding: {encoding} gives {values} values at a step, and the network takes {math.prod(shape)}"
        )
    return shape if shape and encoding not in IN_TIME else (1, SIDE, SIDE)


def encoder(config, device):
    """Return what encodes images on a device: from `[B, *shape]`, 0 to 1, and a generator to `[T, B, *shape]`.

    Raises UserError as `measure` does, and if `length` is not that of a trained network's order of pixels.
    """
    length = config["hyperparameters"]["length"]
    if config["encoding"] == "poisson":
        max_rate = config["mnist_config"]["max_rate"]
        return lambda images, generator: poisson(images, length, max_rate, generator)
    if config["encoding"] == "copy":
        return lambda images, _: copy(images, length)
    measured = measure(config) | config.get("measured", {})
    order = measured["order"] if config["encoding"] == "permuted" else range(length)
    if len(order) != length:
        raise UserError(
            f"config: hyperparameters.length: {length} is not allowed: the network was trained with {len(order)} "
            "pixels in an order of their own"
        )
    order = torch.tensor(order, device=device)  # once: from Python it waits for the device
    return lambda images, _: pixels(images, order)


def pixels(images, order):
    """Return one pixel at each step, of images shrunk to as many.

    Shape: images `[B, 1, 28, 28]`, and the pixels' numbers `[T]`, counted in rows -> `[T, B, 1]`.
    """
    return F.adaptive_avg_pool2d(images, math.isqrt(len(order))).flatten(1).T[order, :, None]


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
