"""Samples without labels, as a trained network takes them: in arrays, in files, or a step at a time.

Each kind of data has a class. A module with a dataset of your own may have one too, as `Unlabelled`:

    __init__(config, shape)   config is a checkpoint's, shape the network's input shape at one step
    split(X, device)          -> a `snn.data.base.Split` of the samples X, whose labels are all 0
    read(path)                -> the samples in a file, a list, and the name of each one's class, "" if that is missing
    steps(device)             -> a function from a step of one sample to x `[steps, 1, *features]`, and whether x is
                                 complete; otherwise the next call returns it with more in it
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
    """Return samples as the network with this config takes them. Raises UserError if its dataset has none."""
    name = config["dataset"]["name"]
    module = datasets.module_of(name)
    kind = KINDS.get(module) or getattr(module, "Unlabelled", None)
    if not kind:
        raise UserError(f"dataset {name} says nothing of samples without labels: its module needs a class Unlabelled")
    return kind(config, shape)


class Images:
    """Images `[N, 28, 28]`, or flat: integers from 0 to 255, or numbers from 0 to 1; one step is an image too."""

    def __init__(self, config, shape):
        self.config, self.shape = config, shape or (1, 28, 28)

    def split(self, X, device):
        X = numbers("X", X)
        white, dtype = (255, np.uint8) if X.dtype.kind in "iu" else (1, np.float32)
        if not X.size or X.ndim < 2 or math.prod(X.shape[1:]) != 28 * 28:
            raise UserError(f"X has the shape {list(X.shape)}: images [N, 28, 28] are needed")
        if not (X.min() >= 0 and X.max() <= white):
            raise UserError(f"X has values from {X.min()} to {X.max()}: integers from 0 to 255, or numbers from 0 to 1")
        X = torch.from_numpy(np.ascontiguousarray(X.reshape(-1, 28, 28), dtype)).to(device)
        labels = torch.zeros(len(X), dtype=torch.int64, device=device)
        return images.ImageSplit(X, labels, images.encoding(self.config), self.shape)

    def read(self, path):
        if path.suffix == ".npy":
            found = list(np.atleast_1d(read_array(path)))
        elif path.suffix == ".png":
            with reading(f"{path} is not a readable PNG picture: {{reason}}", path):
                with Image.open(path, formats=["PNG"]) as image:  # never a decoder that the content chooses
                    if image.size != (28, 28):
                        raise ValueError(f"it has {image.width} x {image.height} pixels, not 28 x 28")
                    found = [np.asarray(image.convert("L"))]
        else:
            raise UserError(f"{path}: images are read from .npy, [N, 28, 28], and .png")
        return found, [""] * len(found)

    def steps(self, device):
        config = self.config | {"hyperparameters": self.config["hyperparameters"] | {"length": 1}}
        one, generator = Images(config, self.shape), torch.Generator(device).manual_seed(config["pytorch_seed"])

        def step(frame):
            (batch,) = one.split(numbers("frame", frame)[None], device).batches(1, generator)
            return batch[0], True

        return step


class Recordings:
    """Recordings of an event camera, each `[E, 4]` integers: microseconds, x, y, polarity; one step is a frame."""

    def __init__(self, config, shape):
        self.config, self.module = config, datasets.module_of(config["dataset"]["name"])
        self.format = self.module.FORMAT

    def split(self, X, device):
        try:
            recordings = [self._recording(f"recording {number}", of) for number, of in enumerate(X, 1)]
        except TypeError:
            recordings = []
        if not recordings:
            raise UserError("X holds no recordings: a list of arrays [E, 4] is needed")
        columns = [event_cache.columns_of(recording, self.format.shape) for recording in recordings]
        offsets = np.cumsum([0, *(len(of["time"]) for of in columns)])
        columns = {key: np.concatenate([of[key] for of in columns]) for key in event_cache.COLUMNS}
        length, labels = self.config["hyperparameters"]["length"], np.zeros(len(recordings), np.int64)
        widths = self.format.bin_widths(columns["time"][offsets[1:] - 1], length, self.config["encoding"])
        if not widths.all():
            raise UserError(f"{recordings[widths.argmin()].name} is too short for {length} bins")
        make = events.binned(columns, offsets, labels, widths, self.config, self.format, device)
        return make(indices=range(len(recordings)))

    def _recording(self, name, of):
        if isinstance(of, event_cache.Recording):  # from a file
            return of
        of = numbers(name, of)
        if of.dtype.kind not in "iu" or of.ndim != 2 or of.shape[1] != 4 or of.size and (of.min() < 0):
            raise UserError(f"{name} holds {of.dtype} {list(of.shape)}: [E, 4] integers: microseconds, x, y, polarity")
        time, x, y, polarity = of.astype(np.int64).T
        return event_cache.Recording(name, 0, time, x, y, polarity.clip(0, 1))

    def read(self, path):
        suffix = {nmnist: ".bin", gesture: ".aedat"}[self.module]
        if path.suffix == ".npy":
            return [self._recording(str(path), read_array(path))], [""]
        if path.suffix != suffix:
            raise UserError(f"{path}: recordings are read from {suffix} and from .npy, [E, 4]")
        return [self.module.decode(read_bytes(path), str(path), 0)], [""]

    def steps(self, device):
        def step(frame):
            frame = numbers("frame", frame)
            if frame.shape != self.format.shape or not (frame.min() >= 0 and frame.max() <= 1):
                raise UserError(f"a frame is {list(self.format.shape)}, polarity, x and y, of numbers from 0 to 1")
            return torch.from_numpy(frame.astype(np.float32))[None, None].to(device), True

        return step


class TimeSeries:
    """Series as `snn.data.series.from_arrays` takes them; one step is a value of each channel, NaN if it is missing."""

    def __init__(self, config, shape):
        self.dataset, self.p, self.measured = config["dataset"], config["hyperparameters"], config["measured"]

    def split(self, X, device):
        values, measured = series_files.values_of("X", X), self.measured
        file = _file("X", *values)
        series.check_fits(file, measured, self.dataset)
        file, longest = series.with_differences(file, self.dataset), max(map(len, values))
        return series.split_of(file, np.arange(len(values)), file.labels, self.p, measured, device, longest)

    def read(self, path):
        if path.suffix == ".npy":
            found = list(np.atleast_1d(read_array(path)))
            return found, [""] * len(found)
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
            before = both[-1:]
            value = series.with_differences(_file("the step", both), self.dataset).values[0][-1:]
            known = np.where(np.isnan(value), known, value)
            pooled.append(series.scaled(_file("the step", known), 0, mean, std))
            x = torch.from_numpy(series.pooled(np.concatenate(pooled), pool)).float().to(device)
            is_complete = len(pooled) == pool
            if is_complete:
                pooled.clear()
            return x.repeat(hold, 1)[:, None], is_complete

        return step


def _file(path, *values):
    """Return series `[steps, C]` as if they came from a file, with labels that are all 0."""
    return Series(path, list(values), np.zeros(len(values), np.int64), [])


KINDS = {images: Images, nmnist: Recordings, gesture: Recordings, series: TimeSeries}
