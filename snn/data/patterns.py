"""Spatio-temporal spike patterns for the associative memory: drawings turned into spikes, corrupted, and completed."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from snn.base import ranks
from snn.base.errors import UserError
from snn.base.files import reading, shipped
from snn.base.keys import NETWORK, PLACE, Key, choice, count, fraction, not_negative, size, typed_path
from snn.base.output import note
from snn.data.base import Split, dataset_keys, fingerprint
from snn.layers.output_filter import DualExpFilter

SHIPPED = shipped("datasets") / "patterns"
TRAINS = 300  # spike trains per pattern
OTHER_PICTURES = (".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
DEV_SEED, TEST_SEED = 1001, 1002  # of the corruption; for training it is pytorch_seed

NAMES = ("patterns",)
_FOLDER = "a folder of .png drawings, `length` wide and 300 high, or a .npy file [P, 300, T]; empty: those shipped"
KEYS = {
    "encoding": Key("original", choice("original"), "the patterns are already spikes", NETWORK),
    "dataset": dataset_keys(
        NAMES,
        patterns=Key("", typed_path, _FOLDER, PLACE),
        delay=Key(4, size, "steps by which the output lags the input", NETWORK),
    )
    | {
        f"{part}_size": Key(1000, count, "number of samples per pass; they cycle through the patterns")
        for part in ("train", "dev", "test")
    },
    "corruption": {
        "probability": Key(0.4, fraction, "probability that a sample may be jittered, silenced, both, or neither"),
        "jitter_probability": Key(0.7, fraction, "probability that the spikes of a modified sample move in time"),
        "jitter_std": Key(1.0, not_negative, "standard deviation of the move, in steps"),
        "silence_probability": Key(0.5, fraction, "probability that part of a modified sample is silent"),
        "block_probability": Key(0.5, fraction, "probability that the silent part is a block, not whole trains"),
        "block_size": Key(40, count, "size of the block, in trains and in steps"),
        "rows": Key(40, count, "number of silent trains"),
        "noise": Key(0.005, fraction, "probability of an added spike at each place of every sample"),
    },
}


class PatternSplit(Split):
    """Corrupted patterns and the network's targets for them.

    Args:
        patterns, targets: `[P, T, N]`, on the device for the batches.
        size: number of samples; they cycle through the patterns.
        corruption: the config's section.
        seed: repeats the same corruption in every pass; None draws a new one.
    """

    def __init__(self, patterns, targets, size, corruption, seed=None):
        self.patterns, self.targets, self.size, self.corruption, self.seed = patterns, targets, size, corruption, seed
        self.device = patterns.device

    def __len__(self):
        return self.size

    def fingerprint(self):
        return fingerprint(self.size, self.patterns.bool())

    def batch(self, indices, generator):
        """Return x and targets, both `[T, B, N]`."""
        which = indices % len(self.patterns)
        x = corrupt(self.patterns[which], self.corruption, generator)
        return x.transpose(0, 1).contiguous(), self.targets[which].transpose(0, 1).contiguous()

    def batches_of(self, shares, generator):
        if self.seed is not None:
            generator = torch.Generator(self.device).manual_seed(ranks.own_seed(self.seed))
        return super().batches_of(shares, generator)


def corrupt(patterns, corruption, generator):
    """Return patterns `[B, T, N]` with moved, then missing, then added spikes, as the config's section says.

    Some samples are modified: in some of these every spike moves in time by a rounded normal number of steps, up to the
    window's edge; in some, a block of trains and steps, or whole trains, are silenced. Then every sample gets noise:
    spikes at random places.
    """
    c, (batch, length, trains), device = corruption, patterns.shape, patterns.device

    def uniform(*shape):
        return torch.rand(shape, generator=generator, device=device)

    modified = uniform(batch) < c["probability"]
    jittered = modified & (uniform(batch) < c["jitter_probability"])
    silenced = modified & (uniform(batch) < c["silence_probability"])
    as_block = uniform(batch) < c["block_probability"]

    spikes = _moved(patterns, jittered, c["jitter_std"], generator)
    first_step = uniform(batch, 1, 1) * (length - c["block_size"] + 1)
    first_train = uniform(batch, 1, 1) * (trains - c["block_size"] + 1)
    steps, lines = torch.arange(length, device=device)[:, None], torch.arange(trains, device=device)
    block = _within(steps, first_step.floor(), c["block_size"]) & _within(lines, first_train.floor(), c["block_size"])
    rows = uniform(batch, 1, trains).argsort(2).argsort(2) < c["rows"]
    spikes.masked_fill_(silenced[:, None, None] & torch.where(as_block[:, None, None], block, rows), 0)

    return spikes.maximum((uniform(batch, length, trains) < c["noise"]).to(spikes.dtype))


def _moved(patterns, jittered, deviation, generator):
    """Return the patterns `[B, T, N]` with every spike of the samples `jittered` moved in time."""
    if patterns.is_cuda:  # to list the spikes would wait for the device
        return _moved_everywhere(patterns, jittered, deviation, generator)
    sample, time, train = patterns.nonzero(as_tuple=True)
    shift = deviation * torch.randn(len(time), generator=generator, device=patterns.device)
    time = (time + shift.round_().long() * jittered[sample]).clamp_(0, patterns.shape[1] - 1)
    spikes = torch.zeros_like(patterns)
    spikes[sample, time, train] = 1
    return spikes


def _moved_everywhere(patterns, jittered, deviation, generator):
    """Do what `_moved` does with a move drawn for every place, with a spike or without."""
    length, device = patterns.shape[1], patterns.device
    shift = deviation * torch.randn(patterns.shape, generator=generator, device=device)
    time = torch.arange(length, device=device)[:, None] + shift.round_().long() * jittered[:, None, None]
    return torch.zeros_like(patterns).scatter_reduce_(1, time.clamp_(0, length - 1), patterns, "amax")


def _within(places, first, size):
    return (places >= first) & (places < first + size)


def load(config, device, shape):
    """Return the splits "train", "dev" and "test" of the config's patterns, and a note for the test line.

    The target is the pattern, `dataset.delay` steps later, passed through the network's output filter.
    Raises UserError for unusable patterns and for a corruption or delay that does not fit them.
    """
    settings, corruption, length = config["dataset"], config["corruption"], config["hyperparameters"]["length"]
    patterns = read(Path(settings["patterns"] or SHIPPED), length).to(device)
    for key, largest in (("block_size", min(TRAINS, length)), ("rows", TRAINS)):
        if corruption[key] > largest:
            raise UserError(f"corruption.{key}: {corruption[key]} is larger than the pattern; use at most {largest}")
    delay = settings["delay"]
    if delay >= length:
        raise UserError(
            f"dataset.delay: {delay} is not shorter than the window; use less than hyperparameters.length, {length}"
        )
    output_filter = DualExpFilter(config["hyperparameters"]["filter_tau_m"], config["hyperparameters"]["filter_tau_s"])
    targets = output_filter(delayed(patterns, delay).transpose(0, 1))[0].transpose(0, 1).contiguous()
    seeds = {"train": None, "dev": DEV_SEED, "test": TEST_SEED}
    splits = {
        part: PatternSplit(patterns, targets, settings[f"{part}_size"], corruption, seed)
        for part, seed in seeds.items()
    }  # fmt: skip
    return splits, "" if settings["patterns"] else "embedded patterns"


def delayed(patterns, delay):
    """Return patterns `[P, T, N]` shifted by `delay` steps; spikes past the window's end are lost."""
    return F.pad(patterns, (0, 0, delay, 0))[:, : patterns.shape[1]]


