"""N-MNIST (Orchard, Jayawant, Cohen, Thakor 2015): MNIST filmed by an event camera in three saccades of 100 ms.

Format as published, https://www.garrickorchard.com/datasets/n-mnist: Train.zip and Test.zip or their unpacked folders,
with <digit>/<number>.bin. An event is 5 bytes, big-endian: x, y, 1 bit of polarity, 23 bits of microseconds.
"""

import zipfile
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from snn.base.errors import UserError
from snn.base.files import check_size, checked_entry, read_bytes, reading
from snn.base.keys import NETWORK, Key, choice
from snn.base.output import note
from snn.data import events, simulated_nmnist
from snn.data.event_cache import Recording

NAMES = ("nmnist", "nmnist_simulated")
KEYS = {
    "encoding": Key("or", choice("or"), "a pixel is 1 if it had an event, in bins of 300 // length ms", NETWORK),
    "dataset": events.dataset_section(NAMES, "data/N-MNIST", "Train.zip and Test.zip, or Train and Test"),
}
PAGE = "https://www.garrickorchard.com/datasets/n-mnist"
SHAPE = (2, 34, 34)  # polarity, x, y
MILLISECONDS = 300  # length of a recording, for binning
RECORDINGS = {"train": 60_000, "test": 10_000}  # as published
DEV_SHARE = 10_000 / 60_000  # of the training recordings, in the published split
END_OF_ZIP = 22  # bytes of its last record, without the comment
DIGITS = set("0123456789")
OVERFLOW_ROW, OVERFLOW_TIME = 240, 1 << 13  # a row with this y is not an event: it advances time


def sources(root):
    """Return the files that the dataset in the folder `root` is read from; raise UserError if it is missing."""
    return [source for part in ("Train", "Test") for source in _files(root, part)]


def recordings(root):
    """Return the number of recordings, and an iterator over (split, Recording), or (split, UserError) for a bad one."""
    entries = [(part.lower(), *entry) for part in ("Train", "Test") for entry in _entries(root, part)]

    def each():
        for part, name, read in entries:
            try:
                yield part, decode(read(), name, int(PurePosixPath(name).parent.name))
            except UserError as error:
                yield part, error

    return len(entries), each()


def decode(data, name, digit):
    """Return the Recording in the bytes of a .bin file; raise UserError if they end within an event."""
    if len(data) % 5:
        at = len(data) // 5 * 5
        raise UserError(f"{name}: {len(data)} bytes, not a multiple of 5: the event at byte {at} is cut short")
    rows = np.frombuffer(data, np.uint8).reshape(-1, 5)
    x, y, high, middle, low = rows.T
    time = (high & 127).astype(np.int64) << 16 | middle.astype(np.int64) << 8 | low
    overflow = y == OVERFLOW_ROW
    if overflow.any():
        events = ~overflow
        time += OVERFLOW_TIME * np.cumsum(overflow)
        x, y, high, time = x[events], y[events], high[events], time[events]
    return Recording(name, digit, time, x, y, high >> 7)


def bin_widths(durations, length, encoding):
    """Return `[N]` microseconds per bin for recordings that last `durations`: 300 // T milliseconds for each."""
    if length > MILLISECONDS:
        raise UserError(
            f"hyperparameters.length: {length} is not allowed; use at most {MILLISECONDS}: bins have 1 ms or more"
        )
    return np.full(len(durations), MILLISECONDS // length * 1000)


def _files(root, part):
    """Return the files of the split `part`: its folder's recordings, or its zip."""
    folder, archive = Path(root, part), Path(root, f"{part}.zip")
    if folder.is_dir():
        files = sorted(folder.glob("[0-9]/*.bin"))
        if not files:
            raise UserError(f"{folder}: no recordings <digit>/*.bin in it")
        if archive.is_file():
            _check_same(folder, files, archive)
        return files
    if archive.is_file():
        return [archive]
    raise UserError(
        f"N-MNIST is not in {root}, which lacks {part} or {part}.zip: get Train.zip and Test.zip from {PAGE} and put "
        "them there, or set dataset.root to their folder; --demo needs no data"
    )


def _check_same(folder, files, archive):
    """Raise UserError if a folder does not hold the recordings of the archive next to it: it may be half unpacked."""
    differ = f"{folder} and {archive} are both there and differ ({{reason}}): delete the one that is not whole"
    with reading(differ, archive):
        packed = {(path.parent.name, path.name): size for path, size in _recordings_in(zipfile.ZipFile(archive))}
        unpacked = {(file.parent.name, file.name): file.stat().st_size for file in files}
        if packed != unpacked:
            same = len(packed.items() & unpacked.items())
            raise ValueError(f"of {len(packed)} recordings in the archive, {same} are among the {len(unpacked)} files")


def _recordings_in(archive):
    """Return (name, bytes unpacked) of each recording in an open zip."""
    archive.fp.seek(-END_OF_ZIP - len(archive.comment), 2)
    count = int.from_bytes(archive.fp.read(END_OF_ZIP)[10:12], "little")  # zipfile does not look at it
    if count not in (len(archive.infolist()) % 2**16, 2**16 - 1):
        raise ValueError(f"its directory has {len(archive.infolist())} of {count} entries")
    found = []
    for entry in archive.infolist():
        name = PurePosixPath(checked_entry(archive.filename, entry.filename))
        if name.suffix == ".bin" and name.parent.name in DIGITS:
            found.append((name, entry.file_size))
        else:
            archive.open(entry).close()  # that it has another name is checked, or a damaged one would go unnoticed
    if len({name for name, _ in found}) < len(found):
        raise ValueError("its directory has a name twice")
    return sorted(found)


def _entries(root, part):
    """Return (name, function that reads its bytes) of each recording, in the order of digits and names."""
    files = _files(root, part)
    if files[0].suffix == ".bin":
        return [(str(file), partial(read_bytes, file)) for file in files]
    with reading(f"{files[0]} is not a zip archive or is cut short ({{reason}}): get it from {PAGE} again", files[0]):
        archive = zipfile.ZipFile(files[0])
        recordings = _recordings_in(archive)
    if not recordings:
        raise UserError(f"{files[0]}: no recordings <digit>/*.bin in it")

    return [(f"{files[0]}/{name}", partial(_read_packed, archive, name, size)) for name, size in recordings]


def _read_packed(archive, name, size):
    """Return the bytes of a recording in an open zip; raise UserError if it is damaged."""
    with reading(f"{archive.filename}/{name}: {{reason}}: get the archive from {PAGE} again, or unpack it yourself"):
        check_size(size)
        return archive.read(str(name))


FORMAT = events.Format(
    "nmnist", SHAPE, len(DIGITS), DEV_SHARE, sources, recordings, bin_widths, simulated_nmnist.simulate,
    lambda _: RECORDINGS,
)  # fmt: skip


def load(config, device, shape):
    """Return the splits and a note, as `snn.data.events.load` does."""
    length = config["hyperparameters"]["length"]
    used = MILLISECONDS // length * length
    if 0 < used < MILLISECONDS:
        note(f"{length} bins of {used // length} ms use the first {used} of {MILLISECONDS} ms")
    return events.load(config, device, FORMAT)
