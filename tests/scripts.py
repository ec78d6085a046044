"""Run the experiments' scripts with tiny settings."""

import csv
import runpy
import struct
import sys
import zipfile
from pathlib import Path

import torch

from snn.base.files import LARGEST

ROOT = Path(__file__).parents[1]
TINY = {
    "device": "cpu",
    "dataset.name": "digits", "dataset.train_size": 56, "dataset.dev_size": 20, "dataset.test_size": 24,
    "hyperparameters.length": 12, "hyperparameters.batch_size": 16, "hyperparameters.epoch": 2,
    "optimizer.Adam.lr": 0.005,
}  # fmt: skip
TINY_CNN = {"dataset.train_size": 8, "dataset.dev_size": 6, "dataset.test_size": 6, "hyperparameters.batch_size": 4}
TINY_NMNIST = TINY_CNN | {"dataset.name": "nmnist_simulated", "dataset.root": "made"}
TINY_GESTURE = TINY_CNN | {"dataset.name": "gesture_simulated", "dataset.root": "made"}
TINY_MEMORY = {
    "dataset.name": "patterns", "dataset.train_size": 20, "dataset.dev_size": 10, "dataset.test_size": 12,
    "hyperparameters.length": 300, "hyperparameters.batch_size": 5,
}  # fmt: skip
TINY_SERIES = {"dataset.name": "JapaneseVowels", "hyperparameters.batch_size": 8, "hyperparameters.batches": 0}
HEALTH = ["unstable_filters", "silent_layers", "hidden_rate"]


def words_of(settings):
    """Return a config's values as words of the command line."""
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


class Run:
    """Runs a script in the temporary folder: `run(script, *words, **settings)` returns its lines of output."""

    def __init__(self, folder, monkeypatch, capsys):
        self.folder, self.monkeypatch, self.capsys = folder, monkeypatch, capsys

    def __call__(self, script, *words, settings=None):
        own = {"mlp": {}, "mnist": TINY_CNN, "nmnist": TINY_NMNIST, "gesture": TINY_GESTURE, "memory": TINY_MEMORY,
               "series": TINY_SERIES, "ecg": {}}  # fmt: skip
        merged = TINY | next(own[part] for part in script.split("_") if part in own)
        own_choice = "AdamW" if "_choice: AdamW" in (ROOT / f"configs/{script}.yaml").read_text() else "Adam"
        choice = (settings or {}).get("optimizer.optimizer_choice", own_choice)
        merged[f"optimizer.{choice}.lr"] = merged.pop("optimizer.Adam.lr")  # that of another one would bring a note
        merged |= settings or {}
        overrides = words_of(merged)
        self.monkeypatch.chdir(self.folder)
        self.monkeypatch.setattr(sys, "argv", [f"{script}.py", *words, *overrides])
        self.capsys.readouterr()
        try:
            runpy.run_path(str(ROOT / f"{script}.py"), run_name="__main__")
            self.status = 0
        except SystemExit as end:
            self.status = end.code
        self.out, self.err = self.capsys.readouterr()
        return self.out.splitlines()

    def metrics(self, script):
        """Return the rows of metrics.csv of the script's only run, without the seconds."""
        (file,) = self.folder.glob(f"runs/{script}/*/metrics.csv")
        with open(file) as lines:
            return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(lines)]

    def checkpoint(self, script, name="last"):
        return torch.load(self.folder / "checkpoint" / script / f"{name}.pt", weights_only=True)


def write_bomb(file, name):
    """Write a zip of which the directory says that an entry is a byte larger than what is read."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, b"0")
    content = bytearray(file.read_bytes())
    struct.pack_into("<I", content, content.rfind(b"PK\x01\x02") + 24, LARGEST + 1)
    file.write_bytes(content)


def files_in(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def same(a, b):
    """Whether nested dicts, lists and tuples hold the same values."""
    if torch.is_tensor(a):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b
