"""Event recordings: formats, cache, bins, splits and simulated cameras."""

import os
import shutil
import struct
import tarfile
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import pytest
import torch
from recordings import (
    HEADER,
    SPECIAL,
    cached_nmnist,
    frames,
    load,
    nmnist_bytes,
    polarity_packet,
    some_nmnist,
    write_gesture,
    write_nmnist,
)

from snn.base.errors import UserError
from snn.data import aedat, camera, event_cache, gesture, nmnist, simulated_gesture, simulated_nmnist
from snn.data.frames import bin_max, bin_or

pytestmark = pytest.mark.usefixtures("folder")


class TestNMNIST:
    def test_decode(self):
        recording = nmnist.decode(nmnist_bytes([(33, 0, 1, 0), (1, 2, 0, 8_388_607)]), "a.bin", 3)
        assert recording.label == 3
        assert [list(column) for column in recording[2:6]] == [[0, 8_388_607], [33, 1], [0, 2], [1, 0]]

    def test_overflow_rows_are_no_events_and_move_time_on(self):
        rows = [(1, 1, 1, 8000), (0, 240, 0, 0), (2, 2, 1, 100), (0, 240, 1, 0), (3, 3, 1, 50)]
        recording = nmnist.decode(nmnist_bytes(rows), "a.bin", 0)
        assert list(recording.time) == [8000, 8192 + 100, 2 * 8192 + 50]
        assert list(recording.x) == [1, 2, 3]

    def test_zip_and_folder_give_the_same_frames(self, folder):
        write_nmnist(folder / "a", some_nmnist())
        (folder / "b").mkdir()
        for part in ("Train", "Test"):
            shutil.make_archive(folder / "b" / part, "zip", folder / "a", part)
        of_folder, of_zip = (load("snn_conv_1_nmnist", name) for name in ("a", "b"))
        for part in ("train", "dev", "test"):
            for a, b in zip(frames(of_folder[part]), frames(of_zip[part])):
                assert torch.equal(a, b)

    def test_split_is_that_of_seed_42_in_the_order_of_digits_and_names(self, folder):
        write_nmnist(folder, {f"Train/{n % 10}/{n:05d}.bin": [(n, 0, 1, 0)] for n in range(30)} | some_nmnist(0))
        names = sorted(range(30), key=lambda n: (n % 10, n))
        order = torch.randperm(30, generator=torch.Generator().manual_seed(42)).tolist()
        splits = load("snn_conv_1_nmnist", ".")
        seen = {part: frames(splits[part])[0][0, :, 1, :, 0].argmax(1).tolist() for part in splits}
        assert seen["train"] == [names[n] for n in order[:25]] and seen["dev"] == [names[n] for n in order[25:]]
        splits = load("snn_conv_1_nmnist", ".", "dataset.dev_size=3", "dataset.train_size=4", "dataset.test_size=2")
        assert {part: len(split) for part, split in splits.items()} == {"train": 4, "dev": 3, "test": 2}

    def test_shifted_recordings(self, folder):
        """Only in training; every sample moves as a whole, by up to two pixels each way."""
        rows = [(10, 20, 1, 0), (11, 20, 1, 0), (0, 0, 0, 290_000)]
        write_nmnist(folder, {f"{part}/0/{n:05d}.bin": rows for part in ("Train", "Test") for n in range(120)})
        splits = load("snn_conv_1_nmnist", ".", "dataset.shift=2")
        assert (frames(splits["dev"])[0][0, :, 1, 10, 20] == 1).all()
        x, _ = next(splits["train"].batches(100, torch.Generator().manual_seed(1)))
        seen = {tuple(place) for place in x[0, :, 1].nonzero()[:, 1:].tolist()}
        assert seen == {(a, b) for a in range(8, 14) for b in range(18, 23)}
        for sample in range(100):
            (x1, y1), (x2, y2) = x[0, sample, 1].nonzero().tolist()
            assert (x2 - x1, y2 - y1) == (1, 0)
            inside = [[x1 - 10, y1 - 20]] if x1 >= 10 and y1 >= 20 else []
            assert x[29, sample, 0].nonzero().tolist() == inside
            assert x[1:29, sample].sum() == 0

    def test_golden_frames(self, folder):
        golden, data = os.environ.get("SNN_GOLDEN"), os.environ.get("SNN_DATASETS")
        if not (golden and data):
            pytest.skip("SNN_GOLDEN and SNN_DATASETS name no folders with reference values and recordings")
        with np.load(Path(golden) / "checkpoint_snn_conv_1_nmnist_0_expected.npz") as file:
            shape = file["frames_shape"]
            expected = np.unpackbits(file["frames"])[: shape.prod()].reshape(shape)
            names = list(file["files"])
        split = load("snn_conv_1_nmnist", Path(data) / "N-MNIST")["test"]
        assert [n for n in sorted(names)] == names  # the first of the test set
        assert np.array_equal(frames(split, 6)[0].numpy(), expected)


