"""The HDF5 cache of a dataset of event recordings: converted once, read in seconds.

A cache is one file for each split. Its name holds a fingerprint of the files that it was built from. Columns:
    time         [E] int32    microseconds since the recording's first event, in order within a recording
    place        [E] uint16   (polarity * X + x) * Y + y, where a frame is [2, X, Y]
    first        [E] bool     whether it is the first event of its place within its millisecond
    offsets      [N + 1]      recording n has the events offsets[n] to offsets[n + 1] - 1
    label        [N] int64
    name, subject, light      [N] strings; the last two are empty where a dataset has none
"""

import hashlib
import math
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from tqdm import tqdm

from snn.base.errors import UserError
from snn.base.files import check_size, reading, written_beside
from snn.base.keys import checked, size
from snn.base.output import is_quiet, say

FOLDER = Path("data/cache")
VERSION = 2
COLUMNS = {"time": np.int32, "place": np.uint16, "first": bool}
TYPES = COLUMNS | {"offsets": np.int64, "label": np.int64}
STRINGS = ("name", "subject", "light")
CHUNK = 1 << 18  # events compressed together
PENDING = 1 << 22  # events written together
MEMORY_BLOCK = 1 << 24  # bytes by which a cache grows
MOST_COMPRESSED = 1100  # bytes that one of deflate can hold


class Recording(NamedTuple):
    """One labelled recording of an event camera."""

    name: str
    label: int  # from 0
    time: np.ndarray  # [E] int64, microseconds
    x: np.ndarray  # [E]
    y: np.ndarray  # [E]
    polarity: np.ndarray  # [E], 0 or 1
    subject: str = ""
    light: str = ""


class Cached(NamedTuple):
    """The requested columns of a cache."""

    columns: dict  # by name
    offsets: np.ndarray
    labels: np.ndarray
    names: list
    subjects: list
    skipped: int  # number of bad recordings left out


def paths(dataset, sources, skip_bad):
    """Return the cache files {"train": path, "test": path} of a dataset that is read from the files `sources`."""
    seen = hashlib.sha256(f"{VERSION} {skip_bad}".encode())
    for source in sources:
        status = os.stat(source, follow_symlinks=os.path.exists(source))  # a dangling link fails when it is read
        seen.update(os.fsencode(f"{source} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\n"))
    return {part: FOLDER / f"{dataset}_{part}_{seen.hexdigest()[:16]}.h5" for part in ("train", "test")}


def build(files, recordings, total, shape, skip_bad, title):
    """Write the caches of both splits to temporary files, then rename them once both are complete.

    Args:
        files: the path of each split's cache.
        recordings: yields (split, Recording), or (split, UserError) for a bad one.
        total: their number, for the progress bar.
        shape: of a frame: (2, X, Y).
        skip_bad: count and leave out bad recordings; else the first one's UserError is raised.
    """
    start = time.monotonic()
    say(f"{title}: reading the recordings, on first use only")
    with ExitStack() as stack:
        writers = {part: _Writer(stack.enter_context(written_beside(path)), shape) for part, path in files.items()}
        for writer in writers.values():
            stack.enter_context(writer.file)  # an open one would be in the way of the next try
        bar = tqdm(recordings, total=total, desc=title, unit="recording", leave=False, disable=is_quiet() or None)
        for part, recording in bar:
            try:
                if isinstance(recording, UserError):
                    raise recording
                writers[part].add(recording)
            except UserError as error:
                if not skip_bad:
                    raise UserError(f"{error}; set dataset.skip_bad=true to leave bad recordings out") from None
                writers[part].skipped += 1
        for writer in writers.values():
            writer.finish()
    for part, path in files.items():
        found = f"{len(writers[part].labels)} {part} recordings, {writers[part].offsets[-1]:,} events"
        say(f"{title}: {found}, {path.stat().st_size / 1e6:.1f} MB in {path}")
    say(f"{title}: read in {time.monotonic() - start:.1f} s")


class _Writer:
    """Appends recordings to a cache, which it keeps in memory, compressed: HDF5 crashes when its disk is full."""

    def __init__(self, target, shape):
        self.shape = shape
        self.offsets, self.labels, self.strings = [0], [], {key: [] for key in STRINGS}
        self.pending, self.skipped = {key: [] for key in COLUMNS}, 0
        self.target = target
        self.file = h5py.File(target.name, "w", driver="core", backing_store=False, block_size=MEMORY_BLOCK)
        for key, dtype in COLUMNS.items():
            self.file.create_dataset(
                key, (0,), dtype, maxshape=(None,), chunks=(CHUNK,), compression="gzip", compression_opts=1,
                shuffle=True, fletcher32=True,
            )  # fmt: skip

    def add(self, recording):
        """Append a recording; raise UserError if it has no events or events outside the sensor."""
        columns = columns_of(recording, self.shape)
        for key, column in columns.items():
            self.pending[key].append(column)
        self.offsets.append(self.offsets[-1] + len(columns["place"]))
        self.labels.append(recording.label)
        for key in STRINGS:
            self.strings[key].append(os.fsencode(getattr(recording, key)))
        if self.offsets[-1] - len(self.file["time"]) > PENDING:
            self._flush()

    def _flush(self):
        for key, arrays in self.pending.items():
            column = self.file[key]
            written = len(column)
            column.resize((self.offsets[-1],))
            if arrays:
                column[written:] = np.concatenate(arrays)
            arrays.clear()

    def finish(self):
        """Append the columns of recordings, and write all of it to the target."""
        self._flush()
        others = {key: np.array(strings, "S") for key, strings in self.strings.items()}
        others |= {"offsets": np.array(self.offsets, np.int64), "label": np.array(self.labels, np.int64)}
        for key, values in others.items():
            self.file.create_dataset(key, data=values, maxshape=(None,), fletcher32=True)
        self.file.attrs.update(version=VERSION, skipped=self.skipped)
        self.file.flush()
        self.target.write(self.file.id.get_file_image())


