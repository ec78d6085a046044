"""Time series of the UCR/UEA archive by name, or your own in its .ts format: scaled, held, and padded to one length."""

import sys

import numpy as np
import torch

from snn.base import ranks
from snn.base.errors import UserError
from snn.base.files import shipped, user_path
from snn.base.keys import NETWORK, Key, boolean, choice, count, file_name, positive, size
from snn.data import ts_files
from snn.data.base import Split, dataset_keys, root_key

PAGE = "https://www.timeseriesclassification.com"
SHIPPED = shipped("datasets") / "time_series"
DEV_SHARE = 0.2

NAMES = ("JapaneseVowels",)  # that which ships; `is_name` accepts the others
KEYS = {
    "encoding": Key(
        "population",
        choice("current", "population", "delta"),
        "current: values go into the first synapses; population: neurons with gain and bias; delta: spikes of changes",
        NETWORK,
    ),
    "dataset": dataset_keys(NAMES, root=root_key("data/time_series", "<name>/<name>_TRAIN.ts and _TEST.ts"))
    | {
        "name": Key(NAMES[0], file_name, "name of a dataset of the archive, or of your own"),
        "refit": Key(False, boolean, "train on all of the training set; dev is then a part of it, and no measure"),
    },
    "hyperparameters": {
        "length": Key(100, count, "time steps to hold the longest training series for, about; see hold", NETWORK),
        "hold": Key(0, size, "time steps for each value of a series; 0: as length allows, at least 1", NETWORK),
        "population": Key(10, count, "population: neurons for each channel", NETWORK),
        "delta": Key(0.25, positive, "delta: change that makes a spike, in standard deviations", NETWORK),
    },
}


def is_name(name):
    """Whether a dataset of this name is a time series: as in the archive, they begin with a capital."""
    return name[:1].isupper()


class SeriesSplit(Split):
    """Labelled time series.

    Args:
        values: `[N, steps, C]`, scaled, and padded with 0.
        labels: `[N]` int64.
        lengths: `[N]` int64, steps of each series without the padding.
        hold: time steps for each step of a series.
        mean, std: `[C]`, by which the values are scaled, for streams.
        in_files: int32, the bits of all values as in the files, for the fingerprint.
    All tensors but the last are on the device for the batches.
    """

    def __init__(self, values, labels, lengths, hold, mean, std, in_files):
        self.values, self.labels, self.ends, self.hold, self.in_files = values, labels, lengths * hold, hold, in_files
        self.mean, self.std, self.device, self.length = mean, std, values.device, values.shape[1] * hold

    def __len__(self):
        return len(self.labels)

    def batch(self, indices, generator):
        """Return x `[T, B, C]`, and `[2, B]`: the labels, and the time steps at which the series end."""
        x = self.values[indices].transpose(0, 1).repeat_interleave(self.hold, 0)
        return x, torch.stack([self.labels[indices], self.ends[indices]])


def sizes(config):
    """Return the numbers of channels and of classes of the config's dataset. Raises UserError as `load` does."""
    return ts_files.sizes(_file(config["dataset"], "TRAIN"))


