"""`python -m snn.report`: the table and the curves match the runs."""

import csv
import errno
import json
import os
import re
import shlex
import shutil
import subprocess
from functools import partial

import pytest
import torch
import yaml
from matplotlib.figure import Figure
from PIL import Image
from scripts import ROOT

from benchmarks import archive, direction, drift, first_steps, people, temporal
from snn import config, report
from snn.base.errors import UserError
from snn.look import learning_curves
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
    samples = {"test": 40, "train": 50000, "dev": 300}  # as a dataset's own order may be
    result = {"best_epoch": 1, "test": 97.5, "samples": samples}
    result |= {"on": "torch 9, CPU, 1 thread", "commit": "0a1b2c3+"}
    settings = "dataset: {root: elsewhere, dev_size: 300}\nstates: preserved\n"
    write_run(folder / "runs/snn_mlp_1/b", result=result, settings=settings)
    report.main(["runs", "--out", "results", "--all"])
    lines = capsys.readouterr().out.splitlines()
    assert (folder / "results/table.md").read_text().splitlines() == lines
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert [row[0] for row in rows] == [
        "snn_mlp_1 b",
        *(name for name in report.PUBLISHED if name not in ("snn_mlp_1", "associative_memory", "time_series", "ecg")),
        "associative_memory a",
        "time_series",
        "ecg",
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
    assert rows[14][2:7] == ["3 of 100, best 1", "0.20000", "0.10000", "not yet", "0.00369 / 0.00420, best 92"]
    assert rows[15][5:] == ["not run", "", "", "", "", "", ""]
    assert rows[16][4:] == rows[15][4:] and rows[17][5:8] == ["not yet", "", "7"]
    for name in ("snn_mlp_1", "associative_memory", "snn_mlp_1-demo"):
        assert Image.open(folder / f"results/{name}.png").size[0] > 600
    report.main(["runs"])
    assert capsys.readouterr().out.splitlines() == [line for line in lines if "not run" not in line]


def overrides_of(folder, experiment, settings):
    write_run(folder / "run", experiment, settings=settings)
    return report._row([report.read_run(folder / "run")])["Overrides"]


@pytest.mark.parametrize(
    "experiment, settings, expected",
    [
        ("mine", "dataset: {name: digits, root: x, train_size: 9}\nstates: preserved\n",
         '`states="preserved"`, `dataset.name="digits"`, `dataset.train_size=9`'),
        ("mine", "dataset: {name: BasicMotions, refit: true}\n", '`dataset.name="BasicMotions"`, `dataset.refit=true`'),
        ("mine", "dataset: {name: of_ones_own, noise: 3}\nprecision: bf16\n", '`precision="bf16"`'),
        ("mine", "dataset: {name: mnist}\n", ""),
        ("snn_mlp_1-demo", "dataset: {name: digits}\noptimizer: {Adam: {lr: 0.001}}\n", "`hyperparameters.epoch=100`"),
        ("my-demo", "precision: bf16\n", '`precision="bf16"`'),
    ],
)  # fmt: skip
def test_overrides_are_over_the_experiments_config_or_over_the_defaults(folder, experiment, settings, expected):
    assert overrides_of(folder, experiment, settings) == expected


def test_of_runs_of_one_seed_the_last_that_was_tested_counts(folder, capsys):
    result = {"best_epoch": 1, "samples": {"train": 50, "dev": 3, "test": 4}}
    for name, seed, test in (("1", 2, 90.0), ("2", 2, 98.0), ("3", 2, None), ("4", 3, 96.0), ("5", 4, None)):
        write_run(folder / f"runs/{name}", seed=seed, result=test and result | {"test": test})
    write_run(folder / "runs/6", seed=2, result=result)  # which was not tested
    report.main(["runs", "--by", "seed"])
    out, err = capsys.readouterr()
    (row,) = cells_of(out, "Run")
    assert (row["Seed"], row["Test"]) == ("2, 3, 4", "97.00 ± 1.41 (of 2)")
    assert [line.split(":")[1] for line in err.splitlines() if "left out" in line] == [
        " runs/1 is left out", " runs/3 is left out", " runs/6 is left out",
    ]  # fmt: skip


def test_runs_that_differ_in_their_seed_are_one_row(folder, capsys, monkeypatch):
    drawn(monkeypatch)
    result = {"best_epoch": 1, "samples": {"train": 50, "dev": 3, "test": 4}, "on": "here", "commit": "a"}
    for seed, dev, test in ((1, 90.0, 91.5), (2, 92.0, 92.5), (5, 94.0, None)):
        lines = [(0, 80.0, 81.0, 0.4, 0.3), (1, 95.0, dev, 0.2, 0.1)]
        ended = result | {"test": test, "test_ties": seed} if test else None
        settings = f"dataset: {{name: mnist, root: data{seed}}}\n"
        write_run(folder / f"runs/{seed}", "mine", lines, ended, seed, settings)
    write_run(folder / "runs/other", "mine", seed=3, settings="dataset: {name: mnist}\nprecision: bf16\n")
    write_run(folder / "runs/own/1", "mine_too", settings="dataset: {name: of_ones_own, noise: 1}\n")
    write_run(folder / "runs/own/2", "mine_too", settings="dataset: {name: of_ones_own, noise: 2}\n")
    write_run(folder / "runs/data/1", "memory", seed=1, settings="dataset: {name: patterns}\n")
    write_run(folder / "runs/data/2", "memory", seed=2, settings="dataset: {name: patterns, patterns: own.npy}\n")
    report.main(["runs", "--by", "seed"])
    rows = {line["Run"]: line for line in cells_of(capsys.readouterr().out, "Run")}
    assert list(rows) == ["memory 1", "memory 2", "mine, n = 3", "mine other", "mine_too 1", "mine_too 2"]
    assert rows["memory 2"]["Overrides"] == '`dataset.patterns="own.npy"`'
    (folder / "runs/latest").symlink_to(folder / "runs/5")
    report.main(["runs", str(folder / "runs"), "runs/latest", "--by", "seed"])  # each run once
    assert {line["Run"]: line for line in cells_of(capsys.readouterr().out, "Run")} == rows
    row = rows["mine, n = 3"]
    assert (row["Train"], row["Dev"]) == ("95.00 ± 0.00", "92.00 ± 2.00")
    assert row["Test"] == "92.00 ± 0.71 (of 2) (3 ties in all)"
    assert (row["Seed"], row["Epochs"], row["Time"]) == ("1, 2, 5", "2 of 100, best 1, 1, 1", "1 min")
    assert (row["Samples train / dev / test"], row["On"], row["Commit"]) == ("50 / 3 / 4", "here", "a")


def drawn(monkeypatch):
    """Return the figures that the report writes, by the file's name; they are filled as it writes them."""
    figures = {}
    monkeypatch.setattr(report, "write_picture", lambda path, figure: figures.update({path.name: figure}))
    return figures


@pytest.mark.filterwarnings("error")
def test_a_search_is_one_picture_with_a_line_for_each_run_labelled_by_what_differs(folder, monkeypatch):
    figures = drawn(monkeypatch)
    for n, best in enumerate((91.0, 95.0, 93.0)):
        settings = f"dataset: {{name: of_ones_own, note: ${n}$}}\noptimizer: {{Adam: {{lr: 0.00{n + 1}}}}}\n"
        lines = [(0, 80.0, 81.0, 0.4, 0.3), (1, 99.0, best, 0.2, 0.1)]
        result = {"best_epoch": 1, "test": 90} if n else None
        write_run(folder / f"runs/{n}", "mine", lines, result, seed=n, settings=settings)
    report.main(["runs"])
    (figure,) = figures.values()
    (axis,), (legend,) = figure.axes, figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        rf'dataset.note="\${n}\$", optimizer.Adam.lr=0.00{n + 1}' for n in (1, 2, 0)
    ]
    curves = {line.get_color() if isinstance(line.get_color(), str) else tuple(line.get_color()): line.get_ydata()[-1]
              for line in axis.get_lines() if len(line.get_xdata()) == 2}  # fmt: skip
    assert [curves[tuple(line.get_color())] for line in legend.get_lines()] == [95, 93, 91]
    figure.draw_without_rendering()


