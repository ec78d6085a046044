"""Mutated inputs of every kind: read as something, or one line that says where; never anything else.

Each case follows from its kind and number, and from SNN_FUZZ, a text. `pytest -m slow tests/test_fuzz.py` runs 6,480.
"""

import copy
import functools
import gzip
import json
import os
import random
import re
import shutil
import struct
import sys
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from recordings import frames, load, some_nmnist, write_gesture, write_nmnist
from scripts import ROOT
from small import make_trainer
from test_config import resolve
from test_ecg import load as load_heartbeats
from test_ecg import write as write_heartbeats
from test_report import write_run
from test_series import write_toy
from test_series_files import write_as

import snn
import snn_mlp_1
from snn import checkpoint, config, report
from snn.base.errors import UserError
from snn.checkpoint import published
from snn.checkpoint.__main__ import convert, release
from snn.data import mnist, patterns, series
from snn.look.board import Board

pytestmark = pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
CASES, MANY = 20, 240  # of each kind, by default and with `-m slow`
SEED = os.environ.get("SNN_FUZZ", "")
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


def read_series(folder):
    settings = config.resolve(ROOT / "configs/time_series.yaml", overrides=["dataset.name=Toy", "dataset.root=."])
    splits, _ = series.load(settings, torch.device("cpu"), None)
    return [(split.fingerprint(), split.labels.tolist()) for split in splits.values()]


def read_heartbeats(folder):
    splits, _ = load_heartbeats("dataset.file=own.npz")
    return [(split.x.tolist(), split.y.tolist()) for split in splits.values()]


def read_gesture(folder):
    return load("snn_conv_1_gesture", ".", "hyperparameters.length=2")


# What a field may hold instead, in a checkpoint, a config, a table or a cache.
TEXTS = ["", "..", "-demo", "this", "$x_$", "a\0b", "\ud800", "caf\udce9", "../up", "x" * 300, "\n", "1e999", "nan"]
ODD = [None, True, -1, 0, 3, 2**31, 10**30, 10**400, 0.5, float("nan"), float("inf"), -1e308, [], {}, [1], {"a": 1},
       (1, 2), b"bytes", torch.tensor(2.0), torch.ones(2), torch.zeros(0), *TEXTS]  # fmt: skip
TENSORS = [
    torch.Tensor.double, torch.Tensor.half, torch.Tensor.long, torch.Tensor.bool, torch.Tensor.to_sparse,
    lambda x: x.to(torch.complex64), lambda x: x.to(torch.float8_e4m3fn), lambda x: x.to("meta"), lambda x: x[None],
    lambda x: torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8), lambda x: x.flatten()[:0],
    lambda x: x * float("nan"), lambda x: x.float() * 1e38 * 1e38, lambda x: x.flatten().expand(10**6, -1),
    lambda x: -x, torch.zeros_like,
]  # fmt: skip


def change(tree, draw):
    """Change one place of nested dicts and lists: another value, another tensor, or nothing there."""
    while True:
        key = draw.choice(sorted(tree, key=str) if isinstance(tree, dict) else range(len(tree)))
        if not isinstance(tree[key], (dict, list, tuple)) or not tree[key] or draw.random() < 0.1:
            break
        if isinstance(tree[key], tuple):
            tree[key] = list(tree[key])
        tree = tree[key]
    if torch.is_tensor(tree[key]) and draw.random() < 0.7:
        tree[key] = draw.choice(TENSORS)(tree[key])
    elif draw.random() < 0.15:
        del tree[key]
    else:
        tree[key] = draw.choice(ODD)


def bytes_of(make, names, read, is_checked=False):
    """Return a kind: files of which one has other bytes. With `is_checked`, what is read is what was written."""

    def case(draw, folder):
        make(folder)
        whole = read(folder) if is_checked else None
        if make is not nmnist_cache:
            shutil.rmtree("data", ignore_errors=True)  # a cache of what is whole
        file = draw.choice(sorted(folder.glob(names)))
        file.write_bytes(mutated(file.read_bytes(), draw))
        before = set(folder.rglob("*"))
        try:
            found = read(folder)
            assert not is_checked or found == whole
        finally:
            assert {path.relative_to(folder).parts[0] for path in set(folder.rglob("*")) - before} <= {"data"}

    return case


PRESERVED = "states=preserved", "checkpoint_every=2", "hyperparameters.epoch=2"


@functools.cache
def whole_checkpoint():
    """A run's checkpoint in the middle of dev of its second epoch, with preserved states."""
    folder = Path.cwd()
    make_trainer(folder, *PRESERVED).fit()
    return torch.load(folder / "checkpoint/snn_mlp_1/previous.pt", weights_only=True)


