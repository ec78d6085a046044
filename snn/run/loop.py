"""One pass over a split: what it counts, and how to resume an unfinished one."""

import time
from contextlib import nullcontext
from functools import partial
from itertools import islice
from typing import NamedTuple

import torch
from tqdm import tqdm

from snn.base import ranks
from snn.kernels.products import matrix_products
from snn.layers.state import Preserved
from snn.look import drive, health

SECONDS_BETWEEN_LINES = 30  # of progress, if no terminal shows a bar


class Result(NamedTuple):
    """The result of a pass over a split."""

    loss: float  # mean over the samples
    score: float  # sum over the samples of the task's score
    total: int
    spikes: dict  # of each neuron `[*features]`, by layer; empty after a training pass
    ties: int = 0  # answers that several classes share; none after a training pass


class Counts:
    """What a pass has counted so far; each rank counts its share of every batch."""

    def __init__(self, device, batches=0, samples=0, sums=(0.0, 0.0, 0.0), spikes=None):
        self.batches, self.samples = batches, samples
        sums = [*sums, 0.0][:3]  # checkpoints from before ties were counted have two
        self.sums = torch.tensor(sums, dtype=torch.float64, device=device)  # losses, scores, ties
        self.spikes = {name: sum.to(device) for name, sum in (spikes or {}).items()}  # of each neuron, by layer

    def add(self, samples, sums, spikes):
        """Count a batch: its number of samples, the sums of their losses, scores and ties, and their spikes."""
        self.batches += 1
        self.samples += samples
        self.sums += sums
        for name, of_layer in spikes.items():
            self.spikes[name] = self.spikes[name] + of_layer if name in self.spikes else of_layer.clone()

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
        loss, score, ties = self.sums.tolist()
        return Result(loss / max(self.samples, 1), score, self.samples, self.spikes, int(ties))

    def result_of_all(self):
        """Return the Result of what all ranks have counted; all ranks must call it."""
        return Counts(self.sums.device, **self.total()).result()


class Batch(NamedTuple):
    """A batch, or this rank's share of one."""

    number: int  # within the pass, from 0
    x: torch.Tensor  # [T, B, *features]
    targets: torch.Tensor
    state: tuple | None  # that it starts from
    share: float  # of the batch, 1 on a single rank; times the number of ranks, as DistributedDataParallel averages


def forward(net, task, config, x, targets, state=None):
    """Return a batch's mean loss, the sums of its samples' losses, scores and ties, and the state that it ends with."""
    samples, decides = x.shape[1], config["ties"] == "potential" and not net.training
    with matrix_products(config["precision"], x.device), drive.recorded(net) if decides else nullcontext() as drives:
        y, end = net(x, state)
    loss = task.loss(y, targets) if samples else y.sum()  # the mean of nothing is not a number
    sums, y = torch.empty(3, dtype=torch.float64, device=x.device), y.detach()
    settled = task.settled(y, drive.of_output(net, drives, y), targets) if decides else y
    sums[0], sums[1] = loss.detach() * samples, task.score(settled, targets)
    sums[2] = 0 if net.training else task.ties(y, targets)
    return loss, sums, end


def evaluate(net, task, config, x, targets, state=None):
    """Return the sums of a batch's losses, scores and ties, the state that it ends with, and its spikes by layer."""
    spikes = {}
    with health.spikes_counted(net, spikes):
        _, sums, end = forward(net, task, config, x, targets, state)
    return sums, end, spikes


@torch.no_grad()
def loss_of_silence(net, split, config, task):
    """Return the loss on a split's first batch of an output without spikes."""
    batch = torch.arange(min(len(split), config["hyperparameters"]["batch_size"]), device=split.device)
    x, targets = next(iter(split.batches_of([batch], data_generator(split.device, config))))
    with torch.random.fork_rng([x.device] if x.is_cuda else []):
        y = net.eval()(x)[0]
    return task.loss(torch.zeros_like(y), targets).item()


def run_epoch(
    net,
    split,
    config,
    task,
    generator,
    preserved=None,
    train=None,
    title="",
    counts=None,
    after_batch=lambda: None,
    evaluated=None,
):
    """Run one pass over a split, or the rest of one; return its Result.

    Args:
        split: a `snn.data.base.Split`.
        config: the resolved config, for the batch size and the precision.
        task: a `snn.tasks.base.Task`.
        preserved: carries the state from batch to batch; None starts every batch from zero.
        train: trains on a Batch, in shuffled order, and returns the sums of its losses and scores and the state that it
            ends with; None only evaluates.
        title: of the progress bar.
        counts: of an unfinished pass, whose batches are skipped; `generator` must be as it was when that pass started.
        after_batch: called after each batch; what it raises ends the pass.
        evaluated: from x, targets and a state to what `evaluate` returns; None takes that.
    """
    net.train(train is not None)
    device = next(net.parameters()).device
    batch_size = config["hyperparameters"]["batch_size"]
    counts = counts or Counts(device)
    evaluated = evaluated or partial(evaluate, net, task, config)
    bar = tqdm(
        total=-(-len(split) // batch_size), initial=counts.batches, desc=title, unit="batch", leave=False,
        disable=True if ranks.rank() else None,
    )  # fmt: skip
    reported = time.monotonic()
    with torch.set_grad_enabled(train is not None), bar:
        batches = split.batches(batch_size, generator, shuffle=train is not None)
        for x, targets in islice(batches, counts.batches, None):
            samples = x.shape[1]
            of_all = min(batch_size, len(split) - counts.batches * batch_size)
            state = preserved and preserved.take(samples)
            if train:
                share = samples * ranks.ranks() / of_all
                (sums, end), spikes = train(Batch(counts.batches, x, targets, state, share)), {}
            else:
                sums, end, spikes = evaluated(x, targets, state)
            if preserved:
                preserved.keep(end)
            counts.add(samples, sums, spikes)
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
