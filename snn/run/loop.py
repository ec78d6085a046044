"""One pass over a split: what it counts, and how to resume an unfinished one."""

import time
from contextlib import nullcontext
from itertools import islice
from typing import NamedTuple

import torch
from tqdm import tqdm

from snn.base import ranks
from snn.kernels.products import cpu_has_bf16
from snn.layers.state import Preserved
from snn.look import health

SECONDS_BETWEEN_LINES = 30  # of progress, if no terminal shows a bar


class Result(NamedTuple):
    """The result of a pass over a split."""

    loss: float  # mean over the samples
    score: float  # sum over the samples of the task's score
    total: int
    spikes: dict  # of each neuron `[*features]`, by layer; empty after a training pass


class Counts:
    """What a pass has counted so far; each rank counts its share of every batch."""

    def __init__(self, device, batches=0, samples=0, sums=(0.0, 0.0), spikes=None):
        self.batches, self.samples = batches, samples
        self.sums = torch.tensor(sums, dtype=torch.float64, device=device)  # losses, scores
        self.spikes = {name: sum.to(device) for name, sum in (spikes or {}).items()}  # of each neuron, by layer

    def add(self, loss, score, samples):
        """Count a batch: its mean loss, the sum of its samples' scores, and their number."""
        self.batches += 1
        self.samples += samples
        self.sums[0] += loss.detach() * samples
        self.sums[1] += score

    def total(self):
        """Return what all ranks have counted, in the form that a checkpoint keeps; all ranks must call it."""
        samples = torch.tensor(float(self.samples), device=self.sums.device)
        return {
            "batches": self.batches,
            "samples": int(ranks.total(samples)),
            "sums": ranks.total(self.sums).tolist(),
            "spikes": {name: ranks.total(spikes).cpu() for name, spikes in self.spikes.items()},
        }

    def result(self):
        """Return the Result of what this object has counted."""
        loss, score = self.sums.tolist()
        return Result(loss / max(self.samples, 1), score, self.samples, self.spikes)

    def result_of_all(self):
        """Return the Result of what all ranks have counted; all ranks must call it."""
        return Counts(self.sums.device, **self.total()).result()


class Batch(NamedTuple):
    """A batch as passed to a training step."""

    number: int  # within the pass, from 0
    x: torch.Tensor
    targets: torch.Tensor
    state: tuple | None  # that it starts from


def run_epoch(
    net, split, config, task, generator, preserved=None, step=None, title="", counts=None, after_batch=lambda: None
):
    """Run one pass over a split, or the rest of one; return its Result.

    Args:
        split: a `snn.data.base.Split`.
        config: the resolved config, for the batch size and the precision.
        task: a `snn.tasks.base.Task`.
        preserved: carries the state from batch to batch; None starts every batch from zero.
        step: called with each batch's loss and its Batch to train on it, in shuffled order; None only evaluates.
        title: of the progress bar.
        counts: of an unfinished pass, whose batches are skipped; `generator` must be as it was when that pass started.
        after_batch: called after each batch; what it raises ends the pass.
    """
    net.train(step is not None)
    device = next(net.parameters()).device
    batch_size = config["hyperparameters"]["batch_size"]
    counts = counts or Counts(device)
    bar = tqdm(
        total=-(-len(split) // batch_size), initial=counts.batches, desc=title, unit="batch", leave=False,
        disable=True if ranks.rank() else None,
    )  # fmt: skip
    reported = time.monotonic()
    counted = nullcontext() if step else health.spikes_counted(net, counts.spikes)
    with torch.set_grad_enabled(step is not None), bar, counted:
        batches = split.batches(batch_size, generator, shuffle=step is not None)
        for x, targets in islice(batches, counts.batches, None):
            samples = x.shape[1]
            state = preserved and preserved.take(samples)
            with matrix_products(config["precision"], device):
                y, end = net(x, state)
            if preserved:
                preserved.keep(end)
            loss = task.loss(y, targets) if samples else y.sum()  # the mean of nothing is not a number
            if step:
                done = counts.batches * batch_size
                of_all = min(batch_size, len(split) - done)
                step(loss * (samples * ranks.ranks() / of_all), Batch(counts.batches, x, targets, state))
            counts.add(loss, task.score(y.detach(), targets), samples)
            after_batch()
            bar.update()
            if time.monotonic() - reported > (SECONDS_BETWEEN_LINES if bar.disable else 1):
                reported = time.monotonic()
                status = task.summary(counts.result())
                if bar.disable:
                    done = min(counts.batches * batch_size, len(split))
                    print(f"{title}: {done}/{len(split)} samples, {status}", flush=True)
                else:
                    bar.set_postfix_str(status)
    return counts.result_of_all()


def matrix_products(precision, device):
    """Return a context in which dense layers and convolutions run in that precision, where the device has it."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    bf16 = precision == "bf16" and (device.type != "cpu" or cpu_has_bf16())
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)


def test(net, split, config, task):
    """Evaluate on the test split; the same network, config and number of ranks always give the same result."""
    generator = data_generator(next(net.parameters()).device, config)
    return run_epoch(net, split, config, task, generator, preserved_state(config), title="test")


def data_generator(device, config):
    """Return the generator of all random numbers in the data: order, augmentation, Poisson spikes."""
    return torch.Generator(device).manual_seed(ranks.own_seed(config["pytorch_seed"]))


def preserved_state(config):
    """Return what carries the state from batch to batch; None if every batch starts from zero."""
    return Preserved() if config["states"] == "preserved" else None
