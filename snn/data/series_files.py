"""Labelled time series from files, by suffix, and from arrays; docs/data.md says what each file holds.

The readers are small ones of our own: they check every number, and their errors name the line or the array.
"""

import csv
import io
import itertools
import os
import re
import zipfile

import numpy as np

from snn.base.errors import UserError
from snn.base.files import read_bytes, read_entry, reading, shipped, user_path
from snn.data.series_lines import in_lines, is_number, known, lines_of, name_of, with_classes

PAGE = "https://www.timeseriesclassification.com"
SHIPPED = shipped("datasets") / "time_series"
LABELS = ("label", "class", "target")  # what a header calls the column of labels, unless it is a label itself
BY_CHANCE = 3  # values of a series that may count, 1, 2, 3
SUFFIXES = (".ts", ".tsv", ".arff", ".csv", ".npz")  # the first that is there is read


def read_part(dataset, part):
    """Return the Series "TRAIN" or "TEST" of a config's section `dataset`: in its root, or of the dataset that ships.

    As "TRAIN" that of the one file `<name>.<suffix>`, if there is no `<name>_TRAIN`. Raises UserError.
    """
    name, root = dataset["name"], user_path(dataset["root"])
    folder = next((folder / name for folder in (root, SHIPPED) if (folder / name).is_dir()), None)
    if folder is None:
        raise UserError(
            f"{name} is not in {root}: download it from {PAGE}/description.php?Dataset={name}, put {name}_TRAIN.ts and "
            f"{name}_TEST.ts into {root / name}, or name another folder with dataset.root"
        )
    train, whole = (_found(folder, stem) for stem in (f"{name}_TRAIN", name))
    path = train or whole
    if not path:
        raise UserError(f"{folder} has no {name}_TRAIN with {', '.join(SUFFIXES)}: get the dataset again")
    if not train and (test := _found(folder, f"{name}_TEST")):
        raise UserError(f"{folder} has {test.name}, but no {name}_TRAIN: call {path.name} that, with this suffix")
    if part == "TEST":
        path = folder / f"{name}_TEST{train.suffix}"
    series = read(path, dataset["labels"], dataset["groups"], grouped=part == "TRAIN")
    return series._replace(is_whole=not train)


def _found(folder, name):
    """Return the path of the file of this name with the first of SUFFIXES; None if there is none."""
    paths = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    return next((path for path in paths if os.path.exists(path)), None)


def not_read(path):
    """Return the other suffixes with which a file of a path's name is there too."""
    return [suffix for suffix in SUFFIXES if suffix != path.suffix and os.path.exists(path.with_suffix(suffix))]


def read(path, labels="labels", groups="", labelled=True, grouped=True):
    """Return the Series of a file.

    Args:
        labels: the array in an .npz with each series' label.
        groups: the array in an .npz, or the column of a .csv, with each series' group; empty: there are no groups.
        labelled: whether it must have labels.
        grouped: whether it must have groups, if they are named; else they count for nothing.
    Raises UserError that names the file and the line, or the array, if it is not what its suffix says.
    """
    if path.suffix == ".npz":
        return _npz(path, labels, groups if grouped else "", labelled)
    if path.suffix == ".csv":
        return _csv(path, groups, labelled, grouped)
    if groups and grouped:
        raise UserError(f"{path} can't hold the groups of dataset.groups: use .csv or .npz, or leave that out")
    return {".ts": _ts, ".tsv": _tsv, ".arff": _arff}[path.suffix](path, labelled)


def _ts(path, labelled):
    """Return the Series of a .ts file of the UCR/UEA archive: lines with @, then one labelled time series a line.

    After @data, a line holds a series' channels, separated by `:`, and its label last; a channel's values are separated
    by `,`, and `?` is a missing one (https://www.timeseriesclassification.com).
    """
    lines = lines_of(path)
    classes, first = _header(path, lines, labelled)

    def parse(where, line):
        *channels, label = line.split(":")
        if "," in label and label.strip() not in classes:  # it is a channel: a series has two steps or more
            channels, label = [*channels, label], ""
        return [channel.split(",") for channel in channels], label

    return in_lines(path, lines, parse, classes, first, labelled)


def _header(path, lines, labelled):
    """Return the names of the classes, and the place of the first line after @data."""
    classes = []
    for place, line in enumerate(lines):
        word, *others = line.split() or [""]
        is_true, is_false = (others[:1] and others[0].lower() == value for value in ("true", "false"))
        where = f"{path}, line {place + 1}"
        if word.lower() == "@timestamps" and not is_false:
            raise UserError(f"{where}: series with timestamps are not read: get one with @timeStamps false")
        if word.lower() == "@classlabel":
            classes = others[1:] if is_true else []
            if labelled and len(set(classes)) < max(2, len(classes)):
                raise UserError(f"{where}: @classLabel true and the names of two classes or more are needed, once each")
            if not all(map(str.isprintable, classes)):
                raise UserError(f"{where}: its names are not in UTF-8: write the file anew in UTF-8")
        if word.lower() == "@data":
            if labelled and not classes:
                raise UserError(f"{where}: there is no line @classLabel before @data: add it, with the classes' names")
            return classes, place + 1
        if word and word[0] not in "#@":
            raise UserError(f"{where}: neither a line with @ nor a comment with #, and no line @data is above it")
    raise UserError(f"{path} has no line @data, after which the series begin: get the dataset again")


