"""Mutated inputs of every kind: read as something, or one line that says where; never anything else.

Each case follows from its number. `pytest -m slow tests/test_fuzz.py` runs thousands.
"""

import gzip
import json
import random
import shutil
import struct
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from recordings import load, some_nmnist, write_gesture, write_nmnist
from scripts import ROOT
from test_config import resolve
from test_series import write_toy

import snn
from snn import checkpoint, config, report
from snn.base.errors import UserError
from snn.data import mnist, patterns, series

STRINGS = [
    b"\0", b"\xff\xfe", b"'", b"{", b"[", b"*a", b"&a ", b"!!int ", b": ", b"- ", b"\n", b"%", b"{reason}", b"-1",
    b"1e999", b"nan", b"../", b"null", b"#", b"\xe2\x80\xa8", b"9" * 40, b"|", b",", b"\t",
]  # fmt: skip


def mutated(content, draw):
    """Bytes with a few of their bytes changed, removed, doubled, or something foreign put in."""
    content = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 5])):
        at = draw.randrange(len(content) + 1)
        size = draw.choice([1, 1, 4, 30])
        how = draw.randrange(6)
        if how == 0 and content:
            content[at % len(content)] ^= 1 << draw.randrange(8)
        elif how == 1:
            del content[at : at + size]
        elif how == 2:
            content[at:at] = content[at : at + size]
        elif how == 3:
            content[at:at] = draw.choice(STRINGS)
        elif how == 4:
            content[at : at + size] = bytes(draw.randrange(256) for _ in range(size))
        else:
            del content[at:]
    return bytes(content)


def nmnist_folder(folder):
    write_nmnist(folder, some_nmnist())


