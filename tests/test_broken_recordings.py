"""Broken event recordings and archives: each raises one line that names the file and the place, or is left out."""

import io
import tarfile
import zipfile

import pytest
from recordings import (
    HEADER,
    LABELS,
    SPECIAL,
    load,
    nmnist_bytes,
    polarity_packet,
    some_nmnist,
    write_gesture,
    write_nmnist,
)

from snn.base.errors import UserError
from snn.data import gesture, nmnist

pytestmark = pytest.mark.usefixtures("folder")


BAD_NMNIST = {
    "no multiple of 5": (b"12345678", r"Train/4/00004.bin: 8 bytes, not a multiple of 5: the event at byte 5"),
    "outside": ([(1, 1, 1, 0), (34, 3, 1, 5)], r"Train/4/00004.bin: event 1 is at x 34, y 3, outside .* 34 x 34"),
    "empty": (b"", r"Train/4/00004.bin: no events"),
    "only overflows": ([(0, 240, 0, 0)], r"Train/4/00004.bin: no events"),
}


@pytest.mark.parametrize("bad", BAD_NMNIST)
def test_bad_nmnist_recordings(folder, bad, capsys):
    content, message = BAD_NMNIST[bad]
    write_nmnist(folder, some_nmnist() | {"Train/4/00004.bin": content})
    with pytest.raises(UserError, match=message + ".*dataset.skip_bad=true"):
        load("snn_conv_1_nmnist", ".")
    splits = load("snn_conv_1_nmnist", ".", "dataset.skip_bad=true")
    assert len(splits["train"]) + len(splits["dev"]) == 5
    assert "1 bad train recordings are left out" in capsys.readouterr().out


def whole_aedat():
    return HEADER + SPECIAL + polarity_packet([(1, 1, 1, t) for t in range(1000, 2500)])


BAD_GESTURE = {
    "another version": (
        "aedat",
        HEADER.replace(b"3.1", b"2.0"),
        r"begins with '#!AER-DAT2.0', not with '#!AER-DAT3.1'",
    ),
    "no header's end": ("aedat", b"#!AER-DAT3.1\r\n#Format", r"its header has no end"),
    "cut packet": (
        "aedat",
        whole_aedat()[:-9],
        rf"the packet at byte {len(HEADER + SPECIAL)} is cut short, by 9 bytes",
    ),
    "cut packet header": (
        "aedat",
        whole_aedat() + SPECIAL[:20],
        rf"the packet at byte {len(whole_aedat())} is cut short",
    ),
    "broken packet": ("aedat", HEADER + b"\xff" * 50, rf"the packet at byte {len(HEADER)} is broken"),
    "outside": ("aedat", HEADER + polarity_packet([(128, 4, 1, t) for t in range(1000, 2100)]), r"event 0 is at x 128"),
    "no events in a clip": (
        "aedat",
        HEADER + polarity_packet([(1, 1, 1, t) for t in (*range(1000, 1100), 3000)]),
        r"user02_led.aedat 03: no events",
    ),
    "cut in a clip": (
        "aedat",
        HEADER + polarity_packet([(1, 1, 1, t) for t in range(1000, 2050)]),
        r"user02_led_labels.csv, line 3: it ends at 2150 us, the recording at 2049",
    ),
    "bad class": (
        "csv",
        LABELS + "12,1,2\n",
        r"user02_led_labels.csv, line 4: '12,1,2': class 12 is not one of 1 to 11",
    ),
    "end before start": ("csv", "3,20,10\n", r"line 1: '3,20,10': it ends at 10, not after its start 20"),
    "no numbers": ("csv", LABELS + "3,x,10\n", r"line 4: '3,x,10': three integers expected"),
    "missing label file": ("csv", None, r"user02_led.aedat: its label file user02_led_labels.csv is missing"),
    "missing recording": ("aedat", None, r"user02_led.aedat is not in ., and trials_to_train.txt lists it"),
    "too short": ("csv", "3,1000,1020\n", r"user02_led.aedat 01 is too short for 50 bins"),
}


