"""Electrocardiograms as spikes, with a class at every step: QTDB, which ships (datasets/ecg/README.md)."""

import zipfile
from pathlib import Path

import numpy as np
import torch

from snn.base.errors import UserError
from snn.base.files import read_entry, reading, shipped
from snn.base.keys import NETWORK, PLACE, Key, choice, typed_path
from snn.base.output import note
from snn.data import series
from snn.data.base import Split, dataset_keys, used

SHIPPED = shipped("datasets") / "ecg" / "qtdb.npz"
LINES, CLASSES = 4, 6
DEV_SHARE = 0.1

NAMES = ("qtdb",)
KEYS = {
    "encoding": Key(
        "bank", choice("bank", "current"), "bank: each line goes into several synapses; current: into one", NETWORK
    ),
    "dataset": dataset_keys(NAMES, file=Key("", typed_path, "a .npz file like that which ships; empty: that", PLACE)),
    "hyperparameters": {key: series.KEYS["hyperparameters"][key] for key in ("hidden", "lines")},
}


class StepSplit(Split):
    """Records with a class at every step.

    Args:
        x: `[N, T, LINES]` int8, on the device for the batches.
        y: `[N, T]` int8, classes, on the same device.
    """

    def __init__(self, x, y):
        self.x, self.y, self.device, self.length = x, y, x.device, x.shape[1]

    def __len__(self):
        return len(self.x)

    def batch(self, indices, generator):
        """Return x `[T, B, LINES]` and classes `[T, B]`."""
        return self.x[indices].transpose(0, 1).float().contiguous(), self.y[indices].t().long()


def load(config, device, shape):
    """Return the splits "train", "dev" and "test", and the name of the dataset, or of its file, for the test line.

    Dev is a tenth of the training records, or `dataset.dev_size` of them, drawn with the run's seed. Raises UserError
    if the file is missing or broken, or dev leaves nothing to train on.
    """
    dataset = config["dataset"]
    path = dataset["file"] or SHIPPED
    with reading(f"{path} can't be read ({{reason}}): {SHIPPED.parent / 'README.md'} says what it holds", path):
        with zipfile.ZipFile(path) as archive:
            names = (f"{part}_{kind}" for part in ("train", "test") for kind in "xy")
            x, y, test_x, test_y = (read_entry(archive, name) for name in names)
        parts = {"train": _checked(x, y), "test": _checked(test_x, test_y)}
    length = config["hyperparameters"]["length"]
    if x.shape[1] != length:
        note(f"hyperparameters.length: {length}, but records of {path} have {x.shape[1]} steps, and all of them run")
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(config["pytorch_seed"]))
    n_dev = dataset["dev_size"] or max(1, round(DEV_SHARE * len(x)))
    if n_dev >= len(x):
        raise UserError(f"{n_dev} of {len(x)} training records for dev leave none to train on: see dataset.dev_size")
    x, y = parts["train"]
    parts |= {"dev": (x[order[:n_dev]], y[order[:n_dev]]), "train": (x[order[n_dev:]], y[order[n_dev:]])}
    splits = {}
    for name, part in parts.items():
        chosen = used(name, len(part[0]), dataset[f"{name}_size"])
        splits[name] = StepSplit(*(values[chosen].to(device) for values in part))
    return splits, Path(path).name if dataset["file"] else dataset["name"]


def _checked(x, y):
    """Return spikes `[N, T, LINES]` and classes `[N, T]` as int8 tensors; raise ValueError if they are others."""
    if x.ndim != 3 or x.shape[2] != LINES or y.shape != x.shape[:2] or not x.size:
        raise ValueError(f"x is {list(x.shape)} and y {list(y.shape)}, not [N, T, {LINES}] and [N, T]")
    if x.dtype.kind not in "iu" or y.dtype.kind not in "iu" or not -127 <= x.min() <= x.max() <= 127:
        raise ValueError("it holds other numbers than small integers")
    if not 0 <= y.min() <= y.max() < CLASSES:
        raise ValueError(f"it has classes other than 0 to {CLASSES - 1}")
    return torch.from_numpy(x.astype(np.int8)), torch.from_numpy(y.astype(np.int8))