def nmnist_zip(folder):
    for part in ("Train", "Test"):
        write_nmnist(folder, some_nmnist())
        with zipfile.ZipFile(folder / f"{part}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted((folder / part).rglob("*.bin")):
                archive.write(file, f"{part}/{file.parent.name}/{file.name}")
        shutil.rmtree(folder / part)


def make_patterns(folder):
    drawing = np.kron(np.random.default_rng(0).integers(0, 2, (30, 30)) * 200, np.ones((10, 10))).astype(np.uint8)
    Image.fromarray(drawing).save(folder / "0.png")


def make_array(folder):
    np.save(folder / "p.npy", np.ones((1, 300, 300), np.uint8))


def make_checkpoint(folder):
    net = snn.Sequential(snn.FirstOrderLowPass(3, 4), torch.nn.Linear(3, 2))
    torch.save({"config": resolve()[0], "epoch": 3, "model": net.state_dict()}, folder / "c.pt")


def read_checkpoint(folder):
    """What is read of a mutated checkpoint is what was written."""
    net = snn.Sequential(snn.FirstOrderLowPass(3, 4), torch.nn.Linear(3, 2))
    checkpoint.load_model(net, checkpoint.load(folder / "c.pt", "snn_mlp_1"), folder / "c.pt")
    return [value.tolist() for value in net.state_dict().values()]


def read_recordings(name, *overrides):
    """Return what the splits hold, to compare."""
    splits = load(name, ".", *overrides)
    return [(split.fingerprint(), split.labels.tolist()) for split in splits.values()]


def gesture_archive(folder):
    write_gesture(folder / "unpacked")
    with tarfile.open(folder / "DvsGesture.tar.gz", "w:gz") as archive:
        for file in sorted((folder / "unpacked").iterdir()):
            archive.add(file, f"DvsGesture/{file.name}")
    shutil.rmtree(folder / "unpacked")


def nmnist_cache(folder):
    nmnist_folder(folder)
    load("snn_conv_1_nmnist", ".")


def mnist_file(folder):
    (folder / "labels.gz").write_bytes(gzip.compress(struct.pack(">2i", 2049, 5000) + bytes(range(10)) * 500, mtime=0))


def make_run(folder):
    (kept,) = (ROOT / "results/snn_mlp_2").iterdir()
    for name in ("config.yaml", "metrics.csv", "result.json"):
        shutil.copy(kept / name, folder)
    json.loads((folder / "result.json").read_text())


def read_series(folder):
    settings = config.resolve(ROOT / "configs/time_series.yaml", overrides=["dataset.name=Toy", "dataset.root=."])
    return series.load(settings, torch.device("cpu"), None)


def read_gesture(folder):
    return load("snn_conv_1_gesture", ".", "hyperparameters.length=2")


# kind: (makes files in a folder, those that are mutated, reads them)
# What of these has a checksum is read as it was written, or not at all.
CHECKED = {"N-MNIST zip", "gesture archive", "cache", "checkpoint", "MNIST"}
KINDS = {
    "config": (lambda folder: shutil.copy(ROOT / "configs/snn_conv_1_mnist.yaml", folder), "*.yaml",
               lambda folder: resolve(config_file=next(folder.glob("*.yaml")))),
    "N-MNIST folder": (nmnist_folder, "Train/*/*.bin", lambda folder: load("snn_conv_1_nmnist", ".")),
    "N-MNIST zip": (nmnist_zip, "*.zip", lambda folder: read_recordings("snn_conv_1_nmnist")),
    "gesture archive": (gesture_archive, "*.tar.gz",
                        lambda folder: read_recordings("snn_conv_1_gesture", "hyperparameters.length=2")),
    "cache": (nmnist_cache, "data/cache/*.h5", lambda folder: read_recordings("snn_conv_1_nmnist")),
    "MNIST": (mnist_file, "labels.gz", lambda folder: mnist._read_idx(folder / "labels.gz", (5000,)).tolist()),
    "gesture recording": (write_gesture, "*.aedat", read_gesture),
    "gesture labels": (write_gesture, "*.csv", read_gesture),
    "gesture lists": (write_gesture, "*.txt", read_gesture),
    "time series": (write_toy, "Toy/*.ts", read_series),
    "drawing": (make_patterns, "*.png", lambda folder: patterns.read(folder, 300)),
    "array": (make_array, "*.npy", lambda folder: patterns.read(folder / "p.npy", 300)),
    "checkpoint": (make_checkpoint, "*.pt", read_checkpoint),
    "run": (make_run, "*.*", report.read_run),
}  # fmt: skip


def check(kind, folder, case, monkeypatch):
    make, names, read = KINDS[kind]
    monkeypatch.chdir(folder)
    make(folder)
    whole = read(folder) if kind in CHECKED else None
    if kind != "cache":
        shutil.rmtree("data", ignore_errors=True)  # a cache of what is whole
    draw = random.Random(f"{kind} {case}")
    file = draw.choice(sorted(folder.glob(names)))
    file.write_bytes(mutated(file.read_bytes(), draw))
    before = {path for path in folder.rglob("*") if "data/cache" not in str(path)}
    try:
        found = read(folder)
        assert kind not in CHECKED or found == whole
    except UserError as error:
        text = str(error)
        assert "\n" not in text and len(text) < 400, text
    assert {path for path in folder.rglob("*") if "data" not in path.parts} - before <= {folder / "data"}


@pytest.mark.parametrize("kind", KINDS)
def test_mutated(kind, tmp_path, monkeypatch, capsys):
    for case in range(30):
        folder = tmp_path / str(case)
        folder.mkdir()
        check(kind, folder, case, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_mutated_many_times(kind, tmp_path, monkeypatch, capsys):
    for case in range(30, 330):
        folder = tmp_path / str(case)
        folder.mkdir()
        check(kind, folder, case, monkeypatch)
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(folder)


def test_mutated_overrides():
    keys = ["hyperparameters.epoch", "optimizer.Adam.lr", "scheduler.MultiStepLR.milestones", "dataset.root", "nothing"]
    for case in range(500):
        draw = random.Random(case)
        text = mutated(f"{draw.choice(keys)}=3".encode(), draw).decode("utf-8", "replace")
        try:
            resolve(text)
        except UserError as error:
            assert "\n" not in str(error) and len(str(error)) < 400, str(error)
