"""What a run prints: output that is gone or can't be written ends no run."""

import io
import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from unittest import mock

import pytest
import torch
from scripts import ROOT, TINY, words_of

from snn.base.output import lasting
from snn.run import signals, train, trainer

EPOCHS = {"hyperparameters.epoch": 2}
TRAIN = [sys.executable, ROOT / "snn_mlp_1.py", "--train", *words_of(TINY | EPOCHS)]


def check_whole(folder):
    (file,) = folder.glob("runs/snn_mlp_1/*/metrics.csv")
    assert len(file.read_text().splitlines()) == 3
    assert torch.load(folder / "checkpoint/snn_mlp_1/last.pt", weights_only=True)["epoch"] == 1


def test_a_pipe_that_is_gone_ends_no_run_in_a_shell(tmp_path):
    """Nor does the backend of a notebook, which may not be there."""
    environment = os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    command = f"{' '.join(map(str, TRAIN))} | head -1; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert not any(word in result.stderr for word in ("Traceback", "error:", "note: no picture")), result.stderr
    check_whole(tmp_path)


@pytest.mark.parametrize("name", ["/dev/full", None])
@pytest.mark.parametrize("streams", [["stderr"], ["stdout", "stderr"]])
def test_streams_that_are_full_or_closed_end_no_run(run, streams, name):
    if name and not os.path.exists(name):
        pytest.skip("this system has no /dev/full")
    (run.folder / "own.yaml").write_text("hyperparameters: {droupout: 0.3}")  # a note says that it is misspelt
    with ExitStack() as stack:
        for stream in streams:
            buffering = 1 if stream == "stderr" else -1  # as Python has them: one fails when written, one when flushed
            run.monkeypatch.setattr(sys, stream, name and stack.enter_context(open(name, "w", buffering)))
        run("snn_mlp_1", "--train", "--config_file", "own.yaml", settings=EPOCHS)
    assert run.status == 0
    check_whole(run.folder)


def test_an_encoding_without_the_characters(run):
    (run.folder / "\u03b1").mkdir()
    written = io.BytesIO()
    run.monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii", write_through=True))
    run("snn_mlp_1", "--train", settings={"hyperparameters.epoch": 1, "checkpoint_base_path": run.folder / "\u03b1"})
    assert run.status == 0 and b"\\u03b1/snn_mlp_1/best.pt" in written.getvalue()


def test_a_terminal_that_closes_saves_and_stops(run):
    step = trainer.train_step

    def closed(*arguments):
        signal.raise_signal(signal.SIGHUP)
        return step(*arguments)

    run.monkeypatch.setattr(trainer, "train_step", closed)
    before = signal.signal(signal.SIGHUP, lambda *_: None)  # nohup, around the tests, ignores it
    try:
        run("snn_mlp_1", "--train")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert run.status == 128 + signal.SIGHUP and "stopped at epoch 0" in run.err
    assert run.checkpoint("snn_mlp_1")["running"]


def test_an_interrupted_test_does_not_speak_of_training(run):
    run.monkeypatch.setattr(train, "evaluate", mock.Mock(side_effect=KeyboardInterrupt))
    run("snn_mlp_1", "--test")
    assert run.status == 130 and run.err.endswith("\ninterrupted\n")


def test_a_second_interrupt_ends_a_run_at_once(run):
    run.monkeypatch.setattr(trainer, "train_step", mock.Mock(side_effect=KeyboardInterrupt))
    run("snn_mlp_1", "--train")
    assert run.status == 130 and run.err.endswith("interrupted; the last checkpoint, if there is one, is whole\n")


def test_runs_in_two_threads_that_overlap(run, capsys):
    """The one that begins first ends first: the other one goes on printing, and the streams are as before."""
    streams, errors, first_began, first_ended = (sys.stdout, sys.stderr), [], threading.Event(), threading.Event()

    def first():
        with lasting():
            first_began.set()
            second_began.wait(10)
        first_ended.set()

    def second():
        first_began.wait(10)
        with lasting() as output:
            second_began.set()
            first_ended.wait(10)
            print("still here")
            errors.append(output.lost)

    second_began = threading.Event()
    both = [threading.Thread(target=work) for work in (first, second)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert errors == [None] and (sys.stdout, sys.stderr) == streams and "still here" in capsys.readouterr().out


def test_out_of_memory_is_one_line(run, monkeypatch):
    def fail(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr("snn.run.trainer.train_step", fail)
    run("snn_mlp_1", "--train")
    assert run.status == 2 and run.err.splitlines()[-1].startswith(
        "error: out of memory: set hyperparameters.batch_size"
    )


def test_a_hangup_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.noted() as seen:
            signal.raise_signal(signal.SIGHUP)
        assert not seen.signal and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
