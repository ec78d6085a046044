"""What all files of series share: their lines, labels and numbers, and the Series that they become."""

import codecs
import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from snn.base.errors import UserError
from snn.base.files import read_bytes
from snn.base.keys import LONGEST_NAME

_NOT_IN_A_NUMBER = re.compile(r"[^-+.0-9eE?naNA \t]")  # Python takes 1_0, infinity and other scripts' digits too


class Series(NamedTuple):
    """A file's labelled series, or those of arrays."""

    path: Path | str  # or what errors call the arrays
    values: list  # of each series, float64 `[steps, channels]`; NaN where a value is missing
    labels: np.ndarray  # `[N]` int64, places in `classes`; -1 where a label is missing
    classes: list  # names, in the order of the output neurons
    groups: np.ndarray | None = None  # `[N]` names, such as whose series they are
    is_whole: bool = False  # no test set is beside it


def lines_of(path):
    """Return the lines of a text file, which end at newlines only. Raises UserError if it is empty."""
    content = read_bytes(path)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{path} is not in UTF-8: write the file anew in UTF-8")
    text = content.decode("utf-8-sig", errors="surrogateescape")  # comments may be in any encoding
    if not text.strip():
        raise UserError(f"{path} is empty: get the dataset again")
    return re.split(r"\r?\n", text)


def in_lines(path, lines, parse, classes=None, first=0, labelled=True):
    """Return the Series of the lines from `first` on; empty ones count for nothing.

    Args:
        parse: from where a line is, for errors, and the line to the words of each channel, and the label.
        classes: names that the labels must be among; none: those that there are.
        labelled: whether no label may be missing, as `is_missing` says.
    """
    values, names = [], []
    for number, line in enumerate(lines[first:], first + 1):
        if line.strip():
            where = f"{path}, line {number}"
            channels, label = parse(where, line)
            values.append(_values(where, channels, values[0].shape[1] if values else len(channels)))
            is_unknown = not labelled and is_missing(label, classes)
            names.append(None if is_unknown else name_of(where, "label", label, classes))
    if not values:
        raise UserError(f"{path} has no series: get the dataset again")
    return with_classes(path, values, names, classes)


def with_classes(path, values, names, classes=None, groups=None):
    """Return the Series of values, with the name of each one's class or None, and of its group if there are groups."""
    classes = classes or in_order(name for name in names if name is not None)
    places = {name: place for place, name in enumerate(classes)} | {None: -1}
    groups = None if groups is None else np.array(groups)
    return Series(path, values, np.array([places[name] for name in names]), classes, groups)


def in_order(names):
    """Return different names in order: numbers by their value, then the others."""

    def key(name):
        is_number = re.fullmatch(r"-?\d+(\.\d*)?", name, re.ASCII)
        return (0, float(name), name) if is_number else (1, 0, name)

    return sorted(set(names), key=key)


def known(where, values):
    """Return a series `[steps, channels]` up to its last value: what is missing after it are no steps."""
    steps = np.flatnonzero(~np.isnan(values).all(1))
    if not len(steps) or not steps[-1]:
        raise UserError(f"{where}: a series of one step or none, without those missing at its end; two are needed")
    return values[: steps[-1] + 1]


def _values(where, channels, expected):
    """Return the values `[steps, channels]` of a line."""
    if len(channels) != expected or not channels:
        raise UserError(f"{where}: {len(channels)} channels, where the first series has {expected}")
    rows = [_numbers(where, number, words) for number, words in enumerate(channels, 1)]
    if len({len(row) for row in rows}) > 1:
        raise UserError(f"{where}: its channels have {', '.join(str(len(row)) for row in rows)} values: as many each")
    return known(where, np.stack(rows, 1))


def _numbers(where, channel, words):
    try:
        numbers = np.array(["nan" if word.strip() == "?" else word for word in words], dtype=np.float64)
    except ValueError:
        numbers = None
    if numbers is None or np.isinf(numbers).any() or _NOT_IN_A_NUMBER.search("".join(words)):
        bad = next(word for word in words if not is_number(word))
        raise UserError(
            f"{where}: channel {channel}: {bad.strip()[:40]!r} is not a finite number; ? or NaN is a missing one"
        )
    return numbers


def is_number(word):
    try:
        return word.strip() == "?" or not (_NOT_IN_A_NUMBER.search(word) or math.isinf(float(word)))
    except ValueError:
        return False


def is_missing(name, allowed=None):
    """Whether this stands in place of the name of a class or a group, and is none of those allowed."""
    return name.strip().lower() in ("", "?", "na", "nan") and name.strip() not in (allowed or ())


def name_of(where, what, name, allowed=None):
    """Return the name of a class or a group, checked."""
    name = name.strip()
    if (lacks := is_missing(name, allowed)) or len(name) > LONGEST_NAME or not name.isprintable():
        why = "missing" if lacks else "not printable (UTF-8)" if len(name) <= LONGEST_NAME else "too long"
        raise UserError(f"{where}: its {what} is {why}")
    if allowed and name not in allowed:
        raise UserError(f"{where}: {what} {name[:40]!r} is not among the classes of the header: {' '.join(allowed)}")
    return name
