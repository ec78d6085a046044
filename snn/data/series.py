"""Time series by name, of the UCR/UEA archive or your own, or in arrays: scaled, held, and padded to one length."""

from pathlib import Path

import numpy as np
import torch

from snn.base.errors import UserError
from snn.base.keys import (
    LARGEST_NUMBER,
    NETWORK,
    REQUIRED,
    Key,
    boolean,
    choice,
    count,
    file_name,
    finite,
    integer,
    list_of,
    positive,
    size,
    string,
)  # fmt: skip
from snn.base.output import note
from snn.data import series_files, series_parts
from snn.data.base import RATE_SCALE, Split, dataset_keys, root_key, used

NAMES = ("JapaneseVowels",)  # that which ships; `is_name` accepts the others


def is_name(name):
    """Whether a dataset of this name is a time series: as in the archive, they begin with a capital."""
    return name[:1].isupper()


def _name(value):
    if not is_name(file_name(value)):
        raise ValueError("a folder's name that begins with a capital, such as Wrist")
    return value


def _but(name):
    return {"encoding": [encoding for encoding in ENCODINGS if encoding != name]}


ENCODINGS = "current", "bank", "population", "delta"
KEYS = {
    "encoding": Key(
        "population",
        choice(*ENCODINGS),
        "current: values go into the first synapses; bank: into several of them for each channel; population: neurons "
        "with gain and bias; delta: spikes of changes",
        NETWORK,
    ),
    "dataset": dataset_keys(NAMES, root=root_key("data/time_series", "<name>/<name>_TRAIN.ts and _TEST.ts"))
    | {
        "name": Key(NAMES[0], _name, "name of a dataset of the archive, or of your own"),
        "labels": Key("labels", string, ".npz: the array with each series' label", NETWORK),
        "groups": Key("", string, "whose each series is: an array in .npz, a column in .csv", NETWORK),
        "folds": Key(5, integer(2), "groups without a test set: into how many folds they are dealt", NETWORK),
        "fold": Key(0, size, "the fold whose groups are the test set, counted from 0", NETWORK),
        "differences": Key(False, boolean, "more channels: what changed from the step before", NETWORK),
        "refit": Key(False, boolean, "train on all of the training set; dev is then a part of it, and no measure"),
    },
    "hyperparameters": {
        "length": Key(100, count, "time steps to hold the longest training series for, about; see hold", NETWORK),
        "hold": Key(0, size, "time steps for each value of a series; 0: as length allows, before any pool", NETWORK),
        "pool": Key(1, size, "values averaged into one; 0: as many as make all fit into length", NETWORK),
        "hidden": Key([128, 128], list_of(count, "sizes, such as [128, 128]", len), "sizes of hidden layers", NETWORK),
        "lines": Key(
            64, count, "bank: synapse filters for all channels, about, and at least 4 for each", NETWORK, _but("bank")
        ),
        "batches": Key(0, size, "batches of an epoch, at least: small training sets come several times"),
        "rate_scale": RATE_SCALE,
        "population": Key(10, count, "population: neurons for each channel", NETWORK, _but("population")),
        "delta": Key(
            0.25, positive, "delta: change that makes a spike, in standard deviations", NETWORK, _but("delta")
        ),
    },
}
_names = list_of(string, "two different names or more", lambda names: len(set(names)) == len(names) > 1)
_pair = list_of(finite, "a mean and a standard deviation above 0", lambda pair: len(pair) == 2 and pair[1] > 0)


def _groups(value):
    return None if value is None else list_of(string, "names, or null")(value)


MEASURED = {
    "classes": Key(REQUIRED, _names, "names of the classes, in the order of the output neurons"),
    "scaling": Key(REQUIRED, list_of(_pair, "pairs", len), "of each channel: the mean to take off, then the divisor"),
    "longest": Key(REQUIRED, count, "steps of the longest training series"),
    "left_out": Key(None, _groups, "the groups that are the test set; null, of an older run: a fold's"),
}