def load(config, device, shape):
    """Return the splits "train", "dev" and "test" of a dataset, and its name for the test line.

    Dev is a fifth of each class of the training set, drawn with the run's seed; with `refit` it stays in train too.
    Values are scaled to mean 0 and standard deviation 1 in each channel of train.
    Raises UserError if a file is missing or broken, or train and test don't fit together.
    """
    dataset, p = config["dataset"], config["hyperparameters"]
    files = {part: _file(dataset, part) for part in ("TRAIN", "TEST")}
    given, test = (ts_files.read(file) for file in files.values())
    _check_alike(given, test, files)
    _note_missing(given, test, dataset["name"])
    in_train, in_dev = _dev_of(given.labels, config["pytorch_seed"], dataset["refit"])
    places = np.array([given.classes.index(name) for name in test.classes])
    parts = {
        "train": ([given.values[n] for n in in_train], given.labels[in_train]),
        "dev": ([given.values[n] for n in in_dev], given.labels[in_dev]),
        "test": (test.values, places[test.labels]),
    }
    parts = {name: [of_all[: dataset[f"{name}_size"] or None] for of_all in part] for name, part in parts.items()}
    mean, std = _scaling(parts["train"][0])
    longest = max(map(len, given.values))
    hold = p["hold"] or max(1, p["length"] // longest)
    longest = max(longest, *map(len, test.values))
    splits = {}
    for name, (values, labels) in parts.items():
        padded = np.zeros((len(labels), longest, len(mean)), np.float32)
        for row, of_one in zip(padded, values):
            row[: len(of_one)] = _held((of_one - mean) / std)
        lengths = torch.tensor([len(of_one) for of_one in values])
        tensors = torch.from_numpy(padded), torch.from_numpy(labels), lengths
        scaling = (torch.from_numpy(of_all).float().to(device) for of_all in (mean, std))
        in_files = torch.from_numpy(np.concatenate(values)).view(torch.int32)
        splits[name] = SeriesSplit(*(tensor.to(device) for tensor in tensors), hold, *scaling, in_files)
    return splits, dataset["name"]


def _file(dataset, part):
    """Return the path of a dataset's .ts file: in `dataset.root`, or the one that ships."""
    name, root = dataset["name"], user_path(dataset["root"])
    for folder in (root, SHIPPED):
        if (folder / name).is_dir():
            return folder / name / f"{name}_{part}.ts"
    raise UserError(
        f"{name} is not in {root}: download it from {PAGE}/description.php?Dataset={name}, put {name}_TRAIN.ts and "
        f"{name}_TEST.ts into {root / name}, or name another folder with dataset.root"
    )


def _check_alike(train, test, files):
    channels, others = (one.values[0].shape[1] for one in (train, test))
    if channels != others:
        raise UserError(f"{files['TEST']} has {others} channels, {files['TRAIN'].name} {channels}: not of one dataset")
    if set(train.classes) != set(test.classes):
        differing = ", ".join(sorted(set(train.classes) ^ set(test.classes)))
        raise UserError(f"{files['TEST']} has other classes in @classLabel than {files['TRAIN'].name}: {differing}")
    if len(set(train.labels)) < 2:
        raise UserError(f"{files['TRAIN']}: all series are of class {train.classes[train.labels[0]]}; two are needed")


def _note_missing(train, test, name):
    missing = sum(int(np.isnan(values).sum()) for values in train.values + test.values)
    if missing and ranks.rank() == 0:
        held = "each is the value before it, or the channel's mean at the start"
        print(f"note: {name}: {missing:,} missing values; {held}", file=sys.stderr)


def _dev_of(labels, seed, refit):
    """Return the places of train and dev, both in random order."""
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(labels))
    in_dev = []
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        in_dev += list(of_class[: min(len(of_class) - 1, max(1, round(DEV_SHARE * len(of_class))))])
    return order if refit else order[~np.isin(order, in_dev)], draw.permutation(np.array(in_dev, int))


def _scaling(values):
    """Return the mean and the standard deviation of each channel, 1 where it is constant, over all known values."""
    known = np.concatenate(values).astype(np.float64)
    number = (~np.isnan(known)).sum(0).clip(1)
    mean = np.nansum(known, 0) / number
    std = np.sqrt(np.nansum((known - mean) ** 2, 0) / number)
    return mean, np.where(std > 0, std, 1)


def _held(values):
    """Return scaled values `[steps, C]`: each missing one is the one before it, or 0, the mean, at the start."""
    steps = np.arange(len(values))[:, None]
    last_known = np.maximum.accumulate(np.where(np.isnan(values), 0, steps))
    return np.nan_to_num(np.take_along_axis(values, last_known, 0))
