"""Files that are damaged, half there, or no files at all: noticed before they matter."""

import gzip
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from recordings import cached_nmnist, load, nmnist_bytes, some_nmnist, write_gesture, write_nmnist
from scripts import write_bomb
from test_config import resolve
from test_resume import files_at_most

from snn import checkpoint
from snn.base import files
from snn.base.errors import UserError
from snn.checkpoint.__main__ import convert, release
from snn.data import patterns


@pytest.mark.parametrize(
    "read",
    [
        lambda path: resolve(config_file=path),
        lambda path: checkpoint.load(path),
        lambda path: patterns.read(path, 300),
        lambda path: patterns.read(path.parent, 300),
        lambda path: files.read_bytes(path),
    ],
)
def test_a_pipe_is_refused_before_it_is_opened(read, tmp_path):
    os.mkfifo(tmp_path / "0.png")
    with pytest.raises(UserError, match="0.png.*it is not an ordinary file"):
        read(tmp_path / "0.png")


class TestCheckpoints:
    def test_each_flipped_bit_is_noticed(self, trained, tmp_path):
        """In a tensor and in the zip's directory, which torch.load takes as they are or fails on."""
        content = (trained / "checkpoint/snn_mlp_1/best.pt").read_bytes()
        directory = content.rfind(b"PK\x01\x02")
        target = tmp_path / "a.pt"
        somewhere = (int(share * len(content)) for share in (0.3, 0.5, 0.6))
        in_directory = (directory + byte for byte in (10, 16, 24, 42))
        for at in (-100, -30, 2000, 20_000, *somewhere, *in_directory):
            damaged = bytearray(content)
            damaged[at] ^= 4
            target.write_bytes(damaged)
            with pytest.raises(UserError, match=r"a.pt is not a checkpoint or is cut short \(.+\): name another"):
                checkpoint.load(target)

    def test_a_checkpoint_without_a_part_falls_back_too(self, run, trained):
        shutil.copytree(trained / "checkpoint", run.folder / "checkpoint")
        last = run.folder / "checkpoint/snn_mlp_1/last.pt"
        shutil.copy(last, last.parent / "previous.pt")
        saved = torch.load(last, weights_only=True)
        del saved["history"]
        torch.save(saved, last)
        run("snn_mlp_1", "--train", "--resume", settings={"hyperparameters.epoch": 2})
        assert run.status == 0 and "last.pt lacks history" in run.err

    def test_a_run_with_nothing_whole_to_resume_is_told_to_start_anew(self, run, trained):
        shutil.copytree(trained / "checkpoint", run.folder / "checkpoint")
        last = run.folder / "checkpoint/snn_mlp_1/last.pt"
        last.write_bytes(last.read_bytes()[:1000])
        last.with_name("previous.pt").unlink(missing_ok=True)
        run("snn_mlp_1", "--train", "--resume", settings={"hyperparameters.epoch": 2})
        assert run.status == 2 and run.err.endswith("): start a new run without --resume\n")

    def test_a_bomb_is_not_unpacked(self, tmp_path):
        write_bomb(tmp_path / "a.zip", "a")
        with zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("b/data.pkl", bytes(1 << 20))
        for name in ("a.zip", "b.pt"):
            with pytest.raises(UserError, match=rf"{name} .*it has .* bytes, and at most .* are read"):
                checkpoint.load(tmp_path / name)

    def test_weights_that_are_not_finite_are_not_written_again(self, trained, tmp_path):
        saved = torch.load(trained / "checkpoint/snn_mlp_1/best.pt", weights_only=True)
        saved["model"]["1.weight"][3, 4] = torch.inf
        torch.save(saved, tmp_path / "inf.pt")
        for write in (convert, release):
            with pytest.raises(UserError, match="inf.pt: 1.weight has values that are not finite"):
                write(tmp_path / "inf.pt", tmp_path / "out.pt")
        assert not (tmp_path / "out.pt").exists()

    def test_weights_that_are_not_finite_give_no_result(self, run, trained, tmp_path):
        saved = torch.load(trained / "checkpoint/snn_mlp_1/best.pt", weights_only=True)
        saved["model"]["1.weight"][3, 4] = torch.nan
        torch.save(saved, tmp_path / "nan.pt")
        run("snn_mlp_1", "--test", "--checkpoint", str(tmp_path / "nan.pt"))
        assert run.status == 2 and "1.weight has values that are not finite" in run.err and "accuracy" not in run.out


def pack(folder, archive="DvsGesture.tar.gz"):
    """Write gesture recordings as an archive."""
    write_gesture(folder / "unpacked")
    with tarfile.open(folder / archive, "w:gz") as tar:
        for file in sorted((folder / "unpacked").iterdir()):
            tar.add(file, f"DvsGesture/{file.name}")
    shutil.rmtree(folder / "unpacked")
    return folder / archive


