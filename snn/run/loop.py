"""One pass over a split: what is counted, and how a pass that was left is taken up."""

import time
from contextlib import nullcontext
from itertools import islice
from typing import NamedTuple

import torch
from tqdm import tqdm

from snn.base import ranks
from snn.layers.state import Preserved
from snn.look import health

SECONDS_BETWEEN_LINES = 30  # of progress where no terminal shows a bar


class Result(NamedTuple):
    """What a pass over a split gave."""

    loss: float  # mean over the samples
    score: float  # sum over the samples of what the task adds up beside the loss
    total: int
    spikes: dict  # of each neuron `[*features]`, by layer; empty after a training pass


class Counts:
    """What a pass has counted so far; on several ranks each counts its share of every batch."""

    def __init__(self, device, batches=0, samples=0, sums=(0.0, 0.0), spikes=None):
        self.batches, self.samples = batches, samples
        self.sums = torch.tensor(sums, dtype=torch.float64, device=device)  # losses, scores
        self.spikes = {name: sum.to(device) for name, sum in (spikes or {}).items()}  # of each neuron, by layer

    def add(self, loss, score, samples):
        """Count a batch: its mean loss, its samples' scores added up, and how many there are."""
        self.batches += 1
        self.samples += samples
        self.sums[0] += loss.detach() * samples
        self.sums[1] += score

    def total(self):
        """What all ranks have counted, to be asked by all of them, as what a checkpoint keeps."""
        samples = torch.tensor(float(self.samples), device=self.sums.device)
        return {
            "batches": self.batches,
            "samples": int(ranks.total(samples)),
            "sums": ranks.total(self.sums).tolist(),
            "spikes": {name: ranks.total(spikes).cpu() for name, spikes in self.spikes.items()},
        }

    def result(self):
        """The Result of what this object has counted."""
        loss, score = self.sums.tolist()
        return Result(loss / max(self.samples, 1), score, self.samples, self.spikes)

    def result_of_all(self):
        """The Result of what all ranks have counted, to be asked by all of them."""
        return Counts(self.sums.device, **self.total()).result()


class Batch(NamedTuple):
    """A batch as a training step gets it."""

    number: int  # of the pass, from 0
    x: torch.Tensor
    targets: torch.Tensor
    state: tuple | None  # that it starts from


def run_epoch(
    net, split, config, task, generator, preserved=None, step=None, title="", counts=None, after_batch=lambda: None
):
    """One pass over a split, or the rest of one; gives its Result.

    Args:
        split: a `snn.data.base.Split`.
        config: the resolved config, for the batch size and the precision.
        task: a `snn.tasks.base.Task`.
        preserved: carries the state from batch to batch; None starts every batch from zero.
        step: called with each batch's loss and its Batch to train on it, in shuffled order; None only evaluates.
        title: what the progress bar says.
        counts: of a pass that was left; its batches are skipped, with `generator` as it was at that pass's beginning.
        after_batch: called after each batch; what it raises leaves the pass.
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
    """A context in which dense layers and convolutions on CUDA run in that precision; on the CPU always in float32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    return torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16" and device.type == "cuda")


def test(net, split, config, task):
    """Evaluate on the test split; the same network and config, on as many ranks, always give the same result."""
    generator = data_generator(next(net.parameters()).device, config)
    return run_epoch(net, split, config, task, generator, preserved_state(config), title="test")


def data_generator(device, config):
    """The generator of all that is random in the data: order, augmentation, Poisson spikes."""
    return torch.Generator(device).manual_seed(ranks.own_seed(config["pytorch_seed"]))


def preserved_state(config):
    """What carries the state from batch to batch; None if every batch starts from zero."""
    return Preserved() if config["states"] == "preserved" else None