class SeriesSplit(Split):
    """Labelled time series.

    Args:
        values: `[N, steps, C]`, scaled, and padded with 0.
        labels: `[N]` int64.
        lengths: `[N]` int64, steps of each series without the padding.
        hold: time steps for each step of a series.
        repeats: how often each series comes in a pass.
        mean, std: `[C]` float64, by which the values are scaled.
        in_files: int32, the bits of all values as in the files, for the fingerprint.
    All tensors but the last are on the device for the batches.
    """

    def __init__(self, values, labels, lengths, hold, repeats, mean, std, in_files):
        self.values, self.labels, self.ends, self.hold, self.in_files = values, labels, lengths * hold, hold, in_files
        self.repeats = repeats
        self.mean, self.std, self.device, self.length = mean, std, values.device, values.shape[1] * hold

    def __len__(self):
        return len(self.labels) * self.repeats

    def batch(self, indices, generator):
        """Return x `[T, B, C]`, and `[2, B]`: the labels, and the time steps at which the series end."""
        indices = indices % len(self.labels)
        x = self.values[indices].transpose(0, 1).repeat_interleave(self.hold, 0)
        return x, torch.stack([self.labels[indices], self.ends[indices]])


def measure(config, read=series_files.read_part):
    """Return what the training set tells, as MEASURED has it. Raises UserError if it is missing or broken.

    The scaling is that of the series in train, which leaves out dev and keeps `dataset.train_size`.
    `read` gives the Series of a part, "TRAIN" or "TEST".
    """
    dataset = config["dataset"]
    given = with_differences(read(dataset, "TRAIN"), dataset)
    left_out = series_parts.left_out(given, dataset)
    in_train, in_dev, _ = series_parts.places(given, config, left_out)
    learned = np.union1d(in_train, in_dev)
    first, *others = set(given.labels[learned])
    if not others:
        raise UserError(f"{given.path}: all series are of class {given.classes[first]}; two are needed")
    scaling = _scaling(given, in_train[: dataset["train_size"] or None])
    longest = max(len(given.values[place]) for place in learned)
    return {"classes": given.classes, "scaling": scaling.tolist(), "longest": longest, "left_out": left_out}


def class_names(config):
    return config["measured"]["classes"]