@pytest.mark.filterwarnings("error")
def test_of_a_large_search_the_best_are_named(folder, monkeypatch):
    figures = drawn(monkeypatch)
    for n in range(30):
        lines = [(0, 9.5, 9.4), (1, 0.3, 0.1 * (n + 1))]
        write_run(folder / f"runs/{n}", "mine", lines, settings=f"dataset: {{name: of_ones_own, noise: {n}}}\n")
    report.main(["runs"])
    (legend,) = figures["mine.png"].legends
    assert [text.get_text() for text in legend.get_texts()] == [f"dataset.noise={n}" for n in range(20)]
    assert "10 others" in legend.get_title().get_text() and len(figures["mine.png"].axes[0].get_lines()) == 30
    figures["mine.png"].draw_without_rendering()


def test_runs_of_other_seeds_are_no_search(folder, monkeypatch):
    figures = drawn(monkeypatch)
    for seed in (1, 2):
        write_run(folder / f"runs/{seed}", seed=seed)
    report.main(["runs"])
    (figure,) = figures.values()
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert not figure.legends and labels[:2] == ["train", "dev"] and len(labels) == 4


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
        (lambda run: (run / "metrics.csv").write_text("epoch,dev_loss\n0,nan"), "empty/a holds no readable run (met"),
        (lambda run: (run / "result.json").write_text("{"), "empty/a holds no readable run"),
        (lambda run: (run / "result.json").write_text('{"test": 97.5}'), "empty/a holds no readable run (no 'best_"),
        (lambda run: (run / "result.json").write_text('{"best_epoch": null, "test": 1}'), "empty/a holds no readable"),
        (
            lambda run: (run / "result.json").write_text('{"best_epoch": 777, "test": 1}'),
            "empty/a holds no readable run (metrics.csv has no epoch 777, the best one of result.json)",
        ),
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


