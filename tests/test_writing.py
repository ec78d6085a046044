"""Where runs write: files and folders whole or not at all, leftovers of killed processes, names, what is in the way."""

import os
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from unittest import mock

import pytest
from test_config import resolve

from snn.base import files
from snn.base.errors import UserError
from snn.base.files import written_beside


class TestWrittenBeside:
    def test_a_failure_leaves_what_was_there(self, tmp_path):
        path = tmp_path / "file"
        path.write_text("before")
        with pytest.raises(KeyError), written_beside(path) as file:
            file.write(b"half")
            raise KeyError
        assert path.read_text() == "before"
        assert list(tmp_path.iterdir()) == [path]

    def test_nothing_stands_under_the_name_before_it_is_whole(self, tmp_path):
        path = tmp_path / "folder" / "file"
        with written_beside(path) as file:
            file.write(b"whole")
            assert not path.exists()
        assert path.read_bytes() == b"whole"

    def test_a_file_is_on_the_disk_before_it_has_its_name(self, tmp_path, monkeypatch):
        """Else a power cut may leave an empty one; conftest.py leaves that out for all other tests."""
        seen, replace = [], os.replace
        monkeypatch.setattr(os, "fsync", lambda number: seen.append(("fsync", os.fstat(number).st_size)))
        monkeypatch.setattr(os, "replace", lambda *paths: seen.append("replace") or replace(*paths))
        with written_beside(tmp_path / "file") as file:
            file.write(b"whole")
        assert seen == [("fsync", 5), "replace"]

    def test_threads_do_not_write_to_each_others_file(self, tmp_path):
        path, first_writes, second_writes = tmp_path / "file", threading.Event(), threading.Event()

        def first():
            with written_beside(path) as file:
                file.write(b"whole")
                first_writes.set()
                assert second_writes.wait(10)
            return path.read_bytes()

        with ThreadPoolExecutor(1) as pool:
            read = pool.submit(first)
            assert first_writes.wait(10)
            with written_beside(path) as file:
                second_writes.set()
                assert read.result() == b"whole"
                file.write(b"also whole")
        assert path.read_bytes() == b"also whole" and list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("links", [True, False])
    @pytest.mark.parametrize("renames", range(3))
    def test_what_stands_there_or_what_is_kept_is_whole_at_any_time(self, tmp_path, monkeypatch, links, renames):
        path, keep, replace, done = tmp_path / "last", tmp_path / "previous", os.replace, []

        def write(text):
            with written_beside(path, keep) as file:
                file.write(text.encode())

        def stop(*paths):
            if len(done) == renames:
                raise KeyboardInterrupt
            done.append(replace(*paths))

        if not links:
            monkeypatch.setattr(os, "link", mock.Mock(side_effect=PermissionError))
        write("first")
        write("second")
        monkeypatch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt) if renames < 2 else nullcontext():
            write("third")
        left = ("second", "first"), ("third", "first"), ("third", "second")
        assert (path.read_text(), keep.read_text()) == left[renames]

    def test_a_place_that_can_not_be_written(self, tmp_path):
        (tmp_path / "file").write_text("no folder")
        with pytest.raises(UserError, match="can't be written"), written_beside(tmp_path / "file" / "below"):
            pass
        os.mkfifo(tmp_path / "pipe")  # as a device, it would be gone after a rename
        with pytest.raises(UserError, match="pipe is not an ordinary file"), written_beside(tmp_path / "pipe"):
            pass
        assert (tmp_path / "pipe").is_fifo()


def test_a_folder_that_another_process_makes_at_the_same_time(tmp_path):
    with files.made_beside(tmp_path / "made") as folder:
        (folder / "slow").write_text("")
        (tmp_path / "made").mkdir()
        (tmp_path / "made/fast").write_text("")
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "fast"]


def test_a_folder_made_where_a_link_leads(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "made").symlink_to(tmp_path / "elsewhere")
    with files.made_beside(tmp_path / "made") as folder:
        (folder / "file").write_text("")
    assert (tmp_path / "made").is_symlink() and (tmp_path / "elsewhere/file").exists()


