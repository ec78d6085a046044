"""Event recordings for the tests, written byte by byte in their published formats."""

import struct

import pytest
import torch
from scripts import ROOT

from snn import config
from snn.data import datasets

CONFIGS = ROOT / "configs"


def load(experiment, root, *overrides):
    settings = config.resolve(
        CONFIGS / f"{experiment}.yaml", overrides=[f"dataset.root={root}", *overrides], warn=pytest.fail
    )
    return datasets.TABLE[settings["dataset"]["name"]].load(settings, torch.device("cpu"), None)[0]


def frames(split, count=None, generator=None):
    return next(split.batches(count or len(split), torch.Generator()))


def nmnist_bytes(rows):
    """Return rows (x, y, polarity, microseconds) in N-MNIST's format."""
    return b"".join(bytes([x, y]) + (polarity << 23 | time).to_bytes(3, "big") for x, y, polarity, time in rows)


def write_nmnist(root, recordings):
    """Write `recordings`: rows by file name, such as `Train/3/00001.bin`."""
    for name, rows in recordings.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(rows if isinstance(rows, bytes) else nmnist_bytes(rows))


def some_nmnist(count=6):
    """Write a few recordings whose digit follows from the place of their events."""
    return {
        f"{part}/{n % 10}/{n:05d}.bin": [(n, n, 1, 5000), (n, n, 0, 5000 + 12_000 * n)]
        for part, number in (("Train", count), ("Test", 3))
        for n in range(number)
    }


def polarity_packet(rows, overflow=0, valid=1):
    """Return a packet of rows (x, y, polarity, microseconds)."""
    body = b"".join(struct.pack("<II", x << 17 | y << 2 | polarity << 1 | valid, t) for x, y, polarity, t in rows)
    return struct.pack("<hhiiiiii", 1, 1, 8, 4, overflow, len(rows), len(rows), len(rows)) + body


SPECIAL = struct.pack("<hhiiiiii", 0, 1, 8, 4, 0, 1, 1, 1) + struct.pack("<II", 1, 7)
HEADER = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"
LABELS = "class,startTime_usec,endTime_usec\n1,1000,2000\n11,2000,2150\n"


def write_gesture(root, subjects=(1, 2, 3), test=(41, 42), aedat=None, labels=LABELS):
    """Write recordings of two clips per subject; a clip has one event per microsecond at x = subject, y = class."""
    root.mkdir(parents=True, exist_ok=True)
    for number in (*subjects, *test):
        rows = [(number, 1, 1, t) for t in range(1000, 1100)] + [(number, 11, 0, t) for t in range(2000, 2100)]
        name = f"user{number:02d}_led"
        (root / f"{name}.aedat").write_bytes(aedat or HEADER + SPECIAL + polarity_packet(rows) + SPECIAL)
        (root / f"{name}_labels.csv").write_text(labels)
    for part, numbers in (("train", subjects), ("test", test)):
        (root / f"trials_to_{part}.txt").write_text("".join(f"user{n:02d}_led.aedat\n" for n in numbers))


def cached_nmnist(folder):
    """Load a few recordings in a folder, which is the current one; return the path of the training cache."""
    write_nmnist(folder, some_nmnist())
    load("snn_conv_1_nmnist", ".")
    (path,) = folder.glob("data/cache/nmnist_train_*.h5")
    return path