def resumed(draw, folder):
    """A checkpoint with another field, from which a run goes on."""
    saved = copy.deepcopy(whole_checkpoint())
    change(saved, draw)
    shutil.rmtree("checkpoint", ignore_errors=True)
    Path("checkpoint/snn_mlp_1").mkdir(parents=True)
    torch.save(saved, "checkpoint/snn_mlp_1/last.pt")
    saved, path = checkpoint.load_to_resume("checkpoint/snn_mlp_1", "snn_mlp_1")
    trainer = make_trainer(folder, *PRESERVED, resume_from=saved)
    config.check_resumed(trainer.config, saved["config"], len(saved["history"]))
    trainer.fit()
    assert all(value.isfinite().all() for value in trainer.net.state_dict().values())


@functools.cache
def whole_weights(is_published):
    settings = resolve()[0]
    torch.manual_seed(0)
    net = snn_mlp_1.network(settings)
    history = [{"epoch": 0, "train_loss": 1.5}]
    ours = {"config": settings, "epoch": 3, "model": dict(net.state_dict()), "history": history}
    return published.from_checkpoint(ours, net) if is_published else ours


def weights(draw, folder, is_published=False):
    """A checkpoint with another field, whose network is loaded, converted and released."""
    saved = copy.deepcopy(whole_weights(is_published))
    change(draw.choice([saved, *(value for value in saved.values() if isinstance(value, dict) and value)]), draw)
    torch.save(saved, "snn_mlp_1.pt")
    do = draw.choice([snn.load, lambda path: convert(path, "out"), lambda path: release(path, "out", half=True)])
    do("snn_mlp_1.pt")
    if Path("out").exists():
        written = torch.load("out", weights_only=True)
        written = written.get("model") or written["snn_state_dict"]
        assert all(value.isfinite().all() for value in written.values())


def class_name(draw, folder):
    """A class of one's own in a config: modules that raise, exit, and are none."""
    modules = {
        "mine": "import snn\nclass Neuron(snn.SpikingNeuron): pass", "raises": "raise ValueError('my own')",
        "exits": "import sys; sys.exit(0)", "broken": "def f(:", "other": "import nowhere",
        "asks": "def __getattr__(name): raise KeyError(name)", "base": "class E(BaseException): pass\nraise E",
    }  # fmt: skip
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    name = draw.choice([f"{module}.Neuron" for module in modules] + ["./my.Class", "..X", "snn.Layer", *TEXTS])
    if draw.random() < 0.5:
        name = mutated(name.encode(errors="surrogatepass"), draw).decode("utf-8", "replace")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        try:
            resolve(f"hyperparameters.{draw.choice(['neuron', 'surrogate', 'synapse_type'])}={json.dumps(name)}")
        finally:
            for module in modules:
                sys.modules.pop(module, None)


def series_text(draw, folder):
    """A text file of series with other words and numbers."""
    write_as(folder, draw.choice([".ts", ".tsv", ".arff", ".csv"]))
    file = draw.choice(sorted(folder.glob("Toy/*")))
    words = re.split(r"([,:\s])", file.read_text())
    for _ in range(draw.choice([1, 1, 3])):
        words[draw.randrange(len(words))] = draw.choice(
            ["", "?", "NaN", "1e308", "-1e308", "1e-320", "9" * 400, "1_0", "\u0663", "0x1", ":", "up", "true", "@data",
             "\t", "\u2028", "\x1c", '"', "'", "label", "{", "%"]
        )  # fmt: skip
    file.write_text("".join(words))
    read_series(folder)


def run_folder(draw, folder):
    """A run whose config, metrics, result or folder's name is another one, in a report."""
    write_run(folder / "runs/a/1", result={"best_epoch": 1, "test": 97.5, "samples": {"train": 5}, "on": "x"})
    one = folder / "runs" / draw.choice(["a/2", "$x_$", "caf\udce9", "a b|c"])
    write_run(one, "associative_memory", [(0, 0.3, 0.2), (1, 0.2, 0.1)], {"best_epoch": 1, "test": 0.5, "on": "x"})
    what = draw.randrange(4)
    if what == 0:
        settings = yaml.safe_load((one / "config.yaml").read_text())
        settings["experiment_name"] = draw.choice([*TEXTS, "snn_mlp_1", None, 3, []])
        (one / "config.yaml").write_text(yaml.safe_dump(settings))
    elif what == 1:
        cells = re.split(r"([,\n])", (one / "metrics.csv").read_text())
        cells[draw.randrange(len(cells))] = draw.choice([*TEXTS, "1e308", "dev_acc", "dev_$x_$", "dev_../a"])
        (one / "metrics.csv").write_bytes("".join(cells).encode(errors="surrogatepass"))
    elif what == 2:
        result = json.loads((one / "result.json").read_text())
        result[draw.choice(sorted(result))] = draw.choice([*TEXTS, None, 3, 10**400, 1e308, [], {"a": None}])
        (one / "result.json").write_text(json.dumps(result))
    else:
        (one / "back").symlink_to(folder / "runs")
    if draw.random() < 0.9:  # a picture takes long
        report.table([report.read_run(path) for path in report._run_folders(folder / "runs")]).encode()
        return
    try:
        report.main(["runs"])
    except SystemExit as end:
        assert end.code == 2


