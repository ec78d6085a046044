"""Samples without labels, as a trained network takes them: a class for each kind of data.

    read(path)                  -> the samples in a file
    split(X, device, where="X") -> a `snn.data.base.Split` of samples, whose labels are all 0; errors call X `where`
    steps(device)               -> a function from a step of one sample to x `[steps, 1, *features]`, and whether x is
                                   complete: otherwise the next step changes it
"""

import math

import numpy as np
import torch

from snn.base.errors import UserError
from snn.base.files import read_array
from snn.base.output import note
from snn.data import datasets, event_cache, events, gesture, images, nmnist, series, series_files
from snn.data.series_files import numbers
from snn.data.series_lines import Series

LATE = 0.01  # of a recording's events: some N-MNIST recordings are a bit longer than the bins


def of(config, shape):
    """Return samples as a checkpoint's network takes them. Raises UserError if its dataset knows only labelled ones."""
    name = config["dataset"]["name"]
    kind = KINDS.get(datasets.kind(datasets.module_of(name)))
    if not kind:
        raise UserError(f"dataset {name} takes no samples without labels")
    return kind(config, shape)


class Frames:
    """Samples of which a step is a frame of the network's input shape: numbers from 0 to 1, or integers up to white."""

    white = 1

    def __init__(self, config, shape):
        self.config, self.shape = config, shape

    def read(self, path):
        return read_array(path)

    def brightness(self, where, x):
        """Return an array of numbers from 0 to 1, float32."""
        x = numbers(where, x)
        white = self.white if x.dtype.kind in "iu" else 1
        if not x.size or not (x.min() >= 0 and x.max() <= white):
            raise UserError(f"{where} holds other values than integers from 0 to {self.white}, or numbers from 0 to 1")
        return np.asarray(x.astype(np.float32, "C") / np.float32(white))  # of a single number it is none

    def steps(self, device):
        def step(frame):
            frame = self.brightness("frame", frame)
            layouts = [[n for n in shape if n > 1] for shape in (frame.shape, self.shape)]
            is_other = frame.ndim > 2 and len(self.shape) > 2 and layouts[0] != layouts[1]  # such as [H, W, C]
            if frame.size != math.prod(self.shape) or is_other:
                raise UserError(f"frame has the shape {list(frame.shape)}: {list(self.shape)} is needed")
            return torch.from_numpy(frame).reshape(1, 1, *self.shape).to(device), True

        return step


class Images(Frames):
    """Images `[N, 28, 28]`, or flat."""

    white = 255

    def __init__(self, config, shape):
        is_pixel = config["encoding"] in images.IN_TIME
        super().__init__(config, (1,) if is_pixel else images.image_shape(config, shape))

    def split(self, X, device, where="X"):
        X = self.brightness(where, X)
        if X.ndim < 2 or math.prod(X.shape[1:]) != 28 * 28:
            raise UserError(f"{where} has the shape {list(X.shape)}: images [N, 28, 28] are needed")
        X = torch.from_numpy(X * 255).view(-1, 28, 28).to(device)
        labels = torch.zeros(len(X), dtype=torch.int64, device=device)
        shape = images.image_shape(self.config, self.shape)
        return images.ImageSplit(X, labels, images.encoder(self.config, device), shape)


