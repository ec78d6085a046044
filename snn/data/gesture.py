"""DVS128 Gesture (Amir et al. 2017): 11 hand and arm gestures of 29 subjects, filmed by a 128x128 event camera.

Format as published, https://research.ibm.com/interactive/dvsgesture/: DvsGesture.tar.gz, or its files, unpacked.
trials_to_train.txt and trials_to_test.txt list recordings userNN_LIGHT.aedat (AEDAT 3.1), each with a
userNN_LIGHT_labels.csv that has 12 rows `class,startTime_usec,endTime_usec`; class 8 occurs twice. A row is a clip.
"""

import gzip
import os
import re
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np

from snn.base.errors import UserError
from snn.base.files import LARGEST, check_size, checked_entry, read_bytes, reading
from snn.base.keys import NETWORK, Key, choice, integer
from snn.base.output import note
from snn.data import aedat, events, simulated_gesture
from snn.data.event_cache import Recording

NAMES = ("gesture", "gesture_simulated")
_ENCODING = "or: a pixel of a bin is 1 if it had an event; max: its share of the bin's highest count"
_CLASSES = "11, or 10: without the last, other gestures, as in the paper"
_DEV_SPLIT = "random: any training clips, as published; subject: people who are not in train"
KEYS = {
    "encoding": Key("or", choice("or", "max"), _ENCODING, NETWORK),
    "dataset": events.dataset_section(
        NAMES, "data/DVS128-Gesture", "DvsGesture.tar.gz, or the .aedat files, labels and lists",
        classes=Key(11, integer(10, 12), _CLASSES, NETWORK),
        dev_split=Key("random", choice("random", "subject"), _DEV_SPLIT),
    ),
}  # fmt: skip
PAGE = "https://research.ibm.com/interactive/dvsgesture/"
ARCHIVE, UNPACKED = "DvsGesture.tar.gz", "DvsGesture"
SHAPE = (2, 128, 128)  # polarity, x, y
CLASS_NAMES = (
    "hand clapping", "right hand wave", "left hand wave", "right arm clockwise", "right arm counter clockwise",
    "left arm clockwise", "left arm counter clockwise", "arm roll", "air drums", "air guitar", "other gestures",
)  # fmt: skip
CLASSES = len(CLASS_NAMES)
ROWS = 12  # of a label file: class 8 occurs twice
RECORDINGS = {"train": 98, "test": 24}  # as published
CLOCK_RESET = 500  # microseconds back, to where the recording began or before
DEV_SHARE = 128 / 1176  # of the training clips: 128 in the published split
LARGEST_TABLE = 1 << 20  # bytes of a list or a label file
PADDING = 1 << 20  # bytes that may follow the last entry of an archive
LISTS = {"train": "trials_to_train.txt", "test": "trials_to_test.txt"}
BOM = b"\xef\xbb\xbf"  # a byte-order mark


def sources(root):
    """Return the files that the dataset in the folder `root` is read from; raise UserError if it is missing."""
    root = Path(root)
    unpacked = [folder for folder in (root, root / UNPACKED) if (folder / LISTS["train"]).is_file()]
    if (root / ARCHIVE).is_file() and root not in unpacked:
        return [root / ARCHIVE]
    if unpacked:
        lists = LISTS.values()
        return sorted(f for f in unpacked[0].iterdir() if f.suffix in (".aedat", ".csv") or f.name in lists)
    raise UserError(
        f"DVS128 Gesture is not in {root}, which lacks {ARCHIVE} or {LISTS['train']}: get it from {PAGE} and put it "
        "there, or set dataset.root to its folder; --demo needs no data"
    )


def recordings(root):
    """Return the approximate number of clips, and an iterator over (split, Recording), or (split, UserError) if bad."""
    tables = dict(_files(root, (".csv", ".txt")))
    split_of = _split_of(root, tables)
    labels = {name: tables[name] for name in map(_label_file, split_of) if name in tables}
    rows = {name: len(_rows(table)) for name, table in labels.items() if isinstance(table, bytes)}
    few = [f"{name} has {number}" for name, number in rows.items() if 0 < number < ROWS]
    if few:
        which = ", ".join(few[:5]) + (", ..." if few[5:] else "")
        note(f"{len(few)} label files have fewer than {ROWS} rows: {which}")

    def each():
        missing = dict(split_of)
        for name, data in _files(root, (".aedat",)):
            if name in missing:
                part = missing.pop(name)
                try:
                    for clip in _clips(name, data, tables):
                        yield part, clip
                except UserError as error:
                    yield part, error
        for name, part in missing.items():
            yield part, UserError(f"{name} is not in {root}, and {LISTS[part]} lists it")

    return ROWS * len(split_of), each()