def read(path, length):
    """Return the patterns `[P, T, N]` in a folder of 300 x T PNG drawings, or in a .npy file `[P, 300, T]` of 0 and 1.

    Raises UserError if there are none, or if one is unreadable, blank or of another size.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".png")
        if not files:
            raise UserError(f"dataset.patterns: {path} holds no .png files")
        if others := sorted(file.name for file in path.iterdir() if file.suffix.lower() in OTHER_PICTURES):
            note(f"dataset.patterns: only .png files are read, not {', '.join(others)}")
        spikes = np.stack([_of_drawing(file, length) for file in files])
    else:
        spikes = _of_array(path, length)
    return torch.from_numpy(spikes.astype(np.float32)).transpose(1, 2).contiguous()


def _of_drawing(file, length):
    """Return spikes `[300, T]`: the pixels above half of the brightest, thinned.

    A mask keeps every third row of every fifth column; the first row shifts by one between those columns.
    """
    broken = f"{file} is not a readable PNG picture: {{reason}}"
    with reading(broken, file), Image.open(file, formats=["PNG"]) as image:  # never a decoder that the content chooses
        if image.size != (length, TRAINS):
            raise UserError(f"{file} has {image.width} x {image.height} pixels, not {length} x {TRAINS}")
        if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] < 255:
            raise UserError(f"{file} has transparent pixels: save it without transparency")
        pixels = np.asarray(image if image.mode.startswith("I") else image.convert("RGB").convert("L"))
    row, column = np.indices(pixels.shape)
    spikes = (pixels > pixels.max() / 2) & (column % 5 == 0) & (row % 3 == column // 5 % 3)
    if not spikes.any() or pixels.min() == pixels.max():
        raise UserError(f"{file} is blank")
    return spikes


def _of_array(path, length):
    with reading(f"dataset.patterns: {path} is neither a folder of .png files nor a .npy file ({{reason}})", path):
        spikes = np.load(path, allow_pickle=False, mmap_mode="r")  # its size is seen before it is read
    shape = list(getattr(spikes, "shape", []))  # an .npz has none
    if len(shape) != 3 or shape[1:] != [TRAINS, length] or not shape[0]:
        raise UserError(f"dataset.patterns: {path} holds {shape}; [P, {TRAINS}, {length}] is needed")
    if spikes.dtype == bool:
        spikes = spikes.view(np.uint8)  # the byte of a bool may be any
    if spikes.dtype.kind not in "iuf" or not np.isin(spikes, (0, 1)).all():
        raise UserError(f"dataset.patterns: {path} holds values other than 0 and 1")
    for number, pattern in enumerate(spikes):
        if not pattern.any():
            raise UserError(f"dataset.patterns: {path}: pattern {number} is blank")
    return spikes
