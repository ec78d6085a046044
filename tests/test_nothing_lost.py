"""Two runs at once, folders that are not ours, values that are not finite, YAML's surprises: refused, or right."""

import errno
import fcntl
import io
import os
import re
import signal
import socket
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from recordings import HEADER, LABELS, load, nmnist_bytes, polarity_packet, some_nmnist, write_gesture, write_nmnist
from scripts import ROOT, TINY, files_in, words_of
from test_config import resolve
from test_health import make_trainer
from test_resume import files_at_most

from snn.base import files, owner, yamls
from snn.base.errors import UserError
from snn.data import augment, digits, nmnist, patterns
from snn.run import snapshot

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
        code = f"""
import time
from snn.base import owner
with owner.owned({str(tmp_path / "a")!r}, ""):
    print("owned", flush=True)
    time.sleep(60)
"""
        process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "owned\n"
        with pytest.raises(UserError, match=f"process {process.pid} on"), owner.owned(tmp_path / "a", ADVICE):
            pass
        process.kill()
        process.wait()
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


def test_two_runs_of_one_experiment_at_once(tmp_path):
    """The second ends with one line and changes nothing; the first goes on."""
    settings = words_of(TINY | {"hyperparameters.epoch": 200})
    command = [sys.executable, "-u", ROOT / "snn_mlp_1.py", "--train", *settings]
    first = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        while not first.stdout.readline().startswith("epoch 0"):
            pass
        second = subprocess.run([*command, "--set", "pytorch_seed=3"], cwd=tmp_path, capture_output=True, text=True)
        assert second.returncode == 2 and "belongs to a run that is at work" in second.stderr.splitlines()[-1]
        assert "--set experiment_name=NAME" in second.stderr.splitlines()[-1]
        assert len(list(tmp_path.glob("runs/snn_mlp_1/*"))) == 1 and first.poll() is None
    finally:
        first.send_signal(signal.SIGTERM)
        first.wait()


@pytest.mark.parametrize("name", ["WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"])
def test_ranks_that_torchrun_did_not_start(run, monkeypatch, name):
    monkeypatch.setenv(name, "2")
    run("snn_mlp_1", "--train")
    assert run.status == 2 and f"{name} is 2, but torchrun did not start this process" in run.err
    assert files_in(run.folder) == {}


def test_a_folder_that_another_process_makes_at_the_same_time(tmp_path):
    with files.made_beside(tmp_path / "made") as folder:
        (folder / "slow").write_text("")
        (tmp_path / "made").mkdir()
        (tmp_path / "made/fast").write_text("")
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "fast"]


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
    "folder", ["/elsewhere", "runs/other/x", "runs/snn_mlp_1/..", "../runs/snn_mlp_1/x", ".", "", "runs"]
)
def test_a_checkpoints_run_folder_is_not_trusted(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    trainer = make_trainer(tmp_path)
    trainer.fit()
    saved = torch.load(trainer.folder / "last.pt", weights_only=True)
    before = files_in(tmp_path)
    again = make_trainer(tmp_path, "hyperparameters.epoch=2")
    snapshot.restore(again, saved | {"run_folder": folder})
    assert again.run_folder is None and "is not one in runs/" in capsys.readouterr().err
    snapshot.restore(again, saved)
    assert again.run_folder == trainer.run_folder and files_in(tmp_path) == before


@pytest.mark.parametrize("name", ["..", ".", ".hidden", "a/b", "a\\nb", "", "/"])
def test_names_that_name_no_folder_of_ours(name):
    with pytest.raises(UserError, match="experiment_name"):
        resolve(f'experiment_name="{name}"')


class TestYAML:
    @pytest.mark.parametrize(
        "typed, value",
        [("010", 10), ("1:30", "1:30"), ("no", "no"), ("2026-13-45", "2026-13-45"), ("1e-4", 1e-4), (".5", 0.5),
         ("-3", -3), ("true", True), ("", None), ("~", None), ("[1, x]", [1, "x"]), ("0x10", "0x10"),
         ("1_000", "1_000")],
    )  # fmt: skip
    def test_what_is_typed_is_taken(self, typed, value):
        assert yamls.load(f"a: {typed}", "x") == {"a": value}

    @pytest.mark.parametrize(
        "text, message",
        [
            ("a: 1\nb: 2\na: 3", "x, line 3: not YAML: key a is there twice"),
            ("a: &b 1\nc: *b", r"x, line 2: not YAML: alias \*b is not supported"),
            ("a: !!int abc", "x: not YAML: ValueError"),
            ("a: " + "[" * 3000, "x: not YAML: RecursionError"),
            ("1: 2", "key 1 is not a name"),
            ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
            ("a: !!timestamp 2026-13-45", "x"),
        ],
    )
    def test_what_is_refused(self, text, message):
        with pytest.raises(UserError, match=message) as error:
            yamls.load(text, "x")
        assert "\n" not in str(error.value) and len(str(error.value)) < 400

    def test_aliases_do_not_fill_the_memory(self, tmp_path):
        file = tmp_path / "bomb.yaml"
        file.write_text("a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi")))  # fmt: skip
        with pytest.raises(UserError, match="alias"):
            resolve(config_file=file)

    def test_a_hash_in_a_value_that_is_set(self):
        assert resolve("checkpoint_base_path=run #2")[0]["checkpoint_base_path"] == "run #2"
        assert resolve("checkpoint_base_path='run #2' # two")[0]["checkpoint_base_path"] == "run #2"

    def test_long_values_are_cut_in_messages(self):
        with pytest.raises(UserError) as error:
            resolve("precision=" + "x" * 5000)
        assert len(str(error.value)) < 400


