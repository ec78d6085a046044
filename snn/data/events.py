"""Event recordings for the experiments: ragged events on the training device, binned into frames batch by batch."""

import os
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from snn.base.errors import UserError
from snn.base.files import made_beside, read_bytes, remove_unfinished
from snn.base.keys import Key, boolean, integer
from snn.base.output import is_quiet, note, say
from snn.data import event_cache
from snn.data.base import Split, dataset_keys, root_key, same_order, some
from snn.data.frames import bin_max, bin_or

STAMP = "simulated.txt"  # in a folder of simulated recordings: the number of files and their bytes


class Format(NamedTuple):
    """How to read and bin the recordings of a dataset."""

    name: str
    shape: tuple  # of a frame: polarity, x, y
    classes: int  # that a recording may have, from 0
    dev_share: float  # of the training recordings
    sources: Callable  # from the root to the files to read
    recordings: Callable  # from the root to their number, and an iterator over (split, Recording or UserError)
    bin_widths: Callable  # from durations `[N]`, length and encoding to microseconds of a bin, 0 for one too short
    simulate: Callable  # to the number of files of `dataset.name: <name>_simulated`, and an iterator over (path, bytes)
    whole: Callable  # from the config's `dataset` to the number of samples in the published "train" and "test"


def dataset_section(names, root, holds, **others):
    """Return the `dataset` section of a dataset of event recordings."""
    return dataset_keys(
        names,
        root=root_key(root, holds),
        **others,
        skip_bad=Key(False, boolean, "leave out broken recordings, and count them; false: stop at the first"),
        shift=Key(0, integer(0, 128), "move training recordings by up to this many pixels each way; published: 0"),
    )


class EventSplit(Split):
    """Labelled recordings that come in batches of frames.

    Args:
        step, place: `[E]`, time step and place (`snn.data.event_cache`) of the events of these and maybe other
            recordings, on the device for the batches.
        offsets: `[N + 1]`, where recordings begin and end in them.
        labels: `[N]` int64.
        indices: which of the N recordings are in this split.
        bin_events: `snn.data.frames.bin_or` or `bin_max` with all but the first three arguments set.
        shift: move each recording by up to this many pixels each way, each time it is used; events outside are lost.
    """

    def __init__(self, step, place, offsets, labels, indices, bin_events, shift=0):
        self.step, self.place, self.bin_events, self.shift = step, place, bin_events, shift
        self.offsets, self.device = offsets.tolist(), step.device
        self.indices, self.counts, self.labels = (
            torch.as_tensor(values).to(step.device) for values in (indices, np.diff(offsets), labels)
        )

    def __len__(self):
        return len(self.indices)

    def batches_of(self, shares, generator):
        """Yield (x `[T, B, 2, X, Y]`, labels `[B]`) of each share."""
        on_host = iter(self.indices[torch.cat(shares)].tolist())  # the only wait for the device: slices need numbers
        for share in shares:
            batch = self.indices[share]
            slices = [slice(self.offsets[n], self.offsets[n + 1]) for n in islice(on_host, len(share))] or [slice(0)]
            step, place = (torch.cat([column[part] for part in slices]) for column in (self.step, self.place))
            frames = self.bin_events(step, place, self.counts[batch])
            if self.shift:
                frames = self._shifted(frames, generator)
            yield frames, self.labels[batch]

    def _shifted(self, frames, generator):
        """Return frames `[T, B, 2, X, Y]` with each sample moved by whole pixels."""
        margin, (batch, _, size_x, size_y) = self.shift, frames.shape[1:]
        padded = F.pad(frames, (margin,) * 4)
        first = torch.randint(2 * margin + 1, (2, batch, 1), generator=generator, device=frames.device)
        x, y = (start + torch.arange(size, device=frames.device) for start, size in zip(first, (size_x, size_y)))
        sample = torch.arange(batch, device=frames.device)[:, None, None]
        moved = padded.permute(1, 3, 4, 0, 2)[sample, x[:, :, None], y[:, None, :]]  # [B, X, Y, T, 2]
        if moved.is_cuda:  # channels last, as `frames` are
            return moved.permute(3, 0, 1, 2, 4).contiguous().permute(0, 1, 4, 2, 3)
        return moved.permute(3, 0, 4, 1, 2).contiguous()


def load(config, device, dataset):
    """Return the splits "train", "dev" and "test" of a `dataset`, a Format, and a note for the test line.

    On first use the recordings are converted into a cache under data/cache; simulated ones are generated before that.
    Raises UserError if the dataset is missing, or for a bad recording unless `dataset.skip_bad` is true.
    """
    settings, root, name = config["dataset"], config["dataset"]["root"], dataset.name
    about = "" if settings["name"] == name else _simulated(dataset, Path(root))
    remove_unfinished(event_cache.FOLDER)
    files = event_cache.paths(name, dataset.sources(root), settings["skip_bad"])
    if not all(file.exists() for file in files.values()):
        count, recordings = dataset.recordings(root)
        event_cache.build(files, recordings, count, dataset.shape, settings["skip_bad"], name)
    splits = {}
    for part, file in files.items():
        splits |= _splits_of(part, file, dataset, config, device)
    return splits, about


