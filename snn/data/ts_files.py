"""The .ts files of the UCR/UEA archive: a header of lines with @, then one labelled time series a line.

After @data, a line holds a series' channels, separated by `:`, and its label last; a channel's values are separated by
`,`, and `?` is a missing one (https://www.timeseriesclassification.com).
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from snn.base.errors import UserError
from snn.base.files import read_bytes


class Series(NamedTuple):
    """A file's labelled series."""

    path: Path
    values: list  # of each series, float64 `[steps, channels]`; NaN where a value is missing
    labels: np.ndarray  # `[N]` int64, places in `classes`
    classes: list  # names, in the order of the header


def read(path):
    """Return the Series of a .ts file. Raises UserError that names the file and the line if it is not such a file."""
    lines = _text(path).splitlines()
    classes, first = _header(path, lines)
    values, labels = [], []
    for number, line in enumerate(lines[first:], first + 1):
        if line.strip():
            where = f"{path}, line {number}"
            *channels, label = line.strip().split(":")
            values.append(_values(where, channels, values[0].shape[1] if values else len(channels)))
            labels.append(_place(where, label, classes))
    if not values:
        raise UserError(f"{path} has no series after its line @data: get the dataset again")
    return Series(path, values, np.array(labels), classes)


def _text(path):
    text = read_bytes(path).decode("utf-8-sig", errors="surrogateescape")  # comments may be in any encoding
    if not text.strip():
        raise UserError(f"{path} is empty: get the dataset again")
    return text


def _header(path, lines):
    """Return the names of the classes, and the place of the first line after @data."""
    classes = None
    for place, line in enumerate(lines):
        word, *others = line.split() or [""]
        is_true, is_false = (others[:1] and others[0].lower() == value for value in ("true", "false"))
        where = f"{path}, line {place + 1}"
        if word.lower() == "@timestamps" and not is_false:
            raise UserError(f"{where}: series with timestamps are not read: get one with @timeStamps false")
        if word.lower() == "@classlabel":
            if not is_true or len(set(others[1:])) < 2:
                raise UserError(f"{where}: @classLabel true and the names of two classes or more are needed")
            classes = others[1:]
            if not all(map(str.isprintable, classes)):
                raise UserError(f"{where}: its names are not in UTF-8: write the file anew in UTF-8")
        if word.lower() == "@data":
            if not classes:
                raise UserError(f"{where}: there is no line @classLabel before @data: add it, with the classes' names")
            return classes, place + 1
        if word and word[0] not in "#@":
            raise UserError(f"{where}: neither a line with @ nor a comment with #, and no line @data is above it")
    raise UserError(f"{path} has no line @data, after which the series begin: get the dataset again")


def _values(where, channels, expected):
    """Return the values `[steps, channels]` of a line."""
    if len(channels) != expected or not channels:
        raise UserError(f"{where}: {len(channels)} channels, where the first series has {expected}")
    rows = [_numbers(where, number, channel.split(",")) for number, channel in enumerate(channels, 1)]
    if len({len(row) for row in rows}) > 1:
        raise UserError(f"{where}: its channels have {', '.join(str(len(row)) for row in rows)} values: as many each")
    if len(rows[0]) < 2:
        raise UserError(f"{where}: a series of one step; at least two are needed")
    return np.stack(rows, 1)


def _numbers(where, channel, words):
    try:
        numbers = np.array(["nan" if word.strip() == "?" else word for word in words], dtype=np.float64)
    except ValueError:
        numbers = None
    text = "".join(words)
    is_odd = ("_" in text or not text.isascii()) and not all(map(_is_number, words))
    if numbers is None or np.isinf(numbers).any() or is_odd:
        bad = next(word for word in words if not _is_number(word))
        raise UserError(f"{where}: channel {channel}: {bad.strip()[:40]!r} is not a finite number; ? is a missing one")
    return numbers


def _is_number(word):
    try:
        # Python also takes 1_0, and the digits of other scripts
        return word.strip() == "?" or (word.isascii() and "_" not in word and not math.isinf(float(word)))
    except ValueError:
        return False


def _place(where, label, classes):
    if label.strip() not in classes:
        raise UserError(f"{where}: label {label.strip()[:40]!r} is not in @classLabel: {' '.join(classes)}")
    return classes.index(label.strip())
