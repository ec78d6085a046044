"""Fixtures that all tests share."""

import copy
import functools
import importlib.util
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # set before torch is imported: pytest runs two tests at a time

import runpy
import sys

import pytest
import torch

if not torch.cuda.is_available():  # Triton interprets its kernels on the CPU; set before the next import takes it
    os.environ["TRITON_INTERPRET"] = "1"

from scripts import ROOT, TINY, Run, words_of  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def said_that_loops_compile():
    """Have each process say so before its tests read their standard error: which of them compiles is chance."""
    if importlib.util.find_spec("numba"):
        from snn.kernels import compiled

        compiled.say_that_it_compiles()


@pytest.fixture
def drawn():
    """Ask for TensorBoard's pictures to be drawn, as in any run."""


@pytest.fixture(autouse=True)
def pictures_left_out(request, monkeypatch):
    """Draw TensorBoard's pictures only where a test asks for them: they are most of a short training's time."""
    from snn.run.trainer import Trainer

    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(Trainer, "_picture", lambda trainer: None)


@pytest.fixture(scope="session", autouse=True)
def done_once():
    """Parse each YAML text once, ask for the project's commit once, and wait for no disk: no test is about these."""
    from snn.base import yamls
    from snn.run import folders

    load, parsed = yamls.load, {}

    def parse_once(text, source):
        if text not in parsed:
            parsed[text] = load(text, source)
        return copy.deepcopy(parsed[text])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yamls, "load", parse_once)
        patch.setattr(folders, "_commit", functools.cache(folders._commit))
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Make a temporary folder the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    return Run(tmp_path, monkeypatch, capsys)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Return a folder in which snn_mlp_1 was trained for an epoch."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["snn_mlp_1.py", "--train", *words_of(TINY), "--set", "hyperparameters.epoch=1"])
        runpy.run_path(str(ROOT / "snn_mlp_1.py"), run_name="__main__")
    return folder


@pytest.fixture
def few_recordings(monkeypatch):
    """Make simulated datasets small."""
    from snn.data import simulated_gesture, simulated_nmnist

    monkeypatch.setattr(simulated_nmnist, "TRAIN", 14)
    monkeypatch.setattr(simulated_nmnist, "TEST", 6)
    monkeypatch.setattr(simulated_gesture, "TRAIN", 2)
    monkeypatch.setattr(simulated_gesture, "TEST", 1)
    monkeypatch.setattr(simulated_gesture, "CLIP", 300_000)
    monkeypatch.setattr(simulated_gesture, "LIGHTS", {"led": 1.0})
