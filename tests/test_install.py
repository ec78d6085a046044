"""The package as pip installs it: away from the clone, and in place."""

import os
import shutil
import subprocess
import sys

import pytest
from scripts import ROOT, TINY, words_of

pytest.importorskip("hatchling")
pytest.importorskip("hatch_requirements_txt")


def pip_install(project, target, *options):
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", target]
    result = subprocess.run([*command, *options, project], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def files_below(folder):
    return {path.relative_to(folder) for path in folder.rglob("*")}


def python(folder, *words, path=""):
    """Run Python in a folder; return its output."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PYTHONPATH": str(path)}
    result = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_installed(tmp_path):
    """Layers, scripts, configs, weights and the small datasets are present; a network trains, and loads again."""
    clone, target, folder, absent = (tmp_path / name for name in ("clone", "installed", "work", "absent"))
    folder.mkdir()
    absent.mkdir()
    (absent / "numba.py").write_text("raise ImportError")  # compiling the loops at another place takes half a minute
    for name in ("snn", "configs", "datasets", "weights"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*ROOT.glob("*.py"), *ROOT.glob("*.t*"), ROOT / "README.md"):
        shutil.copy(file, clone)
    (clone / "my_own.py").write_text("not part of the project")
    pip_install(clone, target)
    assert {path.name for path in target.iterdir()} == {"snn", "snn_iir-1.0.0.dist-info"}
    assert not list(target.rglob("my_own*"))
    assert {path.relative_to(ROOT) for path in (ROOT / "snn").rglob("*.py")} <= files_below(target)
    scripts = {path.stem for path in (target / "snn/experiments").glob("[!_]*.py")}
    assert scripts == {path.stem for path in (target / "snn/experiments/configs").glob("*.yaml")}
    settings = words_of(TINY | {"hyperparameters.epoch": 1})
    code = "from snn.run.trainer import Trainer; Trainer._picture = lambda _: None; "  # for the tests' time
    code += "import runpy; runpy.run_module('snn.experiments.snn_mlp_1_non_zero', run_name='__main__')"
    code += "; import snn; print(snn.__file__); print(snn.load('checkpoint/snn_mlp_1_non_zero/best.pt')[1])"
    code += "; print(snn.load('snn_mlp_2_poisson_input')[1])"
    code += "; from snn.data import patterns; print(len(patterns.read(patterns.SHIPPED, 300)))"
    out = python(folder, "-c", code, "--train", *settings, path=f"{absent}:{target}").splitlines()
    tested, where, layer, shipped, drawings = out[-5:]
    assert tested.startswith("test accuracy: ")
    assert where.startswith(str(target)) and drawings == "10"
    assert layer == shipped and layer.startswith("Linear(in_features=784")
    requires = (target / "snn_iir-1.0.0.dist-info/METADATA").read_text()
    assert all(f"Requires-Dist: {line}" in requires for line in (ROOT / "requirements.txt").read_text().split())


def test_installed_in_place(tmp_path):
    pip_install(ROOT, tmp_path, "-e")
    code = f"import site; site.addsitedir({str(tmp_path)!r}); import snn; snn.load('snn_mlp_2'); print(snn.__file__)"
    assert python(tmp_path, "-c", code).strip() == str(ROOT / "snn/__init__.py")
