"""Samples without labels, as a trained network takes them: a class for each kind of data.

    split(X, device)   -> a `snn.data.base.Split` of the samples X, whose labels are all 0
    read(path)         -> the samples in a file, a list, and the names of their classes, "" where there is none, or None
    steps(device)      -> a function from a step of one sample to x `[steps, 1, *features]`, and whether x is complete:
                          otherwise the next step changes it

The module of a dataset of your own may have one, `Unlabelled`; it gets the config and the network's input shape.
"""

import math

import numpy as np
import torch
from PIL import Image

from snn.base.errors import UserError
from snn.base.files import read_array, read_bytes, reading
from snn.data import datasets, event_cache, events, gesture, images, nmnist, series, series_files
from snn.data.series_files import numbers
from snn.data.ts_files import Series


def of(config, shape):
    """Return samples as a checkpoint's network takes them. Raises UserError if its dataset knows only labelled ones."""
    name = config["dataset"]["name"]
    kind = KINDS.get(datasets.module_of(name)) or getattr(datasets.module_of(name), "Unlabelled", None)
    if not kind:
        raise UserError(f"dataset {name} takes no samples without labels: its module needs a class Unlabelled")
    return kind(config, shape)


class Frames:
    """Samples of which a step is a frame of the network's input shape: numbers from 0 to 1, or integers up to white."""

    white = 1

    def __init__(self, config, shape):
        self.config, self.shape = config, shape

    def brightness(self, where, x):
        """Return an array of numbers from 0 to 1, float32."""
        x = numbers(where, x)
        white = self.white if x.dtype.kind in "iu" else 1
        if not x.size or not (x.min() >= 0 and x.max() <= white):
            raise UserError(f"{where} holds other values than integers from 0 to {self.white}, or numbers from 0 to 1")
        return x.astype(np.float32) / np.float32(white)

    def steps(self, device):
        def step(frame):
            frame = self.brightness("frame", frame)
            if frame.size != math.prod(self.shape):
                raise UserError(f"frame has the shape {list(frame.shape)}: {list(self.shape)} is needed")
            return torch.from_numpy(frame).reshape(1, 1, *self.shape).to(device), True

        return step


class Images(Frames):
    """Images `[N, 28, 28]`, or flat."""

    white = 255

    def __init__(self, config, shape):
        super().__init__(config, shape or (1, 28, 28))

    def split(self, X, device):
        X = self.brightness("X", X)
        if X.ndim < 2 or math.prod(X.shape[1:]) != 28 * 28:
            raise UserError(f"X has the shape {list(X.shape)}: images [N, 28, 28] are needed")
        X = torch.from_numpy(X).view(-1, 28, 28).to(device)
        labels = torch.zeros(len(X), dtype=torch.int64, device=device)
        return images.ImageSplit(X, labels, images.encoding(self.config), self.shape)

    def read(self, path):
        if path.suffix == ".npy":
            return list(np.atleast_1d(read_array(path))), None
        with reading(f"{path} is not a .npy file, nor a .png of 28 x 28 pixels: {{reason}}", path):
            with Image.open(path, formats=["PNG"]) as image:  # never a decoder that the content chooses
                if image.size != (28, 28):
                    raise ValueError(f"it has {image.width} x {image.height} pixels")
                return [np.asarray(image.convert("L"))], None


class Recordings(Frames):
    """Recordings of an event camera, each `[E, 4]` integers: microseconds, x, y, polarity."""

    def __init__(self, config, shape):
        self.module = datasets.module_of(config["dataset"]["name"])
        super().__init__(config, self.module.SHAPE)

    def split(self, X, device):
        X = series_files.listed("X", X, "a list of arrays [E, 4]")
        X = [self._recording(f"recording {number}", of) for number, of in enumerate(X, 1)]
        if not X:
            raise UserError("X holds no recordings")
        columns = [event_cache.columns_of(recording, self.shape) for recording in X]
        offsets = np.cumsum([0, *(len(of["time"]) for of in columns)])
        columns = {key: np.concatenate([of[key] for of in columns]) for key in event_cache.COLUMNS}
        length, labels = self.config["hyperparameters"]["length"], np.zeros(len(X), np.int64)
        widths = self.module.bin_widths(columns["time"][offsets[1:] - 1], length, self.config["encoding"])
        if not widths.all():
            raise UserError(f"{X[widths.argmin()].name} is too short for {length} bins")
        make = events.binned(columns, offsets, labels, widths, self.config, self.module.FORMAT, device)
        return make(indices=range(len(X)))

    def _recording(self, name, of):
        if isinstance(of, event_cache.Recording):  # from a file
            return of
        of = numbers(name, of)
        is_events = of.dtype.kind in "iu" and of.shape[1:] == (4,)
        if not is_events or ((of < 0) | (of > 2**62)).any() or (of[:, 3] > 1).any():
            raise UserError(f"{name} is not [E, 4] integers: microseconds, x, y, polarity (0 or 1)")
        return event_cache.Recording(name, 0, *of.astype(np.int64).T)

    def read(self, path):
        if path.suffix == ".npy":
            return [self._recording(str(path), read_array(path))], None
        if path.suffix != self.module.SUFFIX:
            raise UserError(f"{path}: recordings are read from {self.module.SUFFIX} and .npy")
        return [self.module.decode(read_bytes(path), str(path), 0)], None


class TimeSeries:
    """Series as `snn.data.series.from_arrays` takes them; a step is a value of each channel, NaN if it is missing."""

    def __init__(self, config, shape):
        self.dataset, self.p, self.measured = config["dataset"], config["hyperparameters"], config["measured"]

    def split(self, X, device):
        values = series_files.values_of("X", X)
        series.check_fits(_file("X", values), self.measured, self.dataset)
        file = series.with_differences(_file("X", values), self.dataset)
        places, longest = np.arange(len(values)), max(map(len, values))
        return series.split_of(file, places, file.labels, self.p, self.measured, device, longest)

    def read(self, path):
        if path.suffix == ".npy":
            return list(np.atleast_1d(read_array(path))), None
        if path.suffix not in series_files.SUFFIXES:
            raise UserError(f"{path}: series are read from {', '.join(series_files.SUFFIXES)} and .npy")
        groups = self.dataset["groups"] if path.suffix == ".csv" else ""  # a column that is no value
        file = series_files.read_unlabelled(path, self.dataset["labels"], groups)
        series.check_fits(file, self.measured, self.dataset)
        return [values.T for values in file.values], [file.classes[n] if n >= 0 else "" for n in file.labels]

    def steps(self, device):
        mean, std = np.array(self.measured["scaling"]).T
        pool, hold = series.pool(self.p, self.measured), series.hold(self.p, self.measured)
        channels = len(mean) // (1 + self.dataset["differences"])
        before, known, pooled = np.empty((0, channels)), np.full((1, len(mean)), np.nan), []

        def step(values):
            nonlocal before, known
            values = numbers("the step", values)
            if values.size != channels:
                raise UserError(f"the step has {values.size} values, the network takes {channels} channels")
            both = np.concatenate([before, values.reshape(1, -1)])
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


def _file(path, values):
    """Return series `[steps, C]` as if they came from a file, with labels that are all 0."""
    return Series(path, values, np.zeros(len(values), np.int64), [])


KINDS = {images: Images, nmnist: Recordings, gesture: Recordings, series: TimeSeries}