def test_all_that_a_picture_names_is_in_it(folder):
    """The test below all of dev, though a loss on dev is none; losses without a logarithm."""
    epochs = [(0, 60.0, 99.0, 0.4, "nan"), (1, 80.0, 99.5, 0.2, 0.1)]
    write_run(folder / "a", "own", epochs, {"best_epoch": 1, "test": 81.0})
    write_run(folder / "b", "own", [(0, 0.1, 0.2), (1, -0.9, -0.8)], {"best_epoch": 1, "test": -0.7})
    accuracy, loss = (
        learning_curves.learning_curves("own", [run], run.metric, None, [""]).axes[0]
        for run in map(report.read_run, (folder / "a", folder / "b"))
    )
    assert report._figures([float("nan"), 1.0], "loss").startswith("nan")  # of two seeds
    assert accuracy.get_ylim()[0] < 81 and loss.get_yscale() == "linear"


def cells_of(text, first):
    """Return the rows of the Markdown table whose header starts with a cell, as dicts by column."""
    lines = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line.startswith("|")]
    start = next(n for n, cells in enumerate(lines) if cells[0] == first)
    return [dict(zip(lines[start], cells)) for cells in lines[start + 2 :]]


def test_the_readmes_figures_are_those_of_the_results(capsys, tmp_path):
    report.main([str(RESULTS), "--out", str(tmp_path), "--all"])
    table = capsys.readouterr().out
    assert (RESULTS / "table.md").read_text() == "".join(
        line for line in table.splitlines(keepends=True) if "| not run |" not in line
    )
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