class TestArchives:
    def test_a_checksum_that_is_wrong(self, folder):
        archive = pack(folder)
        content = bytearray(archive.read_bytes())
        content[-8] ^= 1
        archive.write_bytes(content)
        with pytest.raises(UserError, match="DvsGesture.tar.gz is not a tar.gz or is cut short .CRC check failed"):
            load("snn_conv_1_gesture", ".", "hyperparameters.length=2")

    def test_bombs(self, folder):
        archive = pack(folder)
        content = gzip.decompress(archive.read_bytes())
        archive.write_bytes(gzip.compress(content + bytes(1 << 25)))
        with pytest.raises(UserError, match="bytes, and at most .* are read"):
            load("snn_conv_1_gesture", ".", "hyperparameters.length=2")
        entry = tarfile.TarInfo("user01_led.aedat")
        entry.size = 1 << 40
        archive.write_bytes(gzip.compress(entry.tobuf() + bytes(1 << 20)))
        with pytest.raises(UserError, match="it has 1,099,511,627,776 bytes"):
            load("snn_conv_1_gesture", ".", "hyperparameters.length=2")
        write_bomb(Path("Train.zip"), "Train/3/1.bin")
        shutil.copy("Train.zip", "Test.zip")
        with pytest.raises(UserError, match="Train/3/1.bin: it has 268,435,457 bytes"):
            load("snn_conv_1_nmnist", ".")

    @pytest.mark.parametrize("change", [lambda file: file.unlink(), lambda file: file.write_bytes(nmnist_bytes([]))])
    def test_a_folder_that_is_half_unpacked(self, folder, change):
        write_nmnist(folder, some_nmnist())
        with zipfile.ZipFile("Train.zip", "w") as archive:
            for file in Path("Train").rglob("*.bin"):
                archive.write(file)
        load("snn_conv_1_nmnist", ".")  # both are the same
        change(Path("Train/3/00003.bin"))
        with pytest.raises(UserError, match=r"Train and Train.zip are both there and differ \(of 6 .* 5 are among"):
            load("snn_conv_1_nmnist", ".")

    def test_label_files_with_too_few_rows_are_named(self, folder, capsys):
        write_gesture(folder)
        load("snn_conv_1_gesture", ".", "hyperparameters.length=2")
        assert "note: 5 label files have fewer than 12 rows: user01_led_labels.csv has 2, " in capsys.readouterr().err


class TestSimulated:
    def test_an_empty_folder_is_filled_and_a_part_is_refused(self, run, few_recordings):
        (run.folder / "made").mkdir()
        settings = {"hyperparameters.epoch": 1, "hyperparameters.length": 3}
        lines = run("snn_conv_1_nmnist", "--train", settings=settings)
        assert run.status == 0 and lines[-1].endswith(", simulated nmnist recordings"), run.err
        next((run.folder / "made/Train").rglob("*.bin")).unlink()
        run("snn_conv_1_nmnist", "--train", settings=settings)
        assert run.status == 2 and "made is not whole: 19 files" in run.err and "delete it" in run.err

    def test_other_recordings_are_not_called_simulated(self, run):
        write_nmnist(run.folder / "made", some_nmnist(20))
        settings = {"hyperparameters.epoch": 1, "hyperparameters.length": 3}
        lines = run("snn_conv_1_nmnist", "--train", settings=settings)
        assert run.status == 0 and lines[-1].endswith(", the nmnist recordings in made"), run.err


class TestCache:
    @pytest.mark.parametrize("column", ["label", "offsets", "name", "place", "time"])
    def test_changed_bytes_are_noticed(self, folder, column):
        path = cached_nmnist(folder)
        with h5py.File(path) as file:
            chunk = file[column].id.get_chunk_info(0)
        content = bytearray(path.read_bytes())
        content[chunk.byte_offset + chunk.size // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(UserError, match="damaged: .*delete it to build it again"):
            load("snn_conv_1_nmnist", ".")

    def test_a_header_that_promises_more_than_the_file_can_hold(self, folder):
        path = cached_nmnist(folder)
        with h5py.File(path, "r+") as file:
            file["place"].resize((1 << 36,))
        with pytest.raises(UserError, match="damaged: it has 1.* bytes, and at most .* are read.: delete it"):
            load("snn_conv_1_nmnist", ".")

    def test_a_full_disk_is_one_line(self, folder):
        events = np.random.default_rng(0).integers(0, 34, (20, 3000, 2))
        write_nmnist(folder, {f"{part}/3/{n}.bin": [(x, y, 1, t * 50) for t, (x, y) in enumerate(rows)]
                              for part in ("Train", "Test") for n, rows in enumerate(events)})  # fmt: skip
        with files_at_most(50_000), pytest.raises(UserError, match=r"nmnist_\w+\.h5 can't be written: File too large"):
            load("snn_conv_1_nmnist", ".")
        assert list(folder.glob("data/cache/*")) + list(folder.glob("data/cache/.*")) == []
        load("snn_conv_1_nmnist", ".")


def test_an_error_that_says_nothing(tmp_path):
    """next() on nothing, in a reader, raises StopIteration, which generators treat in their own way."""
    with pytest.raises(UserError, match="a: StopIteration"), files.reading("a: {reason}"):
        next(iter([]))
