"""`python -m snn.report`: the table and the curves match the runs."""

import csv
import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from scripts import ROOT

from benchmarks import trained_filters
from snn import config, report
from snn.run import cli

RESULTS = ROOT / "results"


def write_run(folder, experiment="snn_mlp_1", metrics=None, result=None, seed=2, settings=""):
    metrics = metrics or [(0, 90.0, 91.0, 0.4, 0.3), (1, 95.0, 96.125, 0.2, 0.1), (2, 97.0, 96.0, 0.1, 0.2)]
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        f"experiment_name: {experiment}\npytorch_seed: {seed}\nhyperparameters: {{epoch: 100}}\n{settings}"
    )
    names = (
        "epoch,train_acc,dev_acc,train_loss,dev_loss,lr,seconds"
        if len(metrics[0]) > 3
        else "epoch,train_loss,dev_loss,lr,seconds"
    )
    (folder / "metrics.csv").write_text(
        "\n".join([names, *(",".join(map(str, (*line, 1e-4, 30))) for line in metrics)])
    )
    if result:
        (folder / "result.json").write_text(json.dumps(result))


def test_table_and_curves(folder, capsys):
    write_run(folder / "runs/memory/a", "associative_memory", [(0, 0.3, 0.2), (1, 0.2, 0.1), (2, 0.1, 0.15)])
    write_run(folder / "runs/own/a", "snn_mlp_1-demo", seed=7)
    samples = {"train": 50000, "dev": 300, "test": 40}
    result = {"best_epoch": 1, "test": 97.5, "samples": samples}
    result |= {"on": "torch 9, CPU, 1 thread", "commit": "0a1b2c3+"}
    settings = "dataset: {root: elsewhere, dev_size: 300}\nstates: preserved\n"
    write_run(folder / "runs/snn_mlp_1/b", result=result, settings=settings)
    report.main(["runs", "--out", "results"])
    lines = capsys.readouterr().out.splitlines()
    assert (folder / "results/table.md").read_text().splitlines() == lines
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert [row[0] for row in rows] == [
        "snn_mlp_1 b",
        *(name for name in report.PUBLISHED if name not in ("snn_mlp_1", "associative_memory", "time_series")),
        "associative_memory a",
        "time_series",
        "snn_mlp_1-demo a",
    ]
    assert rows[0][1:] == [
        "50,000 / 300 / 40",
        "3 of 100, best 1",
        "95.00",
        "96.12",
        "97.50",
        "98.58 / 98.94, best 72",
        "2",
        "2 min",
        "torch 9, CPU, 1 thread",
        "0a1b2c3+",
        '`states="preserved"`, `dataset.dev_size=300`',
    ]
    assert rows[6][1:] == ["", "", "", "", "not run", "99.48 / 99.52, best 93; paper 99.46", "", "", "", "", ""]
    assert rows[12][2:7] == ["3 of 100, best 1", "0.20000", "0.10000", "not yet", "0.00369 / 0.00420, best 92"]
    assert rows[13][5:] == ["not run", "", "", "", "", "", ""]
    assert rows[14][5:8] == ["not yet", "", "7"]
    for name in ("snn_mlp_1", "associative_memory", "snn_mlp_1-demo"):
        assert Image.open(folder / f"results/{name}.png").size[0] > 600


def test_a_training_leaves_what_the_report_needs(run, capsys):
    lines = run("snn_mlp_1", "--train")
    report.main([str(run.folder / "runs")])
    row = capsys.readouterr().out.splitlines()[2]
    assert "| 56 / 20 / 24 |" in row and "`hyperparameters.length=12`" in row and f"torch {torch.__version__}" in row
    best = re.match(r"best epoch (\d): train (.*), dev (.*), test (.*)", next(s for s in lines if s.startswith("best")))
    figures = [re.sub(r" \(\d+ ties\)", "", cell.strip()) for cell in row.split("|")[4:7]]
    assert [figure + " %" for figure in figures] == list(best.groups()[1:])
    assert row.split("|")[3].strip() == f"2, best {best[1]}"
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    commit = row.split("|")[11].strip().removesuffix("+")
    assert head.startswith(commit) and bool(commit) == bool(head)