def test_a_folder_that_can_not_be_read_is_an_error(folder, monkeypatch, capsys):
    """Else a mean over seeds would lack some of them, without a word."""
    write_run(folder / "runs/a"), write_run(folder / "runs/theirs")
    scandir = os.scandir

    def refused(path):
        if str(path).endswith("theirs"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(SystemExit, match="2"):
        report.main(["runs"])
    assert re.fullmatch(r"error: .*runs/theirs.*\n", capsys.readouterr().err)


def test_a_metric_of_ones_own_may_be_best_where_it_is_lowest(folder, monkeypatch):
    own = {"metric": "acc", "highest_is_best": False, "best_epoch": 0, "test": 90.5}
    write_run(folder / "runs/a", result=own)
    write_run(folder / "runs/b", metrics=[(0, 80.0, 81.0, 0.4, 0.3)], result=own, seed=3)
    shown = []
    monkeypatch.setattr(learning_curves, "learning_curves", lambda _, runs, *rest: shown.extend(runs) or Figure())
    report.main(["runs"])
    assert [run.folder.name for run in shown] == ["b", "a"] and all(run.is_best_on_dev for run in shown)
    assert report.read_run(folder / "runs/a").best_dev == 91


TABLES = {
    "archive": lambda rows: archive.table(rows, list(dict.fromkeys(row["dataset"] for row in rows))),
    **{f"temporal_{name}": partial(temporal.table, name=name) for name in temporal.BENCHMARKS},
    **{module.__name__.rpartition(".")[2]: module.table for module in (direction, drift, first_steps, people)},
}


@pytest.mark.parametrize("name", TABLES)
def test_the_table_of_a_benchmark_is_that_of_its_runs(name):
    rows = list(csv.DictReader((RESULTS / f"tables/{name}.csv").read_text().splitlines()))
    assert (RESULTS / f"tables/{name}.md").read_text() == TABLES[name](rows)


def test_means_and_deviations_of_benchmarks_are_right():
    by_fold = {0: 80, 1: 84, 2: 80, 3: 84, 4: 82}  # a mean of 82, and a deviation of 2
    rows = [
        {"kind": kind, "fold": str(fold), "by window": str(mean + 1 - seed), "by recording": "90"}
        for kind in ("recordings", "windows") for fold, mean in by_fold.items() for seed in (0, 1, 2)
    ]  # fmt: skip
    assert "| windows | 82.0 ± 2.0 | 90.0 ± 0.0 |\n" in people.table(rows)
    rows = [
        {"dataset": dataset, "model": model, "seed": str(seed), "test": str(trained - worse + seed), "seconds": "3"}
        for dataset, trained, change in (("A", 90, 2), ("B", 80, 4)) for seed in (1, 2)
        for model, worse in ((model, 0 if model == "trained" else change) for model in archive.COLORS)
    ]  # fmt: skip
    table = archive.table(rows, ["A", "B"])
    assert "| A | 91.5 ± 0.7 | 89.5 ± 0.7 |" in table and "| mean | 86.5 | 83.5 |" in table
    assert "Trained filters less fixed: +3.00 points, standard error over datasets 1.00." in table


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


@pytest.mark.parametrize(
    "text", ["{}", "[]", "3", "null", '"x"', "[" * 5000, '{"best_epoch": 1e999}', '{"best_epoch": 777, "test": 1}',
             '{"best_epoch": 0, "test": 1, "samples": 3}', "\ud800", "9" * 9999],
)  # fmt: skip
def test_the_report_survives_any_result(text, tmp_path):
    (kept,) = (ROOT / "results/snn_mlp_2").iterdir()
    for name in ("config.yaml", "metrics.csv"):
        shutil.copy(kept / name, tmp_path)
    (tmp_path / "result.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError, match="holds no readable run .+: move it away") as error:
        report.read_run(tmp_path)
    assert "\n" not in str(error.value)