@pytest.mark.parametrize("option", ["--checkpoint", "--config_file", "--device"])
def test_an_empty_option(run, option):
    run("snn_mlp_1", "--test", option, "")
    assert run.status == 2 and "an option has an empty value" in run.err


def test_weights_that_are_not_finite_give_no_result(run, trained, tmp_path):
    saved = torch.load(trained / "checkpoint/snn_mlp_1/best.pt", weights_only=True)
    saved["model"]["1.weight"][3, 4] = torch.nan
    torch.save(saved, tmp_path / "nan.pt")
    run("snn_mlp_1", "--test", "--checkpoint", str(tmp_path / "nan.pt"))
    assert run.status == 2 and "1.weight has values that are not finite" in run.err and "accuracy" not in run.out


def test_a_last_step_that_spoils_the_weights_is_not_saved(folder):
    trainer = make_trainer(folder, "checkpoint_every=4")
    train = trainer._train

    def spoil(batch):
        result = train(batch)
        if batch.number == 4:
            with torch.no_grad():
                trainer.net[1].weight[0, 0] = torch.inf
        return result

    trainer._train = spoil
    with pytest.raises(UserError, match=r"epoch 0: 1.weight is not finite after the last step; .*last.pt is kept"):
        trainer.fit()
    kept = torch.load(trainer.folder / "last.pt", weights_only=True)
    assert all(value.isfinite().all() for value in kept["model"].values())


@pytest.mark.parametrize("count, probability", [(0, 0.5), (1, 0.0), (5, 0.0), (1, 1e-6)])
def test_augmenting_nothing(count, probability):
    transform = resolve()[0]["transform"] | {"RandomApply": {"probability": probability}}
    images = torch.rand(count, 28, 28) * 255
    again = augment.RandomAugment(transform)(images.clone(), torch.Generator().manual_seed(0))
    assert torch.equal(again, images)


@pytest.mark.parametrize("settings", [{"transform.RandomApply.probability": 0}, {"dataset.train_size": 257}])
def test_a_batch_in_which_no_image_is_augmented_trains(run, settings):
    run("snn_mlp_1", "--train", settings=settings | {"hyperparameters.epoch": 1, "hyperparameters.length": 4})
    assert run.status == 0, run.err


def test_a_notebooks_backend_trains(tmp_path):
    environment = os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    command = [sys.executable, ROOT / "snn_mlp_1.py", "--train", *words_of(TINY | {"hyperparameters.epoch": 1})]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0 and "note: no picture" not in result.stderr, result.stderr


