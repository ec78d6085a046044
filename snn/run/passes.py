"""One pass over a split: its batches, what it counts, and what a checkpoint keeps of an unfinished one."""

import time
from itertools import islice
from typing import NamedTuple

import torch
from tqdm import tqdm

from snn.base import ranks
from snn.base.output import is_quiet, note, say
from snn.tasks.answers import Answers

SECONDS_BETWEEN_LINES = 30  # of progress, if no terminal shows a bar


class Result(NamedTuple):
    """The result of a pass over a split."""

    loss: float  # mean over the samples
    score: float  # sum over the samples of the task's score
    total: int
    spikes: dict  # of each neuron `[*features]`, by layer; empty after a training pass
    ties: int = 0  # answers that several classes share; none after a training pass
    answers: Answers | None = None  # of a test, if the task classifies; on rank 0


class Batch(NamedTuple):
    """A batch, or this rank's share of one."""

    number: int  # within the pass, from 0
    x: torch.Tensor  # [T, B, *features]
    targets: torch.Tensor
    state: tuple | None  # that it starts from
    share: float  # of the batch, 1 on a single rank; times the number of ranks, as DistributedDataParallel averages


class Pass:
    """One pass over a split, or the rest of one: iterate over its batches, and add the results of each.

    Each rank counts its share of every batch. Shows its progress.

    Args:
        split: a `snn.data.base.Split`.
        task: a `snn.tasks.base.Task`.
        config: the resolved config, for the batch size.
        generator: of the data's random numbers; for the rest of a pass, as it was when that pass started.
        title: of the progress bar.
        shuffle: whether batches come in random order.
        preserved: carries the state from batch to batch; None starts every batch from zero.
        counts: what `counts` returned of an unfinished pass, whose batches are skipped.
    """

    def __init__(self, split, task, config, generator, title, shuffle=False, preserved=None, counts=None):
        self.split, self.task, self.generator, self.title = split, task, generator, title
        self.shuffle, self.preserved, counts = shuffle, preserved, counts or {}
        self.batch_size = config["hyperparameters"]["batch_size"]
        self.batches, self.samples = counts.get("batches", 0), counts.get("samples", 0)
        sums = [*counts.get("sums", ()), 0.0, 0.0, 0.0, 0.0][:4]  # older checkpoints have fewer
        self.sums = torch.tensor(sums, dtype=torch.float64, device=split.device)  # as `snn.run.step.forward` has them
        self.spikes = {name: spikes.to(split.device) for name, spikes in counts.get("spikes", {}).items()}

    def __iter__(self):
        size, reported = len(self.split), time.monotonic()
        bar = tqdm(
            total=-(-size // self.batch_size), initial=self.batches, desc=self.title, unit="batch", leave=False,
            disable=is_quiet() or None,
        )  # fmt: skip
        batches = self.split.batches(self.batch_size, self.generator, self.shuffle)
        with bar:
            for x, targets in islice(batches, self.batches, None):
                samples, of_all = x.shape[1], min(self.batch_size, size - self.batches * self.batch_size)
                state = self.preserved and self.preserved.take(samples)
                yield Batch(self.batches, x, targets, state, samples * ranks.ranks() / of_all)
                bar.update()
                if time.monotonic() - reported > (SECONDS_BETWEEN_LINES if bar.disable else 1):
                    reported = time.monotonic()
                    status = self.task.summary(_result(self.samples, self.sums.tolist(), self.spikes))
                    if bar.disable:
                        done = min(self.batches * self.batch_size, size)
                        say(f"{self.title}: {done}/{size} samples, {status}")
                    else:
                        bar.set_postfix_str(status)

    def add(self, batch, sums, end, spikes=None):
        """Count a batch: its sums, as `snn.run.step.forward` returns them, its last state, and its spikes by layer.

        Nothing but `end`, if states are preserved, is used later: a CUDA graph writes the next batch's over them.
        """
        if self.preserved:
            self.preserved.keep(end)
        self.batches += 1
        self.samples += batch.x.shape[1]
        self.sums += sums
        for name, of_layer in (spikes or {}).items():
            self.spikes[name] = self.spikes[name] + of_layer if name in self.spikes else of_layer.clone()

    def counts(self):
        """Return what all ranks have counted, as a checkpoint keeps it; all ranks must call it."""
        samples = torch.tensor(float(self.samples), device=self.sums.device)
        return {
            "batches": self.batches,
            "samples": int(ranks.total(samples)),
            "sums": ranks.total(self.sums).tolist(),
            "spikes": {name: ranks.total(spikes).cpu() for name, spikes in self.spikes.items()},
        }

    def result(self):
        """Return the Result over all ranks, and note input that is not finite; all ranks must call it."""
        counts = self.counts()
        if counts["sums"][3] and ranks.rank() == 0:
            note(f"{self.title}: some input is NaN or infinite, and the answers to it mean nothing: look at the data")
        return _result(counts["samples"], counts["sums"], counts["spikes"])


def _result(samples, sums, spikes):
    loss, score, ties = sums[:3]
    return Result(loss / max(samples, 1), score, samples, spikes, int(ties))


def data_generator(device, config):
    """Return the generator of all random numbers in the data: order, augmentation, Poisson spikes."""
    return torch.Generator(device).manual_seed(ranks.own_seed(config["pytorch_seed"]))
