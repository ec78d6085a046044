"""What a run prints: output that is gone or can't be written ends no run."""

import os
import signal
import subprocess
import sys
import threading

import pytest
import torch
from scripts import ROOT, TINY, words_of

from snn.base.output import lasting


class TestOutput:
    TRAIN = [sys.executable, ROOT / "snn_mlp_1.py", "--train", *words_of(TINY | {"hyperparameters.epoch": 3})]

    def check(self, folder):
        (file,) = folder.glob("runs/snn_mlp_1/*/metrics.csv")
        assert len(file.read_text().splitlines()) == 4
        assert torch.load(folder / "checkpoint/snn_mlp_1/last.pt", weights_only=True)["epoch"] == 2

    @pytest.mark.parametrize("ending", ["| head -1", "> /dev/full", "2>&-", ">&-", "> /dev/full 2>&1"])
    def test_output_that_is_gone_ends_no_run(self, tmp_path, ending):
        command = f"{' '.join(map(str, self.TRAIN))} {ending}"
        result = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
        assert "Traceback" not in result.stderr and "error:" not in result.stderr
        self.check(tmp_path)

    def test_an_encoding_without_the_characters(self, tmp_path):
        environment = os.environ | {"PYTHONIOENCODING": "ascii"}
        folder = tmp_path / "\u03b1"
        folder.mkdir()
        command = [*self.TRAIN, "--set", f"checkpoint_base_path={folder}"]
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert result.returncode == 0 and "\\u03b1/snn_mlp_1/best.pt" in result.stdout, result.stderr

    def test_a_terminal_that_closes_saves_and_stops(self, tmp_path):
        settings = words_of(TINY | {"hyperparameters.epoch": 300})
        command = [sys.executable, "-u", ROOT / "snn_mlp_1.py", "--train", *settings]
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # nohup, around the tests, ignores it
        )  # fmt: skip
        while not process.stdout.readline().startswith("epoch 0"):
            pass
        process.send_signal(signal.SIGHUP)
        _, err = process.communicate()
        assert process.returncode == 128 + signal.SIGHUP and "stopped at epoch" in err


def test_a_notebooks_backend_trains(tmp_path):
    environment = os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    command = [sys.executable, ROOT / "snn_mlp_1.py", "--train", *words_of(TINY | {"hyperparameters.epoch": 1})]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0 and "note: no picture" not in result.stderr, result.stderr


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
