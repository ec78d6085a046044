"""Runs that are killed, stopped, out of disk space or resumed wrongly."""

import csv
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from scripts import ROOT, TINY, files_in, same, words_of
from small import make_trainer

from snn.run import signals, snapshot
from snn.run.cli import main
from snn.run.signals import Stopped
from snn_mlp_1 import network

# Enough epochs that a kill interrupts it; every kind of noise, and a carried state.
KILLED = TINY | {
    "encoding": "poisson", "states": "preserved", "dataset.train_size": 200, "dataset.dev_size": 70,
    "hyperparameters.epoch": 6, "checkpoint_every": 2, "scheduler.scheduler_choice": "CyclicLR",
    "scheduler.CyclicLR.base_lr": 0.002, "scheduler.CyclicLR.max_lr": 0.006, "scheduler.CyclicLR.step_size_up": 7,
}  # fmt: skip


def start(folder, settings, *words):
    """Start a run in its own process."""
    command = [sys.executable, "-u", ROOT / "snn_mlp_1.py", "--train", *words, *words_of(settings)]
    return subprocess.Popen(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def results(folder):
    """Return a run's results: metrics without seconds, and its last checkpoint without times and places."""
    (file,) = folder.glob("runs/snn_mlp_1/*/metrics.csv")
    with open(file) as lines:
        metrics = [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(lines)]
    saved = torch.load(folder / "checkpoint/snn_mlp_1/last.pt", weights_only=True)
    for entry in saved["history"]:
        del entry["seconds"]
    return metrics, {key: value for key, value in saved.items() if key not in ("run_folder", "running")}


def check_killed(run, settings, signals):
    """A run that gets these signals, each at a random moment after the previous one, equals a run that gets none.

    The latter, and the end of the former, are in this process.
    """
    whole, killed = run.folder / "whole", run.folder / "killed"
    whole.mkdir(), killed.mkdir()
    draw, last = random.Random(0), killed / "checkpoint/snn_mlp_1/last.pt"
    words, run.folder, began = [], whole, time.monotonic()
    last_line = run("snn_mlp_1", "--train", settings=settings)[-1]
    whole_time = time.monotonic() - began
    hits = 0
    for number in signals:
        process = start(killed, settings, *words)
        process.stdout.readline()  # the data is loaded
        if number != signal.SIGKILL:
            process.stdout.readline()  # an epoch is over
        time.sleep(draw.uniform(0, whole_time / (len(signals) + 1)))
        process.send_signal(number)
        _, err = process.communicate()
        if last.exists():
            torch.load(last, weights_only=True)
            words = ["--resume"]
        if number == signal.SIGKILL:
            hits += process.returncode == -number
        else:
            assert process.returncode == 128 + number, err
            assert "stopped at epoch" in err and "--resume" in err
            hits += 1
    assert hits > len(signals) // 2
    run.folder = killed
    out = run("snn_mlp_1", "--train", *words, settings=settings)
    assert run.status == 0, run.err
    assert out[-1] == last_line
    expected, actual = results(whole), results(killed)
    assert len({row["train_loss"] for row in expected[0]}) == settings["hyperparameters.epoch"]
    assert actual[0] == expected[0]
    for part, value in expected[1].items():
        assert same(actual[1][part], value), part
    leftovers = [path for path in (killed / "checkpoint/snn_mlp_1").iterdir() if path.name.startswith(".")]
    assert not leftovers


def test_a_training_that_is_killed_and_stopped_equals_one_that_is_not(run):
    check_killed(run, KILLED, [signal.SIGTERM, signal.SIGKILL])


@pytest.mark.slow
def test_twenty_kills(run):
    slower = {
        "scheduler.CyclicLR.base_lr": 0.0005,
        "scheduler.CyclicLR.max_lr": 0.001,
    }  # filters stay stable for longer
    check_killed(run, KILLED | slower | {"hyperparameters.epoch": 40}, [signal.SIGKILL] * 20)


@contextmanager
def files_at_most(size):
    """Limit the size of files to this many bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_ends_the_training_and_leaves_the_last_checkpoint_whole(run, tmp_path):
    few = KILLED | {"dataset.train_size": 56, "dataset.dev_size": 20}
    more = few | {"hyperparameters.epoch": 3}
    run("snn_mlp_1", "--train", settings=few | {"hyperparameters.epoch": 2})
    before = files_in(run.folder / "checkpoint")
    with files_at_most(5_000_000):  # a checkpoint has 10 MB
        run("snn_mlp_1", "--train", "--resume", settings=more)
    assert run.status == 2
    assert "error: checkpoint/snn_mlp_1/last.pt can't be written: File too large" in run.err
    assert files_in(run.folder / "checkpoint") == before
    run("snn_mlp_1", "--train", "--resume", settings=more)
    assert run.status == 0
    continued = results(run.folder)

    run.folder = tmp_path / "whole"
    run.folder.mkdir()
    run("snn_mlp_1", "--train", settings=more)
    assert continued[0] == results(run.folder)[0]
    assert same(continued[1]["model"], results(run.folder)[1]["model"])


def test_a_disk_too_full_for_the_run_folder(run):
    with files_at_most(100):
        run("snn_mlp_1", "--train")
    assert run.status == 2
    assert run.err.splitlines()[-1].startswith("error: runs/snn_mlp_1/") and "File too large" in run.err
    assert not (run.folder / "checkpoint/snn_mlp_1").exists()


def test_a_disk_that_tensorboard_finds_full_is_one_note(folder, monkeypatch, capsys):
    trainer = make_trainer(folder, "hyperparameters.epoch=2")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", fail)
    trainer.fit()
    assert torch.load(trainer.folder / "last.pt", weights_only=True)["epoch"] == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "TensorBoard's files can't be written" in line and "No space left" in line


def test_a_picture_that_fails_is_a_note_after_the_checkpoint(folder, monkeypatch, capsys, drawn):
    trainer = make_trainer(folder)

    def fail(*_):
        assert torch.load(trainer.folder / "last.pt", weights_only=True)["epoch"] == 0
        raise ZeroDivisionError("nothing to draw")

    monkeypatch.setattr("snn.look.layer_plots.rasters", fail)
    trainer.fit()
    (line,) = capsys.readouterr().err.splitlines()
    assert "no picture in TensorBoard: nothing to draw" in line


def test_a_second_interrupt_does_not_wait(folder):
    trainer = make_trainer(folder)
    train = trainer._train

    def interrupted_twice(batch):
        signal.raise_signal(signal.SIGINT)
        result = train(batch)
        signal.raise_signal(signal.SIGINT)
        return result

    trainer._train = interrupted_twice
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_while_the_last_epoch_is_saved_is_not_lost(folder):
    trainer = make_trainer(folder)
    end, last = trainer._end_epoch, trainer.config["hyperparameters"]["epoch"] - 1

    def ending(epoch, *results):
        end(epoch, *results)
        if epoch == last:
            signal.raise_signal(signal.SIGTERM)

    trainer._end_epoch = ending
    with pytest.raises(Stopped, match="the end of training"):
        trainer.fit()
    assert len(trainer.history) == last + 1


def test_a_run_in_a_thread_takes_no_signals(folder, capsys):
    """As search tools run trials; here of a script without a file, as a notebook is."""
    (folder / "own.yaml").write_text("experiment_name: own\ndataset: {name: digits}\n")
    words = ["--train", *words_of(TINY | {"hyperparameters.epoch": 1})]
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.delattr(sys.modules["__main__"], "__file__", raising=False)
        pool.submit(main, "own", network, config_file="own.yaml", argv=words).result()
    assert capsys.readouterr().out.splitlines()[-1].startswith("test accuracy: ")
    assert torch.load(folder / "checkpoint/own/last.pt", weights_only=True)["epoch"] == 0
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_a_broken_last_checkpoint_gives_way_to_the_one_before(run, trained):
    shutil.copytree(trained / "checkpoint", run.folder / "checkpoint")
    last = run.folder / "checkpoint/snn_mlp_1/last.pt"
    shutil.copy(last, last.with_name("previous.pt"))
    last.write_bytes(last.read_bytes()[:5000])
    run("snn_mlp_1", "--train", "--resume", settings={"hyperparameters.epoch": 2})
    assert run.status == 0
    assert (
        "last.pt is not a checkpoint or is cut short" in run.err
        and "resuming from checkpoint/snn_mlp_1/previous.pt" in run.err
    )
    assert run.checkpoint("snn_mlp_1")["epoch"] == 1


def test_a_stop_of_a_resumed_run_that_saves_nothing_does_not_say_that_it_can_be_resumed(folder):
    make_trainer(folder).fit()
    saved = torch.load(folder / "checkpoint/snn_mlp_1/last.pt", weights_only=True)
    trainer = make_trainer(folder, "save_checkpoint=false", "hyperparameters.epoch=2", resume_from=saved)
    with pytest.raises(signals.Stopped) as stop:
        trainer.fit(on_epoch=lambda row: signal.raise_signal(signal.SIGINT))
    assert not stop.value.saved and "is kept" not in stop.value.where


def test_a_training_that_is_stopped_at_every_batch(folder):
    """Stop several times in the same pass, and in both passes."""
    stops = 0
    whole = make_trainer(folder / "whole")
    whole.fit()
    resume_from = None
    while True:
        trainer = make_trainer(folder, resume_from=resume_from)

        def stop_after_this(batch, train=trainer._train):
            result = train(batch)
            signal.raise_signal(signal.SIGINT)
            return result

        trainer._train = stop_after_this
        try:
            trainer.fit()
            break
        except signals.Stopped as stop:
            assert stop.saved
            stops += 1
        resume_from = torch.load(trainer.folder / "last.pt", weights_only=True)
    assert stops == 5 and whole.history[0]["train_loss"] != pytest.approx(2.302585, abs=1e-4)  # it spikes
    for entry in (*whole.history, *trainer.history):
        del entry["seconds"]
    assert trainer.history == whole.history
    assert same(whole.net.state_dict(), trainer.net.state_dict())
    assert torch.equal(whole.generator.get_state(), trainer.generator.get_state())


def test_a_training_that_is_finished_says_so(run):
    lines = run("snn_mlp_1", "--train", settings={"hyperparameters.epoch": 1})
    before = files_in(run.folder / "checkpoint")
    (result,) = (run.folder / "runs/snn_mlp_1").glob("*/result.json")
    result.write_text(result.read_text().replace('"commit": "', '"commit": "older'))  # which trained it
    recorded = result.read_text(), (result.parent / "config.yaml").read_text()
    again = run("snn_mlp_1", "--train", "--resume", settings={"hyperparameters.epoch": 1})
    assert run.status == 0
    assert again[1].startswith("snn_mlp_1 is finished: all 1 epochs are done; --set hyperparameters.epoch=N")
    assert again[-1] == lines[-1]
    assert files_in(run.folder / "checkpoint") == before
    assert "older" in recorded[0] and recorded == (result.read_text(), (result.parent / "config.yaml").read_text())
    run("snn_mlp_1", "--train", "--resume", settings={"hyperparameters.epoch": 1, "ties": "potential"})
    assert "older" not in result.read_text() and "ties: potential" in (result.parent / "config.yaml").read_text()


def test_a_result_of_fewer_epochs_is_written_anew(run):
    run("snn_mlp_1", "--train", settings={"hyperparameters.epoch": 1})
    (result,) = (run.folder / "runs/snn_mlp_1").glob("*/result.json")
    of_one = result.read_text()
    run("snn_mlp_1", "--train", "--resume", settings={"hyperparameters.epoch": 3})
    assert json.loads(result.read_text())["best_epoch"] > 0
    result.write_text(of_one)  # as if it had been killed before the test
    run("snn_mlp_1", "--train", "--resume", settings={"hyperparameters.epoch": 3})
    assert run.status == 0 and json.loads(result.read_text())["best_epoch"] > 0


def test_milestones_to_come_may_be_changed(run):
    first = {"hyperparameters.epoch": 2, "scheduler.MultiStepLR.milestones": "[1, 5]"}
    later = {"hyperparameters.epoch": 4, "scheduler.MultiStepLR.milestones": "[1, 3]"}
    run("snn_mlp_1", "--train", settings=first)
    run("snn_mlp_1", "--train", "--resume", settings=later)
    assert run.status == 0 and "scheduler.MultiStepLR.milestones: [1, 3] from now on, [1, 5] so far" in run.err
    rates = [float(row["lr"]) for row in run.metrics("snn_mlp_1")]
    assert rates == pytest.approx([5e-3, 5e-4, 5e-4, 5e-5], abs=1e-6)


CAN_NOT_BE_RESUMED = {
    "two other values": (
        {"optimizer.Adam.lr": 0.01, "hyperparameters.length": 7, "checkpoint_every": 3, "hyperparameters.epoch": 2}, {},
        ["optimizer.Adam.lr (was 0.005, now 0.01)", "hyperparameters.length (was 12, now 7)"],
    ),
    "other past milestones": ({"scheduler.MultiStepLR.milestones": "[1, 100]"}, {}, ["milestones (was [50, 100]"]),
    "another version": ({}, {"version": 99}, ["last.pt is of version 99, not 2", "evaluate it with --test"]),
    "no version": ({}, {"version": None}, ["last.pt holds weights only"]),
    "mid-epoch on another device": (
        {}, {"device": "cuda", "running": {"counts": {"train": {"batches": 1}}, "lr": 1, "seconds": 0}},
        ["from the middle of an epoch on cuda: resume it with --device cuda"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", CAN_NOT_BE_RESUMED)
def test_what_can_not_be_resumed(run, trained, mistake):
    settings, changes, messages = CAN_NOT_BE_RESUMED[mistake]
    shutil.copytree(trained / "checkpoint", run.folder / "checkpoint")
    last = run.folder / "checkpoint/snn_mlp_1/last.pt"
    torch.save(torch.load(last, weights_only=True) | changes, last)
    before = files_in(run.folder)
    run("snn_mlp_1", "--train", "--resume", settings=settings)
    assert run.status == 2
    assert all(message in run.err.splitlines()[-1] for message in messages), run.err
    assert "checkpoint_every" not in run.err.splitlines()[-1]
    assert files_in(run.folder) == before


@pytest.mark.parametrize("sums, is_taken", [([math.nan, 4.0, 0.0, 1.0], True), ([1, 2], True), (["1", 2, 3], False)])
def test_counts_with_a_loss_that_is_nan_are_read_back(folder, sums, is_taken):
    """As of dev a readout has it that passes a missing value on."""
    trainer, counts = make_trainer(folder), {"batches": 2, "samples": 16, "sums": sums, "spikes": {}}
    with nullcontext() if is_taken else pytest.raises(ValueError, match="sums is .* not a number"):
        snapshot._restore_running(trainer, {"lr": 1e-4, "seconds": 1, "counts": {"train": counts}})
        np.testing.assert_equal(trainer.passes["train"].sums[: len(sums)].numpy(), sums)


def test_the_seconds_before_a_stop_count(folder):
    trainer = make_trainer(folder)
    trainer.seconds = 100
    trainer.fit()
    assert 100 < trainer.history[0]["seconds"] < 200