def cache_fields(draw, folder):
    """A cache of which a column or an attribute is another one; checksums are right."""
    nmnist_cache(folder)
    with h5py.File(draw.choice(sorted(folder.glob("data/cache/*.h5"))), "r+") as file:
        name = draw.choice([*sorted(file), "skipped", "version"])
        if name not in file:
            file.attrs[name] = draw.choice([-1, 2.5, "x", [1, 2], 2**62])
        else:
            values = file[name][:]
            del file[name]
            how = draw.randrange(6)
            if how == 0:
                values[draw.randrange(len(values)) :] = draw.choice([-1, 9, 10, 3000, 2**31 - 1]) % 2**16
            elif how < 5:
                values = [values[::-1], values[:-1], values[None], np.arange(len(values)) / 2][how - 1]
            if how < 5:
                file[name] = values
    for split in load("snn_conv_1_nmnist", ".").values():
        frames(split)


def override(draw, folder):
    keys = ["hyperparameters.epoch", "optimizer.Adam.lr", "scheduler.MultiStepLR.milestones", "dataset.root", "nothing"]
    resolve(mutated(f"{draw.choice(keys)}=3".encode(), draw).decode("utf-8", "replace"))


def kept_config(folder):
    shutil.copy(ROOT / "configs/snn_conv_1_mnist.yaml", folder)


KINDS = {
    "config": bytes_of(kept_config, "*.yaml", lambda folder: resolve(config_file=next(folder.glob("*.yaml")))),
    "override": override,
    "class name": class_name,
    "N-MNIST folder": bytes_of(nmnist_folder, "Train/*/*.bin", lambda folder: load("snn_conv_1_nmnist", ".")),
    "N-MNIST zip": bytes_of(nmnist_zip, "*.zip", lambda folder: read_recordings("snn_conv_1_nmnist"), True),
    "gesture archive": bytes_of(
        gesture_archive, "*.tar.gz",
        lambda folder: read_recordings("snn_conv_1_gesture", "hyperparameters.length=2"), True,
    ),
    "gesture recording": bytes_of(write_gesture, "*.aedat", read_gesture),
    "gesture labels": bytes_of(write_gesture, "*.csv", read_gesture),
    "gesture lists": bytes_of(write_gesture, "*.txt", read_gesture),
    "cache": bytes_of(nmnist_cache, "data/cache/*.h5", lambda folder: read_recordings("snn_conv_1_nmnist"), True),
    "cache, fields": cache_fields,
    "MNIST": bytes_of(
        mnist_file, "labels.gz", lambda folder: mnist._read_idx(folder / "labels.gz", (5000,)).tolist(), True
    ),
    "time series": bytes_of(write_toy, "Toy/*.ts", read_series),
    **{f"time series, {suffix}": bytes_of(functools.partial(write_as, suffix=suffix), "Toy/*", read_series)
       for suffix in (".tsv", ".arff", ".csv")},
    "time series, .npz": bytes_of(functools.partial(write_as, suffix=".npz"), "Toy/*", read_series, True),
    "time series, words": series_text,
    "heartbeats": bytes_of(lambda folder: write_heartbeats(folder / "own.npz"), "*.npz", read_heartbeats, True),
    "drawing": bytes_of(make_patterns, "*.png", lambda folder: patterns.read(folder, 300)),
    "array": bytes_of(make_array, "*.npy", lambda folder: patterns.read(folder / "p.npy", 300)),
    "checkpoint": bytes_of(make_checkpoint, "*.pt", read_checkpoint, True),
    "checkpoint, fields": weights,
    "published checkpoint, fields": functools.partial(weights, is_published=True),
    "resumed checkpoint, fields": resumed,
    "run": bytes_of(make_run, "*.*", report.read_run),
    "run, fields": run_folder,
}  # fmt: skip


def check(kind, folder, number, monkeypatch):
    """Run a case in a folder of its own; what it leaves outside of data/ is its own doing."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    try:
        KINDS[kind](random.Random(f"{SEED}{kind} {number}"), folder)
    except UserError as error:
        text = str(error)
        assert "\n" not in text and len(text) < 400, text
    assert len(list(folder.parent.iterdir())) == 1
    monkeypatch.chdir(folder.parent)
    shutil.rmtree(folder)


@pytest.fixture
def quick(monkeypatch, capsys, tmp_path):
    """Write no TensorBoard files, and make what is cached in a folder of its own."""
    monkeypatch.setattr(Board, "__enter__", lambda board: board)
    (tmp_path / "whole").mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    whole_checkpoint()
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(tmp_path / "whole")


@pytest.mark.parametrize("kind", KINDS)
def test_mutated(kind, tmp_path, monkeypatch, quick):
    for number in range(CASES):
        check(kind, tmp_path / str(number), number, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_mutated_many_times(kind, tmp_path, monkeypatch, quick):
    for number in range(CASES, CASES + MANY):
        check(kind, tmp_path / str(number), number, monkeypatch)