class TestPictures:
    def drawing(self):
        return np.kron(np.random.default_rng(0).integers(0, 2, (30, 30)) * 200, np.ones((10, 10))).astype(np.uint8)

    def read(self, tmp_path, image, **options):
        image.save(tmp_path / "0.png", "PNG", **options)
        return patterns.read(tmp_path, 300)

    def test_every_mode_gives_the_same_pattern(self, tmp_path):
        grey = self.drawing()
        expected = self.read(tmp_path, Image.fromarray(grey))
        assert expected.sum() > 500
        for image in (
            Image.fromarray(grey.astype(np.uint16) * 257), Image.fromarray(grey).convert("RGB"),
            Image.fromarray(grey).convert("P"), Image.fromarray(grey).convert("RGBA"),
            Image.fromarray(grey).convert("LA"),
            Image.fromarray(grey > 100),
        ):  # fmt: skip
            assert torch.equal(self.read(tmp_path, image), expected), image.mode

    def test_transparency_is_refused(self, tmp_path):
        image = Image.fromarray(self.drawing()).convert("RGBA")
        image.putalpha(128)
        with pytest.raises(UserError, match="0.png has transparent pixels"):
            self.read(tmp_path, image)

    def test_another_format_under_that_name_is_not_decoded(self, tmp_path):
        content = io.BytesIO()
        Image.fromarray(self.drawing()).save(content, "EPS")
        (tmp_path / "0.png").write_bytes(content.getvalue())
        with pytest.raises(UserError, match="0.png is not a readable PNG picture"):
            patterns.read(tmp_path, 300)


def test_time_that_bins_leave_out_is_told(capsys, monkeypatch):
    monkeypatch.setattr(nmnist.events, "load", lambda *_: None)
    for length, note in ((30, ""), (40, "note: 40 bins of 7 ms use the first 280 of 300 ms\n")):
        nmnist.load({"hyperparameters": {"length": length}}, "cpu")
        assert capsys.readouterr().err == note


class TestReaders:
    """Whatever a library raises is one line with the file, and a counted recording under skip_bad."""

    def test_archives_that_zipfile_can_not_read(self, folder):
        import zipfile

        for part, count in (("Train", 4), ("Test", 2)):
            with zipfile.ZipFile(folder / f"{part}.zip", "w") as archive:
                for n in range(count):
                    archive.writestr(f"{part}/{n}/{n:05d}.bin", nmnist_bytes([(n, n, 1, 5)]))
        content = bytearray((folder / "Train.zip").read_bytes())
        at = content.rfind(b"PK\x01\x02")
        content[at + 10] = 9  # deflate64
        content[content.rfind(b"PK\x03\x04") + 8] = 9
        (folder / "Train.zip").write_bytes(content)
        with pytest.raises(UserError, match=r"Train.zip/Train/3/00003.bin: .*compression.* unpack it"):
            load("snn_conv_1_nmnist", ".")
        assert len(load("snn_conv_1_nmnist", ".", "dataset.skip_bad=true")["train"]) == 2

    def test_a_dangling_link(self, folder):
        write_nmnist(folder, some_nmnist())
        (folder / "Train/3/00077.bin").symlink_to("/nowhere/00077.bin")
        with pytest.raises(UserError, match="00077.bin can't be read: No such file"):
            load("snn_conv_1_nmnist", ".")
        assert len(load("snn_conv_1_nmnist", ".", "dataset.skip_bad=true")["test"]) == 3

    def test_a_recording_in_both_lists(self, folder):
        write_gesture(folder, subjects=(1, 2), test=(2, 3))
        with pytest.raises(UserError, match="user02_led.aedat is in both trials_to_train.txt and trials_to_test.txt"):
            load("snn_conv_1_gesture", ".")

    def test_a_label_file_without_rows(self, folder):
        write_gesture(folder)
        (folder / "user02_led_labels.csv").write_text("class,startTime_usec,endTime_usec\n")
        with pytest.raises(UserError, match="user02_led_labels.csv: it has no row; 12 are expected"):
            load("snn_conv_1_gesture", ".")

    def test_a_byte_order_mark_is_no_row(self, folder):
        write_gesture(folder, labels="\ufeff" + LABELS)
        for name in ("trials_to_train.txt", "trials_to_test.txt"):
            (folder / name).write_text("\ufeff" + (folder / name).read_text())
        splits = load("snn_conv_1_gesture", ".", "hyperparameters.length=2")
        assert [len(split) for split in splits.values()] == [5, 1, 4]

    def test_a_clock_that_was_reset(self, folder):
        rows = [(1, 1, 1, t) for t in (*range(1000, 2000, 10), *range(1000, 2000, 10))]
        write_gesture(folder, aedat=HEADER + polarity_packet(rows))
        with pytest.raises(UserError, match=r"user01_led.aedat: event 100 is at 1000 us, after 1990 us: .*clock"):
            load("snn_conv_1_gesture", ".")

    @pytest.mark.parametrize(
        "column, value", [("label", -1), ("label", 10), ("offsets", 10**9), ("place", 2 * 34 * 34), ("time", -1)]
    )
    def test_a_cache_whose_numbers_do_not_fit(self, folder, column, value):
        write_nmnist(folder, some_nmnist())
        load("snn_conv_1_nmnist", ".")
        (path,) = folder.glob("data/cache/nmnist_train_*.h5")
        with h5py.File(path, "r+") as file:
            file[column][1] = value
        with pytest.raises(UserError, match="cut short or damaged: its (offsets do not fit|column .* values outside)"):
            load("snn_conv_1_nmnist", ".")


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


