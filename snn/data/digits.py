"""The embedded handwritten digits of --demo: 1,797 real images of 8x8, values 0 to 16 (datasets/digits/README.md)."""

import numpy as np
import torch
import torch.nn.functional as F

from snn.base.files import reading, shipped
from snn.data.base import same_order

FILE = shipped("datasets") / "digits" / "digits.npz"
TRAIN_DEV = (1257, 180)
TEST = 360


def read():
    """Return the digits, enlarged to 28x28 and 0 to 255, in a fixed split.

    Returns ((train and dev images, labels), (test images, labels)): uint8 `[N, 28, 28]` and int64 `[N]`.
    """
    with reading(f"{FILE} is damaged ({{reason}}): get the project again"), np.load(FILE) as file:
        images, labels = torch.from_numpy(file["images"]), torch.from_numpy(file["labels"]).long()
    images = F.interpolate(images[:, None].float(), (28, 28), mode="bilinear")[:, 0].mul(255 / 16).round().byte()
    test, rest = same_order(len(images)).split((TEST, len(images) - TEST))
    return (images[rest], labels[rest]), (images[test], labels[test])