@pytest.mark.parametrize(
    "break_it, message",
    [
        (lambda run: None, "no run in empty: train first"),
        (lambda run: (run / "config.yaml").write_text("- 1"), "empty/a holds no readable run"),
        (lambda run: (run / "metrics.csv").write_text("epoch,dev_loss\n0,x"), "empty/a holds no readable run"),
        (
            lambda run: (run / "metrics.csv").write_text("epoch,dev_loss\n"),
            "empty/a holds no readable run (metrics.csv",
        ),
        (lambda run: (run / "result.json").write_text("{"), "empty/a holds no readable run"),
        (lambda run: (run / "result.json").write_text('{"test": 97.5}'), "empty/a holds no readable run (no 'best_"),
        (lambda run: (run / "result.json").write_text('{"best_epoch": null, "test": 1}'), "empty/a holds no readable"),
        (lambda run: (run / "config.yaml").write_text("experiment_name: ../up"), "empty/a holds no readable run (exp"),
    ],
)
def test_bad_runs(folder, capsys, break_it, message):
    (folder / "empty").mkdir()
    if "no run" not in message:
        write_run(folder / "empty/a")
        break_it(folder / "empty/a")
    with pytest.raises(SystemExit) as end:
        report.main(["empty"])
    assert end.value.code == 2
    assert f"error: {message}" in capsys.readouterr().err
    assert not (folder / "empty/table.md").exists()


def cells_of(text, first):
    """Return the rows of the Markdown table whose header starts with a cell, as dicts by column."""
    lines = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line.startswith("|")]
    start = next(n for n, cells in enumerate(lines) if cells[0] == first)
    return [dict(zip(lines[start], cells)) for cells in lines[start + 2 :]]


def test_the_readmes_figures_are_those_of_the_results(capsys, tmp_path):
    report.main([str(RESULTS), "--out", str(tmp_path)])
    table = capsys.readouterr().out
    assert (RESULTS / "table.md").read_text() == table
    runs = {line["Run"].split()[0]: line for line in cells_of(table, "Run")}
    text = (ROOT / "README.md").read_text()
    shown = {line["Run"].strip("`"): line for line in cells_of(text, "Run")}
    assert set(shown) == {name for name, run in runs.items() if run["Test"] != "not run"}
    for name, line in shown.items():
        run = runs[name]
        assert line["Here dev / test"] == f"{run['Dev']} / {run['Test']}, {run['Epochs'].split(', ')[-1]}", name
        assert line["What differs"] or not run["Overrides"], name
        experiment = max((known for known in report.PUBLISHED if name.startswith(known)), key=len)
        assert line["Published dev / test"] == runs[experiment]["Published dev / test"], name


def test_the_table_of_filters_is_that_of_its_runs():
    """Nearest neighbours need the datasets."""
    root = Path(os.environ.get("SNN_DATASETS", "absent")) / "time_series"
    if not root.exists():
        pytest.skip("SNN_DATASETS names no folder with time_series")
    tables = RESULTS / "tables"
    rows = list(csv.DictReader((tables / "trained_filters.csv").read_text().splitlines()))
    assert (tables / "trained_filters.md").read_text() == trained_filters.table(rows, trained_filters.PUBLISHED, root)


def test_the_commands_are_those_of_the_results():
    """Every command in commands.sh has the settings of its saved run, and every run has a command."""
    text = (RESULTS / "commands.sh").read_text().replace("\\\n", " ")
    commands = [
        shlex.split(line, comments=True)
        for line in text.splitlines()
        if line.startswith("python") and "--train" in line
    ]
    kept = {file.parts[-3]: yaml.safe_load(file.read_text()) for file in RESULTS.glob("*/*/config.yaml")}
    named = []
    for script, *words in (command[1:] for command in commands):
        yaml_file = ROOT / "configs" / f"{script.removesuffix('.py')}.yaml"
        args = cli._parse(yaml_file.stem, yaml_file, words)
        overlay = [ROOT / args.config_file] if args.config_file else []
        settings = config.resolve(yaml_file, *overlay, overrides=args.set)
        name = settings["experiment_name"]
        named.append(name)
        assert config.changed(kept[name], settings) == []
        assert kept[name]["pytorch_seed"] == settings["pytorch_seed"]
    assert sorted(named) == sorted(kept)
