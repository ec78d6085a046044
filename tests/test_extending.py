"""docs/extending.md: every block runs, and every recipe is short."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from scripts import ROOT

PAGE = (ROOT / "docs/extending.md").read_text()
RECIPES = {part.splitlines()[0]: part for part in PAGE.split("\n## ")[1:]}
LAST_LINES = {
    "An experiment": r"test accuracy: [89]\d\.\d\d % .*embedded digits",
    "A neuron": r"test accuracy: [6-9]\d\.\d\d % .*embedded digits",
    "A synapse": r"test accuracy: [6-9]\d\.\d\d % .*embedded digits",
    "A surrogate gradient": r"test accuracy: [6-9]\d\.\d\d % .*embedded digits",
    "A dataset": r"test accuracy: ([6-9]\d|100)\.\d\d % \(\d+/200\), made-up bursts",
    "Modules of torch.nn, and torch's tools": r"the last step is that of the whole: True",
    "The layers in a loop of your own": r"loss 0\.[0-4]\d+",
    "Search": r"best: \d\d\.\d\d % on dev with {'tau_m': .*, 'lr': .*}",
    "Load a trained network and stream events through it": r"290 ms: \d",
    "Stream a time series": r"after (\d+) of \1 samples: speaker 1, true is 1",
}


def blocks(recipe):
    return re.findall(r"```(\w+)\n(.*?)```", RECIPES[recipe], re.S)


def test_every_recipe_is_tested():
    assert [name for name in RECIPES if blocks(name)] == list(LAST_LINES)
    assert all(f"[{name}](#" in PAGE for name in RECIPES)


@pytest.mark.parametrize("recipe", LAST_LINES)
def test_recipe(recipe, tmp_path):
    """Write the files, then run the commands and the files without a command, in a folder with the scripts."""
    if recipe == "Search":
        pytest.importorskip("optuna")
    for path in ROOT.glob("*.py"):
        shutil.copy(path, tmp_path)
    (tmp_path / "weights").symlink_to(ROOT / "weights")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    found, commands = blocks(recipe), []
    for kind, text in found:
        if kind == "bash":
            commands += text.splitlines()
        else:
            name = re.match(r"# (\S+)\n", text)[1]
            (tmp_path / name).write_text(text)
            code = [line for line in text.splitlines()[1:] if line.strip()]
            assert len(code) < 20, name
    for command in commands or [f"python {name}"]:
        result = subprocess.run(
            ["bash", "-c", command.replace("python", sys.executable, 1)], cwd=tmp_path, env=environment,
            capture_output=True, text=True,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert re.fullmatch(LAST_LINES[recipe], result.stdout.splitlines()[-1]), result.stdout
        assert "no picture" not in result.stderr


def test_the_readmes_layers_run():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    names = {}
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