def test_out_of_memory_is_one_line(run, monkeypatch):
    def fail(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr("snn.run.trainer.train_step", fail)
    run("snn_mlp_1", "--train")
    assert run.status == 2 and run.err.splitlines()[-1].startswith(
        "error: out of memory: set hyperparameters.batch_size"
    )


def test_moments_of_another_shape_are_not_resumed(run, trained):
    import shutil

    shutil.copytree(trained / "checkpoint", run.folder / "checkpoint")
    last = run.folder / "checkpoint/snn_mlp_1/last.pt"
    saved = torch.load(last, weights_only=True)
    saved["optimizer"]["state"][0]["exp_avg"] = torch.zeros(3)
    torch.save(saved, last)
    run("snn_mlp_1", "--train", "--resume", settings={"hyperparameters.epoch": 2})
    assert run.status == 2 and "last.pt: it has exp_avg of parameter 0 of shape [3], not [784]" in run.err


class TestOtherData:
    def test_images(self, run):
        run("snn_mlp_1", "--train", settings={"hyperparameters.epoch": 1})
        before = files_in(run.folder / "checkpoint")
        with pytest.MonkeyPatch.context() as patch:
            (images, labels), test = digits.read()
            patch.setattr(digits, "read", lambda: ((images, (labels + 1) % 10), test))
            run("snn_mlp_1", "--train", "--resume", settings={"hyperparameters.epoch": 2})
        assert run.status == 2 and "the split train holds other samples" in run.err
        assert files_in(run.folder / "checkpoint") == before
        run("snn_mlp_1", "--train", "--resume", settings={"hyperparameters.epoch": 2})
        assert run.status == 0, run.err

    def test_recordings(self, folder):
        """Another root with the same recordings is the same data; one recording more is not."""
        for root in ("a", "b"):
            write_nmnist(folder / root, some_nmnist(12))
        a, b = (load("snn_conv_1_nmnist", root) for root in ("a", "b"))
        assert all(a[part].fingerprint() == b[part].fingerprint() for part in a)
        write_nmnist(folder / "b", {"Train/9/00099.bin": [(3, 3, 1, 5)]})
        more = load("snn_conv_1_nmnist", "b")
        assert a["train"].fingerprint() != more["train"].fingerprint()
        assert a["test"].fingerprint() == more["test"].fingerprint()

    def test_patterns(self):
        made = [
            patterns.PatternSplit((torch.arange(24).view(2, 3, 4) % k == 0).float(), torch.rand(2, 3, 4), 5, {})
            for k in (2, 2, 3)
        ]
        assert made[0].fingerprint() == made[1].fingerprint() != made[2].fingerprint()
