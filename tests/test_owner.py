"""The folders of a run are its own while it is at work."""

import errno
import fcntl
import multiprocessing
import os
import re
import time

import pytest
from scripts import Run
from test_resume import files_at_most

from snn.base import owner
from snn.base.errors import UserError
from snn.run import trainer

ADVICE = "or choose another name"


class TestOwner:
    def test_a_second_run_is_refused_until_the_first_ends(self, tmp_path):
        with owner.owned(tmp_path / "a", ADVICE):
            with pytest.raises(
                UserError, match=rf"belongs to a run that is at work \(process {os.getpid()} on .*{ADVICE}"
            ):
                with owner.owned(tmp_path / "a", ADVICE):
                    pass
            with owner.owned(tmp_path / "b", ADVICE):
                pass
        with owner.owned(tmp_path / "a", ADVICE):
            pass

    def test_the_claim_ends_with_a_killed_process(self, tmp_path):
        def own(claimed):
            with owner.owned(tmp_path / "a", ADVICE):
                claimed.set()
                time.sleep(60)

        forked = multiprocessing.get_context("fork")
        process = forked.Process(target=own, args=[claimed := forked.Event()])
        process.start()
        assert claimed.wait(60)
        with pytest.raises(UserError, match=f"process {process.pid} on"), owner.owned(tmp_path / "a", ADVICE):
            pass
        process.kill()
        process.join()
        with owner.owned(tmp_path / "a", ADVICE):
            pass

    def test_whatever_is_in_the_file(self, tmp_path):
        for text in (b'{"host": "elsewhere", "pid": 1}', b"\xff\n" * 1000, b""):
            (tmp_path / ".a.owner").write_bytes(text)
            with owner.owned(tmp_path / "a", ADVICE):
                (tmp_path / ".a.owner").write_bytes(text)
                with (
                    pytest.raises(UserError, match="a run that is at work") as error,
                    owner.owned(tmp_path / "a", ADVICE),
                ):
                    pass
            assert "\n" not in str(error.value) and str(error.value).endswith(ADVICE)

    def test_a_file_system_without_locks_is_noted(self, tmp_path, monkeypatch, capsys):
        def fail(*_):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", fail)
        with owner.owned(tmp_path / "a", ADVICE):
            assert re.fullmatch(
                r"note: .*\.a\.owner can't be locked \(No locks available\): start no second run .*\n",
                capsys.readouterr().err,
            )

    def test_a_full_disk_is_one_line(self, tmp_path):
        with files_at_most(0), pytest.raises(UserError, match=r"\.a\.owner can't be written: File too large"):
            with owner.owned(tmp_path / "a", ADVICE):
                pass

    def test_a_folder_that_can_not_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        (tmp_path / "link").symlink_to("/nowhere/else")
        for place in ("file", "link"):
            with pytest.raises(UserError, match="can't be written"), owner.owned(tmp_path / place / "a", ADVICE):
                pass


def test_two_runs_of_one_experiment_at_once(run, capsys):
    """The second ends with one line and changes nothing; the first goes on."""
    step, second = trainer.train_step, Run(run.folder, run.monkeypatch, capsys)

    def step_after_a_second_run_began(*arguments):
        if not hasattr(second, "status"):
            second("snn_mlp_1", "--train", settings={"pytorch_seed": 3})
        return step(*arguments)

    run.monkeypatch.setattr(trainer, "train_step", step_after_a_second_run_began)
    run("snn_mlp_1", "--train")
    assert second.status == 2 and "belongs to a run that is at work" in second.err.splitlines()[-1]
    assert "--set experiment_name=NAME" in second.err.splitlines()[-1]
    assert run.status == 0 and len(run.metrics("snn_mlp_1")) == 2
    assert run.checkpoint("snn_mlp_1")["config"]["pytorch_seed"] == 2