def _tsv(path, labelled):
    def parse(where, line):
        label, *words = _parted(where, line.split("\t"), "tabs")
        return [words], label

    file = in_lines(path, lines_of(path), parse, labelled=labelled)
    first, *others = file.labels
    if first >= 0 and file.classes[first].lower() in LABELS and first not in others:
        raise UserError(f"{path}: its first line is a header, which .tsv files have none of: delete it, or use .csv")
    return file


def _csv(path, groups, labelled, grouped):
    lines, whose = lines_of(path), []
    top = next((place for place, line in enumerate(lines) if line.strip()), 0)
    where = f"{path}, line {top + 1}"
    header = [cell.strip() for cell in _cells(where, lines[top])]
    below = ((f"{path}, line {place}", line) for place, line in enumerate(lines[top + 1 :], top + 2) if line.strip())
    has_header = _is_header(header, (_cells(*of_line)[0].strip() for of_line in below))
    elsewhere = [name for name in header[1:] if name.lower() in LABELS and name != groups]
    if has_header and elsewhere and header[0].lower() not in LABELS:
        place = header.index(elsewhere[0]) + 1
        raise UserError(f"{where}: {elsewhere[0]!r} is column {place}: put it first, and leave out what is no value")
    column = header.index(groups) if has_header and groups in header[1:] else None
    if groups and not column and (grouped or labelled and not has_header):  # whose column may be among the values
        raise UserError(f"{where}: dataset.groups needs a header, label first, with a column {groups!r:.50}")

    def parse(where, line):
        cells = _parted(where, _cells(where, line), "commas")
        if len(cells) > len(header) and has_header:
            raise UserError(f"{where}: {len(cells)} cells, where the header has {len(header)}")
        group = cells.pop(column) if column and column < len(cells) else ""
        if column and grouped:
            whose.append(name_of(where, "group", group))
        label, *words = cells or [""]
        return [[word.strip(" \t") or "?" for word in words]], label

    file = in_lines(path, lines, parse, first=top + has_header, labelled=labelled)
    return file._replace(groups=np.array(whose) if column and grouped else None)


def _is_header(cells, labels):
    """Whether the cells of a .csv file's first line are a header; `labels` are the first cells of those below it."""
    first, *rest = cells or [""]
    if first.lower() == "label" or not any(map(is_number, cells)) and any(rest):
        return True
    from_0, from_1 = ([*map(str, range(start, start + len(rest)))] for start in (0, 1))  # as pandas and R count
    if cells == ["0", *from_1]:
        return len(rest) > BY_CHANCE
    counted = bool(rest) and rest in ((from_0, from_1) if first else (from_0,))
    if is_number(first) or not counted and first.lower() not in LABELS:
        return False
    return not first or first not in labels


def _parted(where, cells, by):
    if len(cells) == 1:
        raise UserError(f"{where}: a single cell: {by} part a label and its values")
    return cells


def _cells(where, line):
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error as error:
        raise UserError(f"{where}: not a line of a .csv file: {error}") from None


def _arff(path, labelled):
    lines = ["" if line.lstrip().startswith("%") else line.strip() for line in lines_of(path)]
    attributes = []
    for place, line in enumerate(lines):
        word = line.split(maxsplit=1)[0].lower() if line else ""
        if word == "@attribute":
            attributes.append(line)
        elif word == "@data":
            break
        elif word and not word.startswith("@"):
            raise UserError(f"{path}, line {place + 1}: neither a line with @ nor a comment with %, above @data")
    else:
        raise UserError(f"{path} has no line @data, after which the series begin: get the dataset again")
    classes = re.search(r"\{(.*)\}$", attributes[-1] if attributes else "")
    classes = [_unquoted(name) for name in classes[1].split(",")] if classes else []
    if len(set(classes)) < max(2, len(classes)) or not all(name and name.isprintable() for name in classes):
        raise UserError(f"{path}: its last @attribute must be the class, {{name,name}}: two different names or more")
    is_relational = any(line.lower().endswith("relational") for line in attributes)

    def parse(where, line):
        if not is_relational:
            *words, label = line.split(",")
            return [words], _unquoted(label)
        match = re.fullmatch(r"""(['"])(.*)\1\s*,([^,]*)""", line)
        if not match:
            raise UserError(f"{where}: the channels, in quotes and with \\n between them, and the label are needed")
        return [channel.split(",") for channel in match[2].split(r"\n")], _unquoted(match[3])

    return in_lines(path, lines, parse, classes, place + 1, labelled)