def _simulated(dataset, root):
    """Simulate recordings in the folder `root` if nothing is there; return what is there, for the test line.

    Raises UserError if only some of the simulated recordings are left.
    """
    remove_unfinished(Path(os.path.realpath(root)).parent)
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        count, files = dataset.simulate()
        say(f"{root} is made, on first use only: recordings of a simulated event camera")
        with made_beside(root) as folder:
            for path, content in tqdm(files, "simulating", count, leave=False, unit="file", disable=is_quiet() or None):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(content)
            extent = _extent(folder)
            (folder / STAMP).write_text(extent)
    if not (root / STAMP).exists():
        return f"the {dataset.name} recordings in {root}"
    made, found = read_bytes(root / STAMP).decode(errors="replace"), _extent(root)
    if found != made:
        raise UserError(f"{root} is not whole: {found} of {made}: delete it, and it is made again")
    return f"simulated {dataset.name} recordings"


def _extent(folder):
    """Return how much a folder of recordings holds, as text."""
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.name != STAMP]
    return f"{len(sizes)} files, {sum(sizes)} bytes"


def _splits_of(part, file, dataset, config, device):
    """Return the splits made from the cache of the train or the test recordings."""
    settings, length, encoding = config["dataset"], config["hyperparameters"]["length"], config["encoding"]
    columns = ("time", "place", "first") if encoding == "max" else ("time", "place")
    cached = event_cache.read(file, columns, dataset.shape, dataset.classes)
    time, offsets = cached.columns["time"], cached.offsets
    widths = dataset.bin_widths(time[offsets[1:] - 1], length, encoding)
    wanted = [n for n, label in enumerate(cached.labels) if label < settings.get("classes", dataset.classes)]
    wanted.sort(key=lambda n: cached.names[n])
    recordings = [n for n in wanted if widths[n]]
    if len(recordings) < len(wanted) and not settings["skip_bad"]:
        shortest = min(wanted, key=lambda n: widths[n])
        raise UserError(
            f"{cached.names[shortest]} is too short for {length} bins: lower hyperparameters.length, or set "
            "dataset.skip_bad=true to leave such recordings out"
        )
    skipped = cached.skipped + len(wanted) - len(recordings)
    if skipped:
        say(f"{skipped} bad {part} recordings are left out")
    if len(recordings) < 2:
        raise UserError(
            f"dataset.root: {settings['root']} holds {len(recordings)} good {part} recordings; 2 are needed"
        )
    _print_count(part, len(recordings), dataset, settings)
    make = binned(cached.columns, offsets, cached.labels, widths, config, dataset, device)
    if part == "test":
        return {"test": make(indices=_chosen(recordings, settings["test_size"]))}
    train, dev = _train_and_dev(recordings, cached.subjects, settings, dataset.dev_share)
    return {
        "train": make(indices=_chosen(train, settings["train_size"]), shift=settings["shift"]),
        "dev": make(indices=dev),
    }


def binned(columns, offsets, labels, widths, config, dataset, device):
    """Return what makes an EventSplit of `indices` of recordings; all but `widths`, of a bin of each, as in a cache."""
    length, encoding = config["hyperparameters"]["length"], config["encoding"]
    step = columns["time"] // np.maximum(widths, 1).astype(np.int32).repeat(np.diff(offsets))
    used = step < length  # events after the last bin are dropped
    if encoding == "max":
        used &= columns["first"]
    place = columns["place"].view(np.int16)
    return partial(
        EventSplit, torch.from_numpy(step[used]).to(device), torch.from_numpy(place[used]).to(device),
        np.concatenate([[0], used.cumsum()])[offsets], labels,
        bin_events=partial(
            bin_max if encoding == "max" else bin_or, length=length, shape=dataset.shape
        ),
    )  # fmt: skip


def _print_count(part, count, dataset, settings):
    """Print the number of samples, and a note if the published dataset has more."""
    say(f"{settings['name']}: {count:,} {part} samples")
    whole = dataset.whole(settings)[part]
    if settings["name"] == dataset.name and count < whole:
        missing = f"{whole - count:,} of the published {whole:,} {part} samples are not there"
        note(f"{dataset.name}: {missing}; is {settings['root']} whole?")


def _train_and_dev(recordings, subjects, settings, dev_share):
    """Hold out `dataset.dev_size` of the training recordings, or the published share; always the same ones."""
    size = settings["dev_size"] or max(1, round(dev_share * len(recordings)))
    if size >= len(recordings):
        raise UserError(f"dataset.dev_size: {size} of {len(recordings)} training recordings leave none to train on")
    how = settings.get("dev_split", "random")
    if how == "random":
        order = [recordings[n] for n in same_order(len(recordings)).tolist()]
        train, dev = order[:-size], order[-size:]
    else:
        people = sorted({subjects[n] for n in recordings})
        train, dev = recordings, []
        for person in same_order(len(people)).tolist():
            if len(dev) < size:
                dev = dev + [n for n in train if subjects[n] == people[person]]
                train = [n for n in train if subjects[n] != people[person]]
        if not train:
            raise UserError("dataset.dev_split: too few subjects to hold some out; use random")
    by = "chosen at random" if how == "random" else f"of {len({subjects[n] for n in dev})} subjects"
    say(f"{len(dev)} of {len(recordings)} training recordings, {by}, are for dev")
    return train, dev


def _chosen(recordings, size):
    """Return `size` recordings, as `some` chooses them."""
    return [recordings[n] for n in some(len(recordings), size).tolist()]
