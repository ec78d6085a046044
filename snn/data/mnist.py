"""MNIST (LeCun, Cortes, Burges), in torchvision's folder layout: 60,000 training and 10,000 test images."""

import gzip
import math
import os
from pathlib import Path

import numpy as np
import torch

from snn.base.errors import UserError
from snn.base.files import reading, unfinished
from snn.base.output import say

TRAIN_DEV = (50_000, 10_000)
COUNTS = {"train": sum(TRAIN_DEV), "t10k": 10_000}
KINDS = {"images-idx3-ubyte": (28, 28), "labels-idx1-ubyte": ()}
FILES = tuple(f"{part}-{kind}" for part in COUNTS for kind in KINDS)
BY_HAND = "or put its four files there, or set dataset.root to the folder that holds MNIST/raw; --demo needs no data"


def read(root, download=True):
    """Read MNIST from `root`/MNIST/raw, its files unpacked or .gz as distributed; download it first if it is missing.

    Returns ((train images, labels), (test images, labels)): uint8 `[N, 28, 28]` and int64 `[N]`.
    Raises UserError if it is missing and can't be downloaded, or if a file is broken.
    """
    raw = Path(root) / "MNIST" / "raw"
    if not all(map(os.path.exists, _files(raw))):
        if not download:
            raise UserError(f"MNIST is not in {raw}: set dataset.download to true, {BY_HAND}")
        _download(Path(root), raw)
    files = iter(_files(raw))
    return [tuple(_read_idx(next(files), (count, *shape)) for shape in KINDS.values()) for count in COUNTS.values()]


def _files(raw):
    """Return the paths of the four files: unpacked, or else .gz."""
    return [raw / name if (raw / name).exists() else raw / f"{name}.gz" for name in FILES]


def _read_idx(file, shape):
    """Return the tensor in a file of the IDX format, http://yann.lecun.com/exdb/mnist: uint8, labels as int64."""
    broken = f"MNIST is broken, {file} ({{reason}}): delete it, and MNIST is downloaded again"
    with reading(broken, file), (gzip.open if file.suffix == ".gz" else open)(file, "rb") as content:
        header = np.array([0x800 + len(shape), *shape], ">i4").tobytes()
        data = content.read(len(header) + math.prod(shape) + 1)  # to its end, where gzip checks the checksum
        if not data.startswith(header) or len(data) != len(header) + math.prod(shape):
            raise ValueError(f"it does not hold {' x '.join(map(str, shape))} values")
        values = torch.from_numpy(np.frombuffer(data, np.uint8, offset=len(header)).reshape(shape).copy())
        if len(shape) == 1 and values.max() > 9:
            raise ValueError(f"it has the label {values.max()}")
    return values if len(shape) > 1 else values.long()


def _download(root, raw):
    """Download to a temporary folder, then rename: a killed or failed download leaves nothing that looks complete."""
    datasets, existed = _torchvision_datasets(), root.is_dir()
    try:
        with unfinished(root / "MNIST") as beside:
            say(f"downloading MNIST into {root / 'MNIST'}")
            with reading(f"MNIST is not in {raw} and can't be downloaded ({{reason}}): try again, {BY_HAND}"):
                datasets.MNIST(beside, download=True)
            raw.mkdir(parents=True, exist_ok=True)
            for name in FILES:
                os.replace(beside / "MNIST" / "raw" / name, raw / name)
    finally:
        if not existed and root.is_dir() and not any(root.iterdir()):
            root.rmdir()


def _torchvision_datasets():
    try:
        from torchvision import datasets  # only here: its wheel fails to import with a CPU-only torch
    except Exception as error:
        raise UserError(
            f"MNIST needs torchvision, which fails to import with torch {torch.__version__} "
            f"({' '.join(str(error).split())}): install matching versions of both; --demo needs no torchvision"
        ) from None
    return datasets