class TestGesture:
    def test_decode(self):
        data = (
            HEADER + SPECIAL + polarity_packet([(127, 0, 1, 5), (0, 127, 0, 6)])
            + polarity_packet([(9, 9, 1, 7)], valid=0)
            + struct.pack("<hhiiiiii", 3, 1, 36, 4, 0, 2, 2, 2) + bytes(72)
            + polarity_packet([(3, 4, 1, 2**31 - 1)], overflow=1)
        )  # fmt: skip
        time, words = aedat.decode(data, "a.aedat")
        assert time.tolist() == [5, 6, 2**32 - 1]
        assert (words >> 17).tolist() == [127, 0, 3] and (words >> 2 & 0x7FFF).tolist() == [0, 127, 4]

    def test_clips_are_the_rows_of_the_label_files(self, folder):
        write_gesture(folder)
        splits = load("snn_conv_1_gesture", ".", "dataset.dev_split=subject")
        assert {part: len(split) for part, split in splits.items()} == {"train": 4, "dev": 2, "test": 4}
        x, labels = frames(splits["test"])
        assert labels.tolist() == [0, 10, 0, 10]
        assert x.shape == (50, 4, 2, 128, 128) and x.sum() == 50 * 4
        assert [place.nonzero().tolist() for place in x[0]] == [
            [[1, 41, 1]],
            [[0, 41, 11]],
            [[1, 42, 1]],
            [[0, 42, 11]],
        ]

    def test_a_clip_begins_at_its_start_and_ends_before_its_end(self, folder):
        rows = [(1, 1, 1, t) for t in (999, 1000, 1500, 1999, 2000)]
        write_gesture(folder, aedat=HEADER + polarity_packet(rows), labels="1,1000,2000\n2,1500,2001\n")
        (_, first), (_, second), *_ = gesture.recordings(folder)[1]
        assert first.time.tolist() == [1000, 1500, 1999] and second.time.tolist() == [1500, 1999, 2000]
        assert (first.subject, first.light) == ("user01", "led")

    def test_times_that_fall_are_put_in_order(self, folder):
        packets = polarity_packet([(5, 5, 1, 1900)]) + polarity_packet([(6, 6, 0, 1100)])
        write_gesture(folder, aedat=HEADER + packets, labels="1,1000,2000\n")
        (_, clip), *_ = gesture.recordings(folder)[1]
        assert clip.time.tolist() == [1100, 1900] and clip.x.tolist() == [6, 5]

    @pytest.mark.parametrize("names_in_archive", ["DvsGesture/", "./"])
    def test_archive_and_folder_give_the_same_frames(self, folder, names_in_archive):
        write_gesture(folder / "a")
        (folder / "b").mkdir()
        with tarfile.open(folder / "b" / gesture.ARCHIVE, "w:gz") as archive:
            for file in sorted((folder / "a").iterdir(), reverse=True):
                archive.add(file, names_in_archive + file.name)
        shutil.unpack_archive(folder / "b" / gesture.ARCHIVE, folder / "c")  # as `tar -x` does there
        of_folder, *others = (load("snn_conv_1_gesture", name) for name in ("a", "b", "c"))
        for part in ("train", "dev", "test"):
            for other in others:
                for a, b in zip(frames(of_folder[part]), frames(other[part])):
                    assert torch.equal(a, b)

    def test_random_dev_clips_are_the_published_share(self, folder, capsys):
        write_gesture(folder, subjects=range(1, 15))
        splits = load("snn_conv_1_gesture", ".")
        assert (len(splits["train"]), len(splits["dev"])) == (25, 3)
        assert "3 of 28 training recordings, chosen at random, are for dev" in capsys.readouterr().out

    def test_ten_classes_leave_out_the_last(self, folder):
        write_gesture(folder)
        splits = load("snn_conv_1_gesture", ".", "dataset.classes=10", "dataset.dev_split=subject")
        assert {part: len(split) for part, split in splits.items()} == {"train": 2, "dev": 1, "test": 2}
        assert frames(splits["test"])[1].tolist() == [0, 0]

    def test_a_short_clip_of_a_class_that_is_left_out_is_no_error(self, folder):
        write_gesture(folder, labels="1,1000,2000\n11,2000,2020\n")
        load("snn_conv_1_gesture", ".", "dataset.classes=10")
        with pytest.raises(UserError, match="user01_led.aedat 02 is too short for 50 bins"):
            load("snn_conv_1_gesture", ".")

    @pytest.mark.parametrize("classes, whole", [(11, (1176, 288)), (10, (1078, 264))])
    def test_the_count_of_clips_is_printed(self, folder, capsys, monkeypatch, classes, whole):
        write_gesture(folder)
        load("snn_conv_1_gesture", ".", f"dataset.classes={classes}")
        out, err = capsys.readouterr()
        found = (6, 4) if classes == 11 else (3, 2)
        for part, count, of in zip(("train", "test"), found, whole):
            assert f"gesture: {count} {part} samples\n" in out
            missing = f"{of - count:,} of the published {of:,} {part} samples are not there; is . whole?"
            assert f"note: gesture: {missing}\n" in err
        monkeypatch.setattr(gesture, "RECORDINGS", {"train": 0, "test": 0})
        load("snn_conv_1_gesture", ".", f"dataset.classes={classes}")
        assert "published" not in capsys.readouterr().err

    def test_dev_of_whole_subjects(self, folder):
        write_gesture(folder, subjects=range(1, 9))
        splits = load("snn_conv_1_gesture", ".", "dataset.dev_split=subject", "dataset.dev_size=3")
        subjects = {part: set(frames(split)[0].amax((0, 2, 4)).argmax(1).tolist()) for part, split in splits.items()}
        assert len(subjects["dev"]) == 2 and subjects["dev"] | subjects["train"] == set(range(1, 9))
        assert not subjects["dev"] & subjects["train"]

    def test_some_training_clips_are_of_all_people_that_train(self, folder):
        write_gesture(folder, subjects=range(1, 9))
        settings = ("dataset.dev_split=subject", "dataset.dev_size=2", "dataset.train_size=7")
        split = load("snn_conv_1_gesture", ".", *settings)["train"]
        assert len(split) == 7 and len(set(frames(split)[0].amax((0, 2, 4)).argmax(1).tolist())) > 4