def columns_of(recording, shape):
    """Return the columns of a recording's events; raise UserError if it has none, or some outside the sensor."""
    event_time, place = _in_order(recording, shape)
    return dict(zip(COLUMNS, (event_time, place, _first_of_milliseconds(event_time, place))))


def _in_order(recording, shape):
    """Return the recording's (time, place) as the cache stores them."""
    if not len(recording.time):
        raise UserError(f"{recording.name}: no events")
    _, size_x, size_y = shape
    outside = (recording.x >= size_x) | (recording.y >= size_y)
    if outside.any():
        n = outside.argmax()
        raise UserError(
            f"{recording.name}: event {n} is at x {recording.x[n]}, y {recording.y[n]}, outside the sensor's "
            f"{size_x} x {size_y} pixels"
        )
    event_time = recording.time - recording.time.min()
    if event_time.max() > np.iinfo(np.int32).max:
        raise UserError(f"{recording.name}: {event_time.max() / 1e6:.0f} s long; at most 2147 s are supported")
    place = (recording.polarity.astype(np.uint16) * size_x + recording.x) * size_y + recording.y
    event_time, place = event_time.astype(np.int32), place.astype(np.uint16)
    if (np.diff(event_time) < 0).any():
        order = event_time.argsort(kind="stable")
        event_time, place = event_time[order], place[order]
    return event_time, place


def _first_of_milliseconds(event_time, place):
    """Return which events are the first of their place within their millisecond; times must be in order."""
    order = place.argsort(kind="stable")
    milliseconds, places = event_time[order] // 1000, place[order]
    first = np.ones(len(place), bool)
    first[order[1:]] = (milliseconds[1:] != milliseconds[:-1]) | (places[1:] != places[:-1])
    return first


def read(path, columns, shape, classes):
    """Return these columns of a cache of recordings with frames of `shape` and labels below `classes`.

    Raises UserError if it is cut short, of another version, or holds what `build` does not write.
    """
    with (
        reading(f"cache {path} (cut short or damaged: {{reason}}): delete it to build it again", path),
        h5py.File(path, locking=False) as file,
    ):
        if file.attrs["version"] != VERSION:
            raise ValueError(f"of version {file.attrs['version']}, not {VERSION}")
        for key in (*TYPES, *STRINGS):  # a link, or values in another file, could be a pipe
            column = file[key] if isinstance(file.get(key, getlink=True), h5py.HardLink) else None
            if not isinstance(column, h5py.Dataset) or column.external or column.is_virtual:
                raise ValueError(f"its column {key} is not in it")
            check_size(column.nbytes, MOST_COMPRESSED * column.id.get_storage_size())
        if any(file[key].dtype != dtype or file[key].ndim != 1 for key, dtype in TYPES.items()):
            raise ValueError("its columns have other types")
        strings = {key: [os.fsdecode(string) for string in file[key][:]] for key in STRINGS}
        cached = Cached(
            {key: file[key][:] for key in columns}, file["offsets"][:], file["label"][:], strings["name"],
            strings["subject"], checked("skipped", size, file.attrs["skipped"].item()),
        )  # fmt: skip
        offsets, lengths = cached.offsets, {len(column) for column in cached.columns.values()}
        if lengths - {offsets[-1]} or offsets[0] or (offsets[1:] <= offsets[:-1]).any():
            raise ValueError("its offsets do not fit its columns")
        if not len(offsets) - 1 == len(cached.labels) == len(cached.names) == len(cached.subjects):
            raise ValueError("its labels do not fit its recordings")
        for key, values, largest in (
            ("label", cached.labels, classes - 1),
            ("place", cached.columns["place"], math.prod(shape) - 1),
            ("time", cached.columns["time"], np.iinfo(np.int32).max),
        ):
            if values.size and not 0 <= values.min() <= values.max() <= largest:
                raise ValueError(f"its column {key} has values outside 0 to {largest}")
        back = np.flatnonzero(cached.columns["time"][1:] < cached.columns["time"][:-1]) + 1
        if not np.isin(back, offsets).all():
            raise ValueError("its times are not in order within a recording")
    return cached
