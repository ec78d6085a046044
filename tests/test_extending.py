"""docs/extending.md: every block runs, and every recipe is short."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys

import pytest
import torch
from scripts import ROOT

from snn.data import datasets
from snn.look.board import Board

PAGE = (ROOT / "docs/extending.md").read_text()
RECIPES = {part.splitlines()[0]: part for part in PAGE.split("\n## ")[1:]}
LAST_LINES = {
    "An experiment": r"test accuracy: [89]\d\.\d\d % .*embedded digits",
    "A neuron": r"test accuracy: [6-9]\d\.\d\d % .*embedded digits",
    "A synapse": r"test accuracy: [6-9]\d\.\d\d % .*embedded digits",
    "A surrogate gradient": r"test accuracy: [6-9]\d\.\d\d % .*embedded digits",
    "A dataset": r"test accuracy: ([6-9]\d|100)\.\d\d % \(\d+/200\), made-up bursts",
    "Modules of torch.nn, and torch's tools": r"the last step is that of the whole: True",
    "Recurrence, residual blocks, LayerNorm, delays, attention": r"dev accuracy ([5-9]\d|100)\.\d %",
    "The layers in a loop of your own": r"loss 0\.[0-4]\d+",
    "Search": r"[1-9] of 10 pruned; best: \d\d\.\d\d % on dev with {'tau_m': .*, 'lr': .*}",
    "Start from a trained network": r"all layers: [89]\d\.\d % on dev, [89]\d\.\d % of the test",
    "Load a trained network and stream events through it": r"290 ms: \d",
    "Stream a time series": r"after (\d+) of \1 samples: speaker 1, true is 1",
    "Run a network without torch": r"answer (\d), true is \1",
    "A task": r"test loss: 0\.[01]\d+, waves",
}
FEWER = {  # for the tests' time
    "follow.yaml": ("epoch: 5", "epoch: 2"),
    "odd.py": ('"epoch": 10', '"epoch": 4'),
    "search.py": ('"epoch": 4,', '"epoch": 2,'),
}


def blocks(recipe):
    return re.findall(r"```(\w+)\n(.*?)```", RECIPES[recipe], re.S)


def test_every_recipe_is_tested():
    assert [name for name in RECIPES if blocks(name)] == list(LAST_LINES)
    assert all(f"[{name}](#" in PAGE for name in RECIPES)


@pytest.fixture
def scripts_folder(folder, monkeypatch):
    """Return a folder with the scripts, from which modules are imported, and forget what a recipe adds."""
    for path in ROOT.glob("*.py"):
        shutil.copy(path, folder)
    (folder / "weights").symlink_to(ROOT / "weights")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(datasets, "TABLE", dict(datasets.TABLE))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


def write_files(folder, found):
    """Write a recipe's files; return its commands, or the one that runs its last file."""
    commands = []
    for kind, text in found:
        if kind == "bash":
            commands += text.replace("\\\n", "").splitlines()
        else:
            name = re.match(r"# (\S+)\n", text)[1]
            before, after = FEWER.get(name, ("", ""))
            assert before in text
            (folder / name).write_text(text.replace(before, after))
            code = [line for line in text.splitlines()[1:] if line.strip()]
            assert len(code) < 20, name
    return commands or [f"python {name}"]


def in_a_shell(command):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = ["bash", "-c", command.replace("python", sys.executable, 1)]
    result = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout, result.stderr


def in_this_process(command, monkeypatch, capsys):
    python, *words = shlex.split(command)
    assert python == "python"
    monkeypatch.setattr(sys, "argv", words)
    torch.manual_seed(0)
    runpy.run_path(words[0], run_name="__main__")
    return capsys.readouterr()


@pytest.mark.parametrize("recipe", LAST_LINES)
def test_recipe(recipe, scripts_folder, monkeypatch, capsys, drawn):
    """One with a script, a module and a YAML of its own in a shell, the others without starting Python anew."""
    if recipe == "Run a network without torch":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    if recipe == "Search":
        pytest.importorskip("optuna")
    if recipe not in ("A neuron", "A synapse"):
        monkeypatch.setattr(Board, "write", lambda *_: None)  # pictures of each run take most of the time
    for command in write_files(scripts_folder, blocks(recipe)):
        out, err = in_a_shell(command) if recipe == "A dataset" else in_this_process(command, monkeypatch, capsys)
        assert re.fullmatch(LAST_LINES[recipe], out.splitlines()[-1]), out
        assert "no picture" not in err


def test_the_readmes_code_runs():
    predict, code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    names = {"X": torch.zeros(3, 12, 20).numpy()}
    exec(predict, names)
    assert names["name"] == names["names"][0] and names["scores"].shape == (9,) and len(predict.splitlines()) == 6
    exec(code, names)
    assert names["trace"].v["2"].shape == (25, 4, 500) and names["y"].shape == (64, 10)


def test_links_of_the_documents():
    for page in (ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("results/*.md")):
        for target, heading in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", page.read_text()):
            file = page.parent / target if target else page
            assert file.exists(), f"{page.name}: {target}"
            if heading:
                names = re.findall(r"^#+ (.*)", file.read_text(), re.M)
                known = [re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-") for name in names]
                assert heading in known, f"{page.name}: {target}#{heading}"