def load(config, device, shape, read=series_files.read_part):
    """Return the splits "train", "dev" and "test" of a dataset, and its name for the test line.

    Dev is a fifth of each class of the training set, or of its groups, drawn with the run's seed; with `refit` it stays
    in train too. Without a test set, a fold of the groups is one.
    Values are scaled and labels matched, by the names of their classes, as `config["measured"]` says, or else as the
    training set does; `read` as for `measure`.
    Raises UserError if a file is missing or broken, has other channels or classes than were measured, or leaves no
    series for a part.
    """
    dataset, measured = config["dataset"], config.get("measured") or measure(config, read)
    given = read(dataset, "TRAIN")
    test = given if given.is_whole else read(dataset, "TEST")
    _note_what_is_not_read([given] if given.is_whole else [given, test], dataset["name"])
    labels, test_labels = (_labels(file, measured, dataset) for file in (given, test))
    given, test = (with_differences(file, dataset) for file in (given, test))
    left_out = series_parts.left_out(given, dataset, measured.get("left_out"))
    in_train, in_dev, in_test = series_parts.places(given, config, left_out)
    if not len(in_dev):
        one = "one series of each class (are these its labels?)" if given.groups is None else "one group to learn from"
        raise UserError(
            f"{given.path} has {one}, which leaves none for dev: set dataset.refit=true to train on all of them"
        )
    parts = {
        "train": (given, in_train, labels),
        "dev": (given, in_dev, labels),
        "test": (test, in_test if given.is_whole else np.arange(len(test_labels)), test_labels),
    }
    p, longest = config["hyperparameters"], max(map(len, given.values + test.values))
    splits = {}
    for name, (file, places, labels) in parts.items():
        chosen = used(name, len(places), dataset[f"{name}_size"])
        places = np.atleast_1d(places[chosen])  # NumPy takes a tensor of one place as a number
        repeats = max(1, -(-p["batches"] * p["batch_size"] // len(places))) if name == "train" else 1
        splits[name] = split_of(file, places, labels, p, measured, device, longest, repeats)
    if lacking := set(range(len(measured["classes"]))) - set(splits["train"].labels.tolist()):
        names = ", ".join(measured["classes"][n] for n in sorted(lacking))
        note(f"no series of {names} is in train: the network can't learn to answer with that")
    return splits, dataset["name"]


def split_of(file, places, labels, hyperparameters, measured, device, longest, repeats=1):
    """Return the series at these places of a file as a split, padded to as many steps as the longest one has."""
    scaling = torch.tensor(measured["scaling"], dtype=torch.float64).T
    mean, std = scaling.numpy()
    n_pool, n_hold = pool(hyperparameters, measured), hold(hyperparameters, measured)
    padded = np.zeros((len(places), -(-longest // n_pool), len(mean)), np.float32)
    lengths = torch.tensor([-(-len(file.values[place]) // n_pool) for place in places])
    for row, place, length in zip(padded, places, lengths):
        row[:length] = pooled(scaled(file, place, mean, std), n_pool)
    tensors = torch.from_numpy(padded), torch.from_numpy(labels[places]), lengths
    with np.errstate(over="ignore"):  # two values that overflow are told apart no more
        in_files = np.concatenate([file.values[place] for place in places]).astype(np.float32)
    in_files = torch.from_numpy(in_files).view(torch.int32)
    tensors = (tensor.to(device) for tensor in tensors)
    return SeriesSplit(*tensors, n_hold, repeats, *scaling.to(device), in_files)


class Arrays:
    """Series in arrays: a dataset as `snn.data.base` describes it, which `from_arrays` returns."""

    KEYS, MEASURED, class_names = KEYS, MEASURED, staticmethod(class_names)

    def __init__(self, name, train, test):
        self.NAMES, self.parts = (name,), {"TRAIN": train, "TEST": test}

    def read(self, _, part):
        return self.parts[part]

    def measure(self, config):
        return measure(config, self.read)

    def load(self, config, device, shape):
        return load(config, device, shape, self.read)


def from_arrays(X, y, X_test=None, y_test=None, groups=None, name="Arrays"):
    """Return time series in arrays as a dataset: `snn.train("time_series", dataset=from_arrays(X, y, X_test, y_test))`.

    All keys of configs work as for a dataset in files; `main` of a script of your own takes it too.

    Args:
        X: `[N, C, T]`, `[N, T]`, or a list of N arrays `[C, T_i]` or `[T_i]`. NaN is a missing value; where all are
            missing up to the last step, the series ends before.
        y: of each series its class: a string or a number.
        X_test, y_test: the test set; None if folds of the groups are left out for it, see `dataset.folds`.
        groups: of each series in X whose it is, a string or a number: dev is then of groups that are not in train.
        name: the dataset's, in configs and results; it begins with a capital.
    Raises UserError for what is none of these.
    """
    if not (isinstance(name, str) and is_name(name)):
        raise UserError(f"from_arrays: name is {name!r:.50}: the name of a time series begins with a capital")
    has_test = X_test is not None or y_test is not None
    train = series_files.of_arrays("X", X, y, groups)._replace(is_whole=not has_test)
    test = series_files.of_arrays("X_test", X_test, y_test, names=("y_test", "")) if has_test else None
    if all(len(series) < series.shape[1] for series in train.values):
        steps, channels = train.values[0].shape
        note(f"X: a series of {steps} steps with {channels} channels; [N, channels, steps] is expected")
    return Arrays(name, train, test)


def hold(hyperparameters, measured):
    """Return for how many time steps each value of a series is held."""
    return hyperparameters["hold"] or max(1, hyperparameters["length"] // measured["longest"])


def pool(hyperparameters, measured):
    """Return how many values of a series are averaged into one."""
    return hyperparameters["pool"] or -(-measured["longest"] // hyperparameters["length"])


def steps(config):
    """Return the time steps of the longest training series."""
    p, measured = config["hyperparameters"], config["measured"]
    return -(-measured["longest"] // pool(p, measured)) * hold(p, measured)


def with_differences(file, dataset):
    """Return a file whose series have their differences from step to step as more channels, if that is asked for."""
    if not dataset["differences"]:
        return file
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused as too large to scale
        values = [np.concatenate([of, np.diff(of, axis=0, prepend=of[:1])], 1) for of in file.values]
    return file._replace(values=values)


def _labels(file, measured, dataset):
    """Return each series' label, its place among the measured classes."""
    channels, classes = len(measured["scaling"]) // (1 + dataset["differences"]), measured["classes"]
    if file.values[0].shape[1] != channels:
        raise UserError(f"{file.path} has {file.values[0].shape[1]} channels, the network takes {channels}")
    unknown = [name for name in file.classes if name not in classes]
    if unknown:
        raise UserError(
            f"{file.path} has classes that the network does not know: {', '.join(unknown)}; it knows "
            f"{', '.join(classes)}"
        )
    return np.array([classes.index(name) for name in file.classes])[file.labels]


def _note_what_is_not_read(files, name):
    missing = sum(int(np.isnan(values).sum()) for file in files for values in file.values)
    if missing:
        held = "each is the value before it, or the channel's mean at the start"
        note(f"{name}: {missing:,} missing values; {held}")
    for file in files:
        others = series_files.not_read(file.path) if isinstance(file.path, Path) else []
        if others:
            note(f"{name}: {file.path.name} is read, not {', '.join(others)}")


def _scaling(file, places):
    """Return `[C, 2]`: the mean and the standard deviation of each channel's known values.

    Of a constant channel it is 1, or what rounding leaves of values that large.
    """
    known = np.concatenate([file.values[place] for place in places])
    there = ~np.isnan(known)
    lowest, highest = known.min(0, where=there, initial=np.inf), known.max(0, where=there, initial=-np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        rounding = 4 * np.finfo(np.float64).eps * np.maximum(abs(lowest), abs(highest))
        constant = ~(highest - lowest > rounding)  # also where no value is known
    number = there.sum(0).clip(1)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.where(constant & there.any(0), lowest, np.nansum(known, 0) / number)
        std = np.sqrt(np.nansum((known - mean) ** 2, 0) / number)
    for channel in np.flatnonzero(~(np.maximum(abs(mean), std) <= LARGEST_NUMBER)):
        raise UserError(f"{file.path}: channel {channel + 1} has values too large to scale: divide them")
    if constant.any():
        which = ", ".join(str(channel + 1) for channel in np.flatnonzero(constant))
        note(f"{file.path}: constant in train, so no help: channels {which}")
    of_constant = np.where(there.any(0), np.maximum(1, rounding), 1)
    return np.stack([mean, np.where(constant | (std == 0), of_constant, std)], 1)


def scaled(file, place, mean, std):
    """Return a series' scaled values `[steps, C]`, float32."""
    with np.errstate(over="ignore"):  # infinite is too large too
        scaled = _held((file.values[place] - mean) / std)
    too_large = abs(scaled) > np.finfo(np.float32).max
    if too_large.any():
        step, channel = np.argwhere(too_large)[0]
        raise UserError(
            f"{file.path}: value {file.values[place][step, channel]:g} in channel {channel + 1} of series {place + 1} "
            f"is too far from the mean of train, {mean[channel]:g}, with standard deviation {std[channel]:g}"
        )
    return scaled.astype(np.float32)


def pooled(values, number):
    """Return the means of each `number` values `[steps, C]`, the last one of what is left."""
    starts = np.arange(0, len(values), number)
    return np.add.reduceat(values, starts, dtype=np.float64) / np.diff(starts, append=len(values))[:, None]


def _held(values):
    """Return scaled values `[steps, C]`: each missing one is the one before it, or 0, the mean, at the start."""
    steps = np.arange(len(values))[:, None]
    last_known = np.maximum.accumulate(np.where(np.isnan(values), 0, steps))
    return np.nan_to_num(np.take_along_axis(values, last_known, 0))
