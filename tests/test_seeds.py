"""--seeds: a run for each seed, one after the other, as each would be alone."""

import re
import shutil
import signal
from pathlib import Path
from statistics import mean, stdev

import pytest
import torch
from scripts import TINY, files_in, same, words_of

import snn
from snn import report
from snn.checkpoint import is_resumable
from snn.run import folders
from snn.run.cli import _mean_and_deviation, main
from snn.tasks.base import Task


def network(config):
    return snn.Sequential(
        snn.DualExpIIR(784, 4, 1), snn.Linear(784, 20), snn.SpikingNeuron(4), snn.Dropout(0.3), snn.Linear(20, 10),
        snn.SpikingNeuron(4),
    )  # fmt: skip


@pytest.fixture
def run(folder, capsys):
    """Run an experiment of this network: `run(*words)` returns the status, the lines of output, and the errors."""

    def call(*words):
        status = 0
        try:
            main("snn_mlp_1", network, argv=[*words, *words_of(TINY | {"hyperparameters.init": "kaiming"})])
        except SystemExit as end:
            status = end.code
        out, err = capsys.readouterr()
        return status, out.splitlines(), err

    return call


def metrics():
    """Return each run's metrics.csv without the seconds, in the order in which they were started."""
    found = [file.parent for file in Path("runs/snn_mlp_1").glob("*/metrics.csv")]
    found.sort(key=lambda folder: (folder.name[:19], int(folder.name[20:] or 1)))
    texts = [(folder / "metrics.csv").read_text() for folder in found]
    return [re.sub(r",[\d.e-]+(,\d+,\d+,[\d.e-]+)$", r"\1", text, flags=re.M) for text in texts]


def checkpoints():
    """Return the last and the best checkpoint of each seed by path, without times and places."""
    found = {}
    for file in Path("checkpoint").glob("seed_*/snn_mlp_1/*t.pt"):
        saved = torch.load(file, weights_only=True)
        for row in saved["history"]:
            del row["seconds"]
        del saved["running"]["seconds"], saved["run_folder"]
        found[str(file)] = saved
    return found


def test_each_run_is_as_alone_and_the_last_line_is_of_all(run, capsys):
    of_seven = "--set", "pytorch_seed=7"
    _, lines, err = run("--train", "--seeds", "2", *of_seven)
    figures = [re.findall(r"([\d.]+) %", line) for line in lines if line.startswith("best epoch")]
    of_all = re.fullmatch(r"2 seeds: train (.*), dev (.*), test (.*), embedded digits", lines[-1]).groups()
    for text, values in zip(of_all, zip(*figures, strict=True), strict=True):
        values = [float(value) for value in values]
        expected = mean(values), stdev(values)  # of what was rounded
        assert [float(part) for part in text.split(" % ± ")] == pytest.approx(expected, rel=0.06, abs=0.01)
    assert not err
    assert [line for line in lines if line.startswith("seed ")] == ["seed 7, 1 of 2", "seed 8, 2 of 2"]
    seeds, kept = metrics(), checkpoints()
    assert len(list(Path("runs/snn_mlp_1").glob("*/predictions.csv"))) == 2
    assert len(seeds) == 2 and seeds[0] != seeds[1] and len(kept) == 4

    report.main(["runs", "--by", "seed"])
    (row,) = capsys.readouterr().out.splitlines()[2:]
    assert "| snn_mlp_1, n = 2 |" in row and "| 7, 8 |" in row

    assert run("--test", "--seeds", "2", *of_seven)[1][-1] == f"2 seeds: test {of_all[2]}, embedded digits"
    shutil.rmtree("checkpoint/seed_8"), shutil.rmtree("runs")
    status, _, err = run("--test", "--seeds", "2", *of_seven)
    assert status == 2 and "no checkpoint at checkpoint/seed_8/snn_mlp_1/best.pt" in err

    _, alone, _ = run("--train", "--set", "pytorch_seed=8")
    assert metrics() == seeds[1:] and alone[-1] in lines
    best = torch.load("checkpoint/snn_mlp_1/best.pt", weights_only=True)
    assert same(best["model"], kept["checkpoint/seed_8/snn_mlp_1/best.pt"]["model"])


def test_a_stop_and_a_resume_among_older_runs(run, folder, monkeypatch):
    run("--train", "--seeds", "3")
    expected, whole = checkpoints(), metrics()
    shutil.rmtree("checkpoint"), shutil.rmtree("runs")
    for seed in (2, 3, 4):
        older = Path(f"checkpoint/seed_{seed}/snn_mlp_1/last.pt")
        older.parent.mkdir(parents=True)
        older.write_text("an older run's")
    write, rows = folders.write_metrics, []

    def stopping(*arguments):
        rows.append(write(*arguments))
        if len(rows) == 3:  # the second run's first epoch
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(folders, "write_metrics", stopping)
    status, lines, err = run("--train", "--seeds", "3")
    assert status == 128 + signal.SIGTERM and lines[-1].startswith("epoch 0")
    assert "stopped at epoch 1, after batch 1 of the train pass" in err
    assert re.search(r"to resume: python \S* --train --seeds 3 --set .* --resume$", err.rstrip())
    assert err.count("the checkpoints of an older run are now in checkpoint/seed_") == 3
    assert len(list(Path("checkpoint").glob("seed_*/snn_mlp_1_*/last.pt"))) == 3
    assert not Path("checkpoint/seed_4/snn_mlp_1").exists()

    before = files_in(folder / "checkpoint/seed_2")
    status, lines, err = run("--train", "--seeds", "3", "--resume")
    assert status == 0 and lines[-1].startswith("3 seeds: ") and not err
    assert files_in(folder / "checkpoint/seed_2") == before
    assert metrics() == whole and same(checkpoints(), expected)


