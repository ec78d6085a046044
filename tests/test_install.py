"""The package as pip installs it: away from the clone, and in place."""

import os
import subprocess
import sys

import pytest
from scripts import ROOT, TINY, words_of

pytest.importorskip("hatchling")
pytest.importorskip("hatch_requirements_txt")


def pip_install(target, *options):
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", target]
    result = subprocess.run([*command, *options, ROOT], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def python(folder, *words, path=""):
    """Run Python in a folder; return its output."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PYTHONPATH": str(path)}
    result = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_installed(tmp_path):
    """Layers, scripts, configs and the small datasets are present; a network trains, and loads again."""
    target, folder = tmp_path / "installed", tmp_path / "work"
    folder.mkdir()
    pip_install(target)
    settings = words_of(TINY | {"hyperparameters.epoch": 1})
    out = python(folder, "-m", "snn_mlp_1", "--train", *settings, path=target)
    assert out.splitlines()[-1].startswith("test accuracy: ")
    code = "from snn.data import patterns; print(len(patterns.read(patterns.SHIPPED, 300)))"
    assert python(folder, "-c", code, path=target).strip() == "10"
    code = "import snn; print(snn.__file__); print(snn.load('checkpoint/snn_mlp_1/best.pt')[1])"
    where, layer = python(folder, "-c", code, path=target).splitlines()
    assert where.startswith(str(target)) and layer.startswith("Linear(in_features=784")
    requires = (target / "snn_iir-1.0.0.dist-info/METADATA").read_text()
    assert all(f"Requires-Dist: {line}" in requires for line in (ROOT / "requirements.txt").read_text().split())


def test_installed_in_place(tmp_path):
    pip_install(tmp_path, "-e")
    code = f"import site; site.addsitedir({str(tmp_path)!r}); import snn, snn_mlp_1; print(snn.__file__)"
    assert python(tmp_path, "-c", code).strip() == str(ROOT / "snn/__init__.py")