def test_only_what_killed_processes_of_ours_left_is_removed(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    here, other = socket.gethostname(), os.getppid()
    keep = [".notes.2024", ".last.pt.12", f".last.pt.unfinished-{here}-{other}", f".a.unfinished-elsewhere-{ended.pid}",
            f"last.pt.unfinished-{here}-{ended.pid}"]  # fmt: skip
    for name in (*keep, f".last.pt.unfinished-{here}-{ended.pid}", f".a.unfinished-{here}-{ended.pid}.7"):
        (tmp_path / name).write_text("")
    (tmp_path / f".nmnist.unfinished-{here}-{ended.pid}/Train").mkdir(parents=True)
    with files.written_beside(tmp_path / "new"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {*keep, "new"}


def test_leftovers_of_killed_runs_are_gone_after_the_next(run, few_recordings):
    ended = subprocess.Popen(["true"])
    ended.wait()
    name = f".x.unfinished-{socket.gethostname()}-{ended.pid}"
    places = [run.folder / place / name for place in ("data/cache", "runs/snn_conv_1_nmnist/2026", ".")]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("")
    run("snn_conv_1_nmnist", "--train", settings={"hyperparameters.epoch": 1, "hyperparameters.length": 4})
    assert run.status == 0 and not any(map(os.path.lexists, places)), run.err


@pytest.mark.parametrize(
    "block",
    [
        lambda folder: (folder / "checkpoint").symlink_to("/nowhere/x"),
        lambda folder: (folder / "checkpoint").write_text(""),
        lambda folder: [(folder / "checkpoint").mkdir(), (folder / "checkpoint/snn_mlp_1").symlink_to("/nowhere/x")],
        lambda folder: [(folder / "checkpoint").mkdir(), (folder / "checkpoint/snn_mlp_1").write_text("")],
        lambda folder: (folder / "runs").write_text(""),
    ],
)
def test_what_is_in_the_way_of_outputs_is_found_before_the_first_batch(run, block, monkeypatch):
    monkeypatch.setattr("snn.run.trainer.train_step", lambda *_: pytest.fail("a batch was trained"))
    block(run.folder)
    run("snn_mlp_1", "--train")
    assert run.status == 2 and "can't be written: a file or a dangling link is in the way" in run.err


class TestPaths:
    @pytest.mark.parametrize("name", ["run #2", "a: b", "010", "caf\u00e9", "x  y", "caf\udce9", "null", "[1"])
    def test_what_is_typed_is_the_folder(self, run, name):
        """Also bytes that are no UTF-8, which Python shows as a lone surrogate."""
        run("snn_mlp_1", "--train", settings={"checkpoint_base_path": name, "hyperparameters.epoch": 1})
        assert run.status == 0 and (run.folder / name / "snn_mlp_1/best.pt").is_file(), run.err
        run("snn_mlp_1", "--test", "--checkpoint", f"{name}/snn_mlp_1/best.pt")
        assert run.status == 0, run.err

    def test_home_is_the_same_everywhere(self, run, monkeypatch):
        monkeypatch.setenv("HOME", str(run.folder / "home"))
        (run.folder / "home").mkdir()
        run("snn_mlp_1", "--train", settings={"checkpoint_base_path": "~/c", "hyperparameters.epoch": 1})
        assert run.status == 0 and (run.folder / "home/c/snn_mlp_1/best.pt").is_file()
        (run.folder / "home/own.yaml").write_text(
            "dataset:\n  root: ~/data\ntest_checkpoint_path: ~/c/snn_mlp_1/best.pt"
        )
        lines = run("snn_mlp_1", "--test", "--config_file", "~/own.yaml")
        assert run.status == 0 and "test accuracy" in lines[-1]
        assert run("snn_mlp_1", "--test", "--checkpoint", "~/c/snn_mlp_1/best.pt")[-1] == lines[-1]

    def test_no_path_at_all(self):
        for value in ('"a\\0b"', '"\\ud800"'):
            with pytest.raises(UserError, match="dataset.root"):
                resolve(f"dataset.root={value}")