class Recordings(Frames):
    """Recordings of an event camera, each `[E, 4]` integers: microseconds, x, y, polarity."""

    def __init__(self, config, shape):
        self.format = datasets.module_of(config["dataset"]["name"]).FORMAT
        super().__init__(config, self.format.shape)

    def read(self, path):
        return [read_array(path)]

    def split(self, X, device, where="X"):
        X = series_files.listed(where, X, "a list of arrays [E, 4]")
        if not X:
            raise UserError(f"{where} holds no recordings")
        columns = [self._columns(f"{where}: recording {number}", of) for number, of in enumerate(X, 1)]
        offsets = np.cumsum([0, *(len(of["time"]) for of in columns)])
        columns = {key: np.concatenate([of[key] for of in columns]) for key in event_cache.COLUMNS}
        length, labels = self.config["hyperparameters"]["length"], np.zeros(len(X), np.int64)
        ends = columns["time"][offsets[1:] - 1]
        widths = self.format.bin_widths(ends, length, self.config["encoding"])
        if not widths.all():
            raise UserError(f"{where}: recording {widths.argmin() + 1} is too short for {length} bins")
        bins = f"{length} bins" + (f" of {widths[0] / 1000:g} ms" if len({*widths}) == 1 else "")
        if short := (2 * ends < widths * length).sum():
            note(f"{where}: {short} of {len(X)} recordings fill less than half of {bins}")
        is_late = columns["time"] >= (widths * length).repeat(np.diff(offsets))
        if late := (np.add.reduceat(is_late, offsets[:-1]) > LATE * np.diff(offsets)).sum():
            note(f"{where}: {late} of {len(X)} recordings go on after {bins}, and what comes then is left out")
        make = events.binned(columns, offsets, labels, widths, self.config, self.format, device)
        return make(indices=range(len(X)))

    def _columns(self, where, of):
        of = numbers(where, of)
        is_events = of.dtype.kind in "iu" and of.shape[1:] == (4,)
        if not is_events or ((of < 0) | (of > 2**62)).any() or (of[:, 3] > 1).any():
            raise UserError(f"{where} is not [E, 4] integers: microseconds, x, y, polarity (0 or 1)")
        return event_cache.columns_of(event_cache.Recording(where, 0, *of.astype(np.int64).T), self.shape)


class TimeSeries:
    """Series as `snn.data.series.from_arrays` takes them; a step is a value of each channel, NaN if it is missing."""

    def __init__(self, config, shape):
        self.dataset, self.p, self.measured = config["dataset"], config["hyperparameters"], config["measured"]
        self.channels = len(self.measured["scaling"]) // (1 + self.dataset["differences"])

    def read(self, path):
        if path.suffix == ".npy":
            return read_array(path)
        if path.suffix not in series_files.SUFFIXES:
            raise UserError(f"{path}: series are read from {', '.join(series_files.SUFFIXES)} and .npy")
        if path.suffix in (".csv", ".tsv"):
            note(f"{path}: the first cell of each line is the place of its label, and no value")
        groups = self.dataset["groups"]  # a column that is no value
        return [values.T for values in series_files.read(path, groups=groups, labelled=False, grouped=False).values]

    def split(self, X, device, where="X"):
        values = series_files.values_of(where, X)
        self._check_channels(where, values[0].shape[1])
        file = series.with_differences(_file(where, values), self.dataset)
        places, longest = np.arange(len(values)), max(map(len, values))
        return series.split_of(file, places, file.labels, self.p, self.measured, device, longest)

    def steps(self, device):
        mean, std = np.array(self.measured["scaling"]).T
        pool, hold = series.pool(self.p, self.measured), series.hold(self.p, self.measured)
        before, known, pooled = np.empty((0, self.channels)), np.full((1, len(mean)), np.nan), []

        def step(values):
            nonlocal before, known
            values = numbers("the step", values).reshape(1, -1)
            self._check_channels("the step", values.size)
            both = np.concatenate([before, values])
            value = series.with_differences(_file("the step", [both]), self.dataset).values[0][-1:]
            value = np.where(np.isnan(value), known, value)
            pooled.append(series.scaled(_file("the step", [value]), 0, mean, std))
            before, known = both[-1:], value  # a step that is refused changes nothing
            x = torch.from_numpy(series.pooled(np.concatenate(pooled), pool)).float().to(device)
            is_complete = len(pooled) == pool
            if is_complete:
                pooled.clear()
            return x.repeat(hold, 1)[:, None], is_complete

        return step

    def _check_channels(self, where, number):
        if number != self.channels:
            raise UserError(f"{where} has {number} channels, the network takes {self.channels}")


def _file(path, values):
    """Return series `[steps, C]` as if they came from a file, with labels that are all 0."""
    return Series(path, values, np.zeros(len(values), np.int64), [])


KINDS = {images: Images, nmnist: Recordings, gesture: Recordings, series: TimeSeries}