@pytest.mark.parametrize("bad", BAD_GESTURE)
def test_bad_gesture_recordings(folder, bad, capsys):
    kind, content, message = BAD_GESTURE[bad]
    write_gesture(folder)
    file = folder / ("user02_led.aedat" if kind == "aedat" else "user02_led_labels.csv")
    file.unlink() if content is None else file.write_bytes(content if kind == "aedat" else content.encode())
    with pytest.raises(UserError, match=message + ".*dataset.skip_bad=true"):
        load("snn_conv_1_gesture", ".")
    splits = load("snn_conv_1_gesture", ".", "dataset.skip_bad=true")
    good = {"bad class": 6, "no numbers": 6, "no events in a clip": 5, "cut in a clip": 5}.get(bad, 4)
    assert len(splits["train"]) + len(splits["dev"]) == good
    assert f"{2 if bad == 'outside' else 1} bad train recordings are left out" in capsys.readouterr().out


class TestArchives:
    def zip_with(self, folder, name):
        with zipfile.ZipFile(folder / "Train.zip", "w") as archive:
            archive.writestr(name, nmnist_bytes([(1, 1, 1, 1)]))
        (folder / "Test.zip").write_bytes((folder / "Train.zip").read_bytes())

    @pytest.mark.parametrize("name", ["../3/a.bin", "/3/a.bin", "a/../../3/a.bin", "C:\\3\\a.bin"])
    def test_zip_entry_outside(self, folder, name):
        self.zip_with(folder, name)
        with pytest.raises(UserError, match=r"Train.zip: its entry .*a.bin points outside its folder"):
            load("snn_conv_1_nmnist", ".")

    @pytest.mark.parametrize("keep", [10, 100, 0.9])
    def test_zip_cut_short(self, folder, keep):
        self.zip_with(folder, "Train/3/a.bin")
        whole = (folder / "Train.zip").read_bytes()
        (folder / "Train.zip").write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
        with pytest.raises(UserError, match="Train.zip is not a zip archive or is cut short"):
            load("snn_conv_1_nmnist", ".")

    def test_zip_with_a_broken_entry(self, folder):
        self.zip_with(folder, "Train/3/a.bin")
        whole = bytearray((folder / "Train.zip").read_bytes())
        whole[45] ^= 255
        (folder / "Train.zip").write_bytes(whole)
        with pytest.raises(UserError, match="Train.zip/Train/3/a.bin: Bad CRC-32.*again"):
            load("snn_conv_1_nmnist", ".")

    def tar_with(self, folder, entry):
        with tarfile.open(folder / gesture.ARCHIVE, "w:gz") as archive:
            archive.addfile(entry, io.BytesIO(bytes(entry.size)))

    @pytest.mark.parametrize("name, link", [("../a.aedat", ""), ("/a.csv", ""), ("a.csv", "../../etc/passwd")])
    def test_tar_entry_outside(self, folder, name, link):
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = (tarfile.SYMTYPE, link) if link else (tarfile.REGTYPE, "")
        self.tar_with(folder, entry)
        with pytest.raises(UserError, match="DvsGesture.tar.gz: its entry .* points outside its folder"):
            load("snn_conv_1_gesture", ".")

    @pytest.mark.parametrize("keep", [0, 20, 0.3, 0.9])
    def test_tar_cut_short(self, folder, keep):
        entry = tarfile.TarInfo("user01_led.aedat")
        entry.size = 100_000
        self.tar_with(folder, entry)
        whole = (folder / gesture.ARCHIVE).read_bytes()
        (folder / gesture.ARCHIVE).write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
        with pytest.raises(UserError, match="DvsGesture.tar.gz is not a tar.gz or is cut short"):
            load("snn_conv_1_gesture", ".")


@pytest.mark.parametrize(
    "experiment, words",
    [
        ("snn_conv_1_nmnist", ["Train or Train.zip", nmnist.PAGE, "dataset.root", "--demo"]),
        ("snn_conv_1_gesture", [gesture.ARCHIVE, gesture.PAGE, "dataset.root", "--demo"]),
    ],
)
def test_absent_data_says_where_to_get_it(experiment, words):
    with pytest.raises(UserError) as error:
        load(experiment, "nowhere")
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)


class TestReaders:
    """Whatever a library raises is one line with the file, and a counted recording under skip_bad."""

    def test_archives_that_zipfile_can_not_read(self, folder):
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