def test_a_seed_that_was_killed_before_it_could_be_resumed_starts_anew(run):
    run("--train", "--seeds", "2")
    for name in "last", "previous":
        Path(f"checkpoint/seed_3/snn_mlp_1/{name}.pt").unlink()
    status, lines, err = run("--train", "--seeds", "2", "--resume")
    assert status == 0 and lines[-1].startswith("2 seeds: ")
    assert "the checkpoints of an older run are now in checkpoint/seed_3/snn_mlp_1_" in err


def test_a_run_of_these_at_work_is_left_alone(run, folder):
    with folders.owned_by_a_run(folder / "checkpoint/seed_4/snn_mlp_1"):
        status, _, err = run("--train", "--seeds", "3")
    assert status == 2 and "checkpoint/seed_4/snn_mlp_1 belongs to a run that is at work" in err
    assert not list(folder.rglob("*.pt"))


def test_older_checkpoints_stay_until_the_first_run_saves(run, folder):
    """A mistake, or a stop before that, moves nothing."""
    run("--train", "--seeds", "2")
    before = files_in(folder / "checkpoint")
    for words in (["--freeze", "nothing"], ["--device", "cuda:99"]):
        status, _, _ = run("--train", "--seeds", "2", *words)
        assert status == 2 and files_in(folder / "checkpoint") == before
    status, _, err = run("--train", "--seeds", "2", "--init_from", "checkpoint/seed_3/snn_mlp_1/best.pt")
    said = "init_from: checkpoint/seed_3/snn_mlp_1/best.pt is of a run that this one replaces: copy it"
    assert status == 2 and said in err and files_in(folder / "checkpoint") == before
    status, _, err = run("--train", "--seeds", "2")
    assert status == 0 and err.count("the checkpoints of an older run are now in checkpoint/seed_") == 2


def test_seeds_of_an_older_run_are_told_from_those_of_this_one(run):
    run("--train", "--seeds", "3", "--set", "optimizer.clip=1")
    run("--train", "--seeds", "2")
    status, _, err = run("--test", "--seeds", "3")
    assert status == 0 and err.count("is of another run") == 1
    said = "checkpoint/seed_4/snn_mlp_1 is of another run than the seeds before: it has optimizer.clip=1"
    assert said in err
    status, _, err = run("--train", "--resume", "--seeds", "3")
    assert status == 2 and "error: seed 4: --resume needs the same config, but it differs in optimizer.clip (was" in err
    assert err.endswith("; or move checkpoint/seed_4/snn_mlp_1 away, if it is of an older run\n")


def test_older_checkpoints_stay_where_none_are_saved(run, folder):
    older = folder / "checkpoint/seed_3/snn_mlp_1/last.pt"
    older.parent.mkdir(parents=True)
    older.touch()
    status, lines, err = run("--train", "--seeds", "2", "--set", "save_checkpoint=false")
    assert status == 0 and not err and lines[-1].startswith("2 seeds") and list(folder.rglob("*.pt")) == [older]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--train", "--seeds", "0"], "--seeds 0: use a number from 2 to 1000"),
        (["--train", "--seeds", "9" * 30], "--seeds 999999999999999999999999999999: use"),
        (["--train", "--seeds", "x"], "argument --seeds: invalid int value: 'x'"),
        (["--train", "--seeds", "²"], "argument --seeds: invalid int value: '²'"),
        (["--train", "--seeds", ""], "argument --seeds: invalid int value: ''"),
        (["--train", "--resume", "--seeds", "2"], "no checkpoint at checkpoint/seed_2/snn_mlp_1/last.pt: there is no"),
        (["--test", "--seeds", "2"], "no checkpoint at checkpoint/seed_2/snn_mlp_1/best.pt"),
        (["--test", "--seeds", "2", "--checkpoint", "a.pt"], "leave out --checkpoint and --predict, or --seeds"),
        (["--predict", "a.ts", "--out", "a.csv", "--seeds", "2"], "leave out --checkpoint and --predict, or --seeds"),
        (["--seeds", "2"], "nothing to do"),
    ],
)
def test_one_line_says_what_is_wrong(run, folder, words, message):
    status, lines, err = run(*words)
    assert status == 2 and message in err.splitlines()[-1]
    assert not (folder / "runs").exists() and not any(line.startswith("epoch") for line in lines)


def test_the_last_line_of_any_task():
    figures = [{"dev": 0.003, "test": 0.004}, {"dev": 0.003, "test": 0.0042}]
    assert _mean_and_deviation(Task(), figures) == "2 seeds: dev loss 0.00300 ± 0, test loss 0.00410 ± 0.00014"
    figures[0]["dev"] = float("nan")
    assert _mean_and_deviation(Task(), figures).startswith("2 seeds: dev loss nan, test loss 0.00410 ± 0.00014")


def test_a_seed_with_the_checkpoint_before_the_last_one_can_be_resumed(folder):
    (folder / "previous.pt").touch()
    assert is_resumable(folder) and not is_resumable(folder / "empty")
