"""MNIST (LeCun, Cortes, Burges), in torchvision's folder layout: 60,000 training and 10,000 test images."""

import os
import shutil
import tempfile
from pathlib import Path

import torch

from snn.base.errors import UserError, reading

TRAIN_DEV = (50_000, 10_000)
FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
BY_HAND = "or put its four files there, or set dataset.root to the folder that holds MNIST/raw; --demo needs no data"


def read(root, download=True):
    """Read MNIST from `root`/MNIST/raw; download it first if it is missing.

    Returns ((train images, labels), (test images, labels)): uint8 `[N, 28, 28]` and int64 `[N]`.
    Raises UserError if it is missing and can't be downloaded, or if a file is broken.
    """
    root = Path(root).expanduser()
    if not _is_in(root):
        if not download:
            raise UserError(f"MNIST is not in {root / 'MNIST/raw'}: set dataset.download to true, {BY_HAND}")
        _download(root)
    datasets = _torchvision_datasets()
    parts = []
    for train, count in ((True, sum(TRAIN_DEV)), (False, 10_000)):
        files = root / "MNIST" / "raw" / ("train" if train else "t10k")
        broken = f"MNIST is broken, {files}-* ({{reason}}): delete these files to download them again"
        with reading(broken):
            part = datasets.MNIST(root, train=train)
        images, labels = part.data, part.targets
        if images.shape != (count, 28, 28) or labels.shape != (count,) or labels.max() > 9:
            shapes = f"{list(images.shape)} images, {list(labels.shape)} labels"
            raise UserError(broken.replace("{reason}", shapes))
        parts.append((images, labels))
    return parts


def _is_in(root):
    """Whether all four files are present, unpacked."""
    raw = root / "MNIST" / "raw"
    return all((raw / name).is_file() for name in FILES)


def _download(root):
    """Download to a temporary folder, then rename: a killed or failed download leaves nothing that looks complete."""
    datasets = _torchvision_datasets()
    existed = root.is_dir()
    try:
        root.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix="MNIST-", dir=root))
    except OSError as error:
        raise UserError(f"MNIST can't be written to {root}: {error.strerror}; set another dataset.root") from None
    try:
        print(f"downloading MNIST into {root / 'MNIST'}", flush=True)
        datasets.MNIST(beside, download=True)
        (root / "MNIST" / "raw").mkdir(parents=True, exist_ok=True)
        for name in FILES:
            os.replace(beside / "MNIST" / "raw" / name, root / "MNIST" / "raw" / name)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        where = root / "MNIST" / "raw"
        raise UserError(f"MNIST is not in {where} and can't be downloaded ({reason}): try again, {BY_HAND}") from None
    finally:
        shutil.rmtree(beside)
        if not existed and not any(root.iterdir()):
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