def bin_widths(durations, length, encoding):
    """Return `[N]` microseconds per bin for clips that last `durations`, 0 for one too short: equal bins over the clip.

    With the encoding "max" a bin is a whole number of milliseconds.
    """
    unit = 1000 if encoding == "max" else 1
    return (durations.astype(np.int64) // unit + 1) // length * unit


def whole(settings):
    """Return the number of clips, by split, of the published recordings: 1,176 and 288 of all classes."""
    rows = ROWS - (CLASSES - settings["classes"])
    return {part: rows * count for part, count in RECORDINGS.items()}


def class_names(config):
    return CLASS_NAMES[: config["dataset"]["classes"]]


def _clips(name, data, tables):
    """Yield the Recording of each row of a recording's label file, or a UserError for a bad row."""
    label_file = _label_file(name)
    if label_file not in tables:
        raise UserError(f"{name}: its label file {label_file} is missing")
    match = re.fullmatch(r"(user\d+)_(.+)\.aedat", name)
    if not match:
        raise UserError(f"{name}: a recording must be named userNN_LIGHT.aedat")
    time, words = aedat.decode(_needed(data), name)
    back = np.diff(time)
    reset = (back < -CLOCK_RESET) & (time[1:] <= time[:1])
    reset[:10] = False  # the first packets may come in another order
    if reset.any():
        n = int(reset.argmax())
        raise UserError(
            f"{name}: event {n + 1} is at {time[n + 1]} us, after {time[n]} us: the camera's clock was reset"
        )
    if (back < 0).any():
        order = time.argsort(kind="stable")
        time, words = time[order], words[order]
    rows = _rows(tables[label_file])
    if not rows:
        raise UserError(f"{label_file}: it has no row; {ROWS} are expected")
    for row, line in rows:
        try:
            label, start, end = _parse_row(line)
        except ValueError as error:
            yield UserError(f"{label_file}, line {row}: {line.strip()!r}: {error}")
            continue
        if len(time) and 2 * (end - time[-1]) > end - start:
            yield UserError(f"{label_file}, line {row}: it ends at {end} us, the recording at {time[-1]} us")
            continue
        first, last = np.searchsorted(time, (start, end))
        word = words[first:last]
        yield Recording(
            f"{name} {row:02d}", label - 1, time[first:last], word >> 17 & 0x7FFF, word >> 2 & 0x7FFF, word >> 1 & 1,
            *match.groups(),
        )  # fmt: skip


def _label_file(name):
    return name.removesuffix(".aedat") + "_labels.csv"


def _rows(table):
    """Return (line number, line) of each row of a label file."""
    return [(number, line) for number, line in enumerate(_lines(table), 1) if not line.startswith("class")]


def _parse_row(line):
    """Return (class, start, end) of a row of a label file; raise ValueError that says what is wrong."""
    try:
        label, start, end = (int(field) for field in line.split(","))
    except ValueError:
        raise ValueError("three integers expected: class,startTime_usec,endTime_usec") from None
    if not 1 <= label <= CLASSES:
        raise ValueError(f"class {label} is not one of 1 to {CLASSES}")
    if not 0 <= start < end:
        raise ValueError(f"it ends at {end}, not after its start {start}")
    return label, start, end


def _split_of(root, tables):
    """Return the split of each recording that the trials lists name."""
    split_of = {}
    for part, list_name in LISTS.items():
        if list_name not in tables:
            raise UserError(f"DVS128 Gesture in {root} lacks {list_name}: get it from {PAGE} again")
        for line in _lines(tables[list_name]):
            if split_of.setdefault(line, part) != part:
                raise UserError(f"{line} is in both {LISTS['train']} and {LISTS['test']}: delete one of the lines")
    return split_of


def _lines(table):
    """Return the lines of a text file's bytes that are not empty; a byte-order mark is no part of the first."""
    return [line.strip() for line in os.fsdecode(_needed(table).removeprefix(BOM)).splitlines() if line.strip()]


def _files(root, suffixes):
    """Yield (name, bytes) of each file with such a suffix, from the folder or, in one pass, from the archive.

    A UserError stands for the bytes of a file that can't be read: it may be one that nobody needs, or is left out.
    """
    files = sources(root)
    if files[0].name != ARCHIVE:
        yield from ((file.name, _content(file)) for file in files if file.suffix in suffixes)
        return
    broken = f"{files[0]} is not a tar.gz or is cut short ({{reason}}): get it from {PAGE} again"
    # gzip checks the whole file's checksum at its end, which tarfile does not read
    with reading(broken, files[0]), gzip.open(files[0]) as content, tarfile.open(fileobj=content, mode="r|") as archive:
        for entry in archive:
            check_size(entry.size, LARGEST if entry.name.endswith(".aedat") else LARGEST_TABLE)
            name = checked_entry(files[0], entry.name)
            if entry.issym() or entry.islnk():
                checked_entry(files[0], entry.linkname)
            is_needed = not name.endswith(".txt") or PurePosixPath(name).name in LISTS.values()
            if entry.isfile() and name.endswith(suffixes) and is_needed:
                yield PurePosixPath(name).name, archive.extractfile(entry).read()
        check_size(len(content.read(PADDING + 1)), PADDING)


def _content(file):
    """Return a file's bytes, or the UserError that stands for them if it can't be read."""
    try:
        return read_bytes(file)
    except UserError as error:
        return error


def _needed(content):
    """Return the bytes of a file that is needed; raise the UserError that may stand for them."""
    if isinstance(content, UserError):
        raise content
    return content


FORMAT = events.Format(
    "gesture", SHAPE, CLASSES, DEV_SHARE, sources, recordings, bin_widths,
    lambda: simulated_gesture.simulate(LISTS), whole,
)  # fmt: skip


def load(config, device, shape):
    """Return the splits and a note, as `snn.data.events.load` does."""
    return events.load(config, device, FORMAT)