def plain_bins(recordings, widths, length, shape, largest):
    """Return what `bin_or` and `bin_max` should return, computed event by event."""
    result = torch.zeros(length, len(recordings), *shape)
    for sample, rows in enumerate(recordings):
        seen = set()
        for time, place in rows:
            step = time // widths[sample]
            if step >= length or (largest and (time // 1000, place) in seen):
                continue
            seen.add((time // 1000, place))
            frame = result[step, sample].view(-1)
            frame[place] = frame[place] + 1 if largest else 1
        if largest:
            for frame in result[:, sample]:
                frame /= max(frame.max(), 1)
    return result


class TestBins:
    def columns(self, recordings, widths, length):
        rows = [[(time // width, place) for time, place in rows] for rows, width in zip(recordings, widths)]
        rows = [[(step, place) for step, place in of_one if step < length] for of_one in rows]
        step, place = torch.tensor([row for of_one in rows for row in of_one], dtype=torch.int16).T
        return step, place, torch.tensor([len(of_one) for of_one in rows])

    @pytest.mark.parametrize("length", [1, 3, 10])
    def test_or(self, length):
        generator = np.random.default_rng(length)
        shape, widths = (2, 3, 5), [7, 30, 1]
        recordings = [sorted(zip(generator.integers(0, 70, n), generator.integers(0, 30, n))) for n in (40, 1, 9)]
        recordings = [[(time - rows[0][0], place) for time, place in rows] for rows in recordings]
        expected = plain_bins(recordings, widths, length, shape, largest=False)
        got = bin_or(*self.columns(recordings, widths, length), length, shape)
        assert got.dtype == torch.float32 and torch.equal(got, expected)

    @pytest.mark.parametrize("length", [1, 4, 30])
    def test_max_from_recording_to_frames(self, folder, length):
        """The cache leaves out repeats within a millisecond."""
        generator = np.random.default_rng(length)
        write_gesture(folder)
        raw = []
        for number in (1, 2, 3, 41, 42):
            time = np.sort(generator.integers(0, 60_000, 4000))
            rows = list(
                zip(
                    generator.integers(0, 4, 4000), generator.integers(0, 4, 4000), generator.integers(0, 2, 4000), time
                )
            )
            (folder / f"user{number:02d}_led.aedat").write_bytes(
                HEADER + polarity_packet([tuple(map(int, r)) for r in rows])
            )
            (folder / f"user{number:02d}_led_labels.csv").write_text("5,0,70000\n")
            raw.append([(int(t - time[0]), int((p * 128 + x) * 128 + y)) for x, y, p, t in rows])
        split = load("snn_conv_1_gesture_max", ".", f"hyperparameters.length={length}")["test"]
        widths = [(rows[-1][0] // 1000 + 1) // length * 1000 for rows in raw[3:]]
        expected = plain_bins(raw[3:], widths, length, (2, 128, 128), largest=True)
        assert 0 < (expected > 0).float().mean() and expected.unique().numel() > 2
        torch.testing.assert_close(frames(split)[0], expected)

    def test_no_recordings(self):
        """As a rank may have none of the last batch."""
        none, counts = torch.zeros(0, dtype=torch.int32), torch.zeros(0, dtype=torch.int64)
        for bins in bin_or, bin_max:
            assert bins(none, none.short(), counts, 3, (2, 4, 4)).shape == (3, 0, 2, 4, 4)

    @pytest.mark.parametrize("bins", [bin_or, bin_max])
    def test_frames_on_cuda_are_the_same_with_channels_last(self, bins):
        generator = torch.Generator().manual_seed(0)
        counts = torch.tensor([40, 1, 19])
        step = torch.randint(5, (60,), generator=generator, dtype=torch.int32)
        place = torch.randint(24, (60,), generator=generator).short()
        expected = bins(step, place, counts, 5, (2, 3, 4))
        with mock.patch.object(torch.Tensor, "is_cuda", True):
            found = bins(step, place, counts, 5, (2, 3, 4))
        assert torch.equal(found, expected) and found.stride()[2] == 1

    def test_shifts_on_cuda_are_the_same_with_channels_last(self, folder):
        write_nmnist(folder, some_nmnist())
        split = load("snn_conv_1_nmnist", ".", "dataset.shift=2")["train"]
        expected, found = [], []
        for batches in expected, found:
            with mock.patch.object(torch.Tensor, "is_cuda", batches is found):
                batches += [x for x, _ in split.batches(2, torch.Generator().manual_seed(1))]
        assert all(map(torch.equal, found, expected)) and all(x.stride()[2] == 1 for x in found)

    def test_a_bin_without_events_stays_zero(self):
        got = bin_max(*self.columns([[(0, 1), (0, 1), (9, 2)]], [5], 3), 3, (4,))
        assert got[:, 0].tolist() == [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]

    def test_widths(self):
        durations = np.array([299_999, 1000], np.int32)
        assert nmnist.bin_widths(durations, 30, "or").tolist() == [10_000, 10_000]
        assert nmnist.bin_widths(durations, 7, "or").tolist() == [42_000, 42_000]
        assert gesture.bin_widths(durations, 50, "or").tolist() == [6000, 20]
        assert gesture.bin_widths(durations, 30, "max").tolist() == [10_000, 0]

    def test_time_that_bins_leave_out_is_told(self, capsys, monkeypatch):
        monkeypatch.setattr(nmnist.events, "load", lambda *_: None)
        for length, note in ((30, ""), (40, "note: 40 bins of 7 ms use the first 280 of 300 ms\n")):
            nmnist.load({"hyperparameters": {"length": length}}, "cpu", nmnist.SHAPE)
            assert capsys.readouterr().err == note


class TestCache:
    def test_is_built_once_and_anew_when_a_source_changes(self, folder, capsys):
        write_nmnist(folder, some_nmnist())
        load("snn_conv_1_nmnist", ".")
        first = set(folder.glob("data/cache/*"))
        assert "reading the recordings" in capsys.readouterr().out
        load("snn_conv_1_nmnist", ".")
        assert set(folder.glob("data/cache/*")) == first
        assert "reading the recordings" not in capsys.readouterr().out
        file = folder / "Test/0/00000.bin"
        before = file.stat()
        file.write_bytes(nmnist_bytes([(20, 21, 1, 0), (0, 0, 0, 9)]))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # same size and modification time, but another file
        assert frames(load("snn_conv_1_nmnist", ".")["test"])[0][0, 0, 1, 20, 21] == 1
        assert len(set(folder.glob("data/cache/*")) - first) == 2

    def test_keeps_subject_and_light(self, folder):
        write_gesture(folder)
        load("snn_conv_1_gesture", ".")
        (path,) = folder.glob("data/cache/gesture_test_*.h5")
        with h5py.File(path) as file:
            assert list(file["subject"]) == [b"user41"] * 2 + [b"user42"] * 2 and set(file["light"]) == {b"led"}

    def test_a_build_that_fails_leaves_nothing(self, folder):
        write_nmnist(folder, some_nmnist() | {"Test/5/00005.bin": b"1234567"})
        with pytest.raises(UserError):
            load("snn_conv_1_nmnist", ".")
        assert not list(folder.rglob("*.h5*"))

    @pytest.mark.parametrize("keep", [0, 300, 0.5, 0.98])
    def test_cut_short(self, folder, keep):
        path = cached_nmnist(folder)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
        with pytest.raises(UserError, match=rf"cache {path.relative_to(folder)} \(cut short.*delete it"):
            load("snn_conv_1_nmnist", ".")

    def test_of_another_version(self, folder):
        path = cached_nmnist(folder)
        with h5py.File(path, "r+") as file:
            file.attrs["version"] = 99
        with pytest.raises(UserError, match="of version 99, not 2.: delete it"):
            load("snn_conv_1_nmnist", ".")

    def test_many_recordings_are_written_in_pieces(self, folder, monkeypatch):
        monkeypatch.setattr(event_cache, "PENDING", 5)
        write_nmnist(folder, some_nmnist(20))
        splits = load("snn_conv_1_nmnist", ".")
        assert frames(splits["train"])[0].sum() == 17 * 2

    def test_other_recordings_are_another_fingerprint(self, folder):
        """Another root with the same recordings is the same data; one recording more is not."""
        for root in ("a", "b"):
            write_nmnist(folder / root, some_nmnist(12))
        a, b = (load("snn_conv_1_nmnist", root) for root in ("a", "b"))
        assert all(a[part].fingerprint() == b[part].fingerprint() for part in a)
        write_nmnist(folder / "b", {"Train/9/00099.bin": [(3, 3, 1, 5)]})
        more = load("snn_conv_1_nmnist", "b")
        assert a["train"].fingerprint() != more["train"].fingerprint()
        assert a["test"].fingerprint() == more["test"].fingerprint()

    @pytest.mark.parametrize(
        "column, value", [("label", -1), ("label", 10), ("offsets", 10**9), ("place", 2 * 34 * 34), ("time", -1)]
    )
    def test_a_cache_whose_numbers_do_not_fit(self, folder, column, value):
        path = cached_nmnist(folder)
        with h5py.File(path, "r+") as file:
            file[column][1] = value
        with pytest.raises(UserError, match="cut short or damaged: its (offsets do not fit|column .* values outside)"):
            load("snn_conv_1_nmnist", ".")


class TestCamera:
    def film(self, levels, threshold=0.5, refractory=0, noise=0.0):
        """Return the events of one pixel with these log intensities."""
        steps = [torch.full((1, 1, 1), level).exp() for level in levels]
        return camera.film(steps, 1000, threshold, refractory, noise, torch.Generator().manual_seed(1))[0]

    def test_an_event_for_each_change_by_the_threshold(self):
        seen = self.film([0, 0.4, 0.6, 0.9, 0, 0])
        assert (seen.time // 1000).tolist() == [1, 3] and seen.polarity.tolist() == [1, 0]

    def test_silent_after_an_event(self):
        seen = self.film([0, 1, 2, 3, 4], refractory=2000)
        assert (seen.time // 1000).tolist() == [0, 2]

    def test_noise_has_its_rate(self):
        steps = [torch.ones(2, 20, 20)] * 1001
        scenes = camera.film(steps, 1000, 0.5, 0, 5.0, torch.Generator().manual_seed(1))
        for scene in scenes:
            assert len(scene.time) == pytest.approx(5 * 400, rel=0.1)
            assert (scene.time.diff() >= 0).all() and scene.x.unique().numel() == 20


class TestSimulated:
    def test_nmnist_goes_through_the_reader(self, folder, monkeypatch):
        monkeypatch.setattr(simulated_nmnist, "TRAIN", 5)
        monkeypatch.setattr(simulated_nmnist, "TEST", 2)
        files, again = (dict(simulated_nmnist.simulate()[1]) for _ in range(2))
        assert len(files) == 7 == simulated_nmnist.simulate()[0] and files == again
        recording = nmnist.decode(next(iter(files.values())), "a", 0)
        assert 250_000 < recording.time.max() < 300_000 and (np.diff(recording.time) >= 0).all()
        assert recording.x.max() < 34 and 1000 < len(recording.time) < 20_000
        assert len(load("snn_conv_1_nmnist", "made", "dataset.name=nmnist_simulated")["train"]) == 4

    def test_gestures_go_through_the_reader(self, folder, monkeypatch):
        monkeypatch.setattr(simulated_gesture, "TRAIN", 2)
        monkeypatch.setattr(simulated_gesture, "TEST", 1)
        monkeypatch.setattr(simulated_gesture, "CLIP", 400_000)
        monkeypatch.setattr(simulated_gesture, "LIGHTS", {"led": 1.0})
        splits = load("snn_conv_1_gesture", "made", "dataset.name=gesture_simulated", "dataset.dev_split=subject")
        assert {part: len(split) for part, split in splits.items()} == {"train": 12, "dev": 12, "test": 12}
        x, labels = frames(splits["test"])
        assert sorted(labels.tolist()) == [0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 9, 10]
        for label, side in ((1, -1), (2, 1)):  # the right hand waves on the left of the picture
            left, right = x[:, labels == label, :, :64].sum(), x[:, labels == label, :, 64:].sum()
            assert side * (right - left) > 0.5 * right.minimum(left)