def _unquoted(text):
    return re.sub(r"""^(['"])(.*)\1$""", r"\2", text.strip())


def _npz(path, labels, groups, labelled):
    content = io.BytesIO(read_bytes(path))
    with reading(f"{path} can't be read: {{reason}}"), zipfile.ZipFile(content) as archive:
        values, ends = (_array(archive, name) for name in ("values", "ends"))
        y, whose = (_array(archive, name) if name and labelled else None for name in (labels, groups))
        bounds = [0, *np.ravel(ends).tolist()] if ends.dtype.kind in "iu" else []
        if not bounds or bounds[-1] != len(values) or any(end <= start for start, end in itertools.pairwise(bounds)):
            raise ValueError("its array ends must be the places in values where each series ends, the last len(values)")
        one_each = values[:, None] if values.ndim == 1 else values
        X = [steps.T for steps in np.split(one_each, bounds[1:-1])]
        if not labelled:
            return with_classes(path, values_of(path, X), [None] * len(X))
        return of_arrays(path, X, y, whose, (f"{path}: {labels}", f"{path}: {groups}"))


def _array(archive, name):
    return np.atleast_1d(read_entry(archive, name, "dataset.labels and dataset.groups name arrays"))


def of_arrays(path, X, y, groups=None, names=("y", "groups")):
    """Return the Series of arrays, as `series.from_arrays` takes them.

    Args:
        path: what errors call X; `names` what they call the others.
    """
    values = values_of(path, X)
    whose = None if groups is None else _names(names[1], groups, len(values))
    return with_classes(path, values, _names(names[0], y, len(values)), groups=whose)


def values_of(path, X):
    """Return the values `[steps, C]` of each series in arrays, as `of_arrays` takes them."""
    X = listed(path, X, "an array [N, C, T] or [N, T], or a list of [C, T]")
    values = [_series(f"{path}: series {number}", x) for number, x in enumerate(X, 1)]
    if not values:
        raise UserError(f"{path} holds no series")
    for number, series in enumerate(values, 1):
        if series.shape[1] != values[0].shape[1]:
            raise UserError(
                f"{path}: series {number} has {series.shape[1]} channels, the first {values[0].shape[1]}: [channels, "
                "steps] is needed"
            )
    return values


def listed(path, X, allowed):
    """Return samples in an array or a list as a list."""
    try:
        return X if isinstance(X, (list, tuple)) else list(np.asanyarray(X))
    except Exception:  # somebody else's conversion raises anything
        raise UserError(f"{path} is {type(X).__name__}: {allowed}") from None


def _series(where, x):
    """Return a series `[steps, C]` of an array `[C, steps]` or `[steps]`."""
    x = numbers(where, x)
    if x.ndim not in (1, 2) or not x.size:
        raise UserError(f"{where} has the shape {list(x.shape)}: [channels, steps] is needed, or [steps]")
    return known(where, np.ascontiguousarray(np.atleast_2d(x).T, dtype=np.float64))


def numbers(where, x):
    """Return an array of finite numbers, or NaN."""
    try:
        x = np.asanyarray(x)
    except Exception as error:  # somebody else's conversion raises anything
        raise UserError(f"{where} is no array: {error}") from None
    if x.dtype.kind not in "fiub" or np.ma.is_masked(x):
        found = "masked values" if np.ma.is_masked(x) else x.dtype
        raise UserError(f"{where} holds {found}: numbers are needed, NaN for a missing one")
    if np.isinf(x).any():
        raise UserError(f"{where} holds an infinite value: NaN is for missing ones")
    return x


def _names(what, labels, number):
    """Return labels as names: whole numbers without a point, so that 1.0 is 1."""
    try:
        masked = np.ma.is_masked(labels)
        labels = [label.item() if hasattr(label, "item") else label for label in labels]
    except Exception:  # somebody else's conversion raises anything
        raise UserError(f"{what}: one for each series is needed, a string or a number") from None
    if masked:
        raise UserError(f"{what} holds masked values: one for each series is needed")
    if len(labels) != number:
        raise UserError(f"{what}: {len(labels)} for {number} series: one for each is needed")
    names = []
    for place, label in enumerate(labels, 1):
        if isinstance(label, float) and label.is_integer():
            label = int(label)
        if not isinstance(label, (str, int, float)) or label != label:
            raise UserError(f"{what}: that of series {place} is {label!r:.40}: a string or a number is needed")
        names.append(name_of(f"{what}, series {place}", "name", str(label)))
    return names
