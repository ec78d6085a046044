"""Training and evaluation of a network, for classification by counting output spikes or for association."""

import csv
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
import yaml
from torch.optim import lr_scheduler
from tqdm import tqdm

from snn import checkpoint
from snn.errors import UserError
from snn.files import written_beside
from snn.state import Preserved, map_tensors

SECONDS_BETWEEN_LINES = 30  # of progress where no terminal shows a bar


class Task(NamedTuple):
    """What a network is trained for; both functions take its output `[T, B, *]` and the batch's targets."""

    loss: Callable  # mean over the samples
    correct: Callable | None  # number of correct predictions; None: the loss alone tells how good it is


# Softmax cross-entropy on the output spike counts, prediction = argmax of the counts; targets are labels [B].
CLASSIFICATION = Task(
    lambda spikes, labels: F.cross_entropy(spikes.sum(0), labels),
    lambda spikes, labels: (spikes.sum(0).argmax(1) == labels).sum(),
)
# Mean squared error of the filtered output; targets are [T, B, *].
ASSOCIATION = Task(F.mse_loss, None)


class Result(NamedTuple):
    """What an epoch over a split gave."""

    loss: float  # mean over the samples
    correct: int | None  # None where there is nothing to be counted
    total: int

    @property
    def accuracy(self):
        """Share of correct predictions in percent."""
        return 100 * self.correct / self.total

    def __str__(self):
        if self.correct is None:
            return f"loss {self.loss:.5f}"
        return f"{self.accuracy:.2f} % (loss {self.loss:.4f})"


def run_epoch(net, split, config, task, generator, preserved=None, step=None, title=""):
    """One pass over a split.

    Args:
        split: has `batches(batch_size, generator, shuffle)`, which yields (x `[T, B, *]`, targets).
        config: the resolved config, for the batch size and the precision.
        preserved: carries the state from batch to batch; None starts every batch from zero.
        step: called with each batch's loss to train on it, in shuffled order; None only evaluates.
        title: what the progress bar says.
    """
    net.train(step is not None)
    device = next(net.parameters()).device
    batch_size = config["hyperparameters"]["batch_size"]
    loss_sum = torch.zeros((), device=device)
    correct = torch.zeros((), dtype=torch.long, device=device) if task.correct else None
    seen = 0
    bar = tqdm(total=-(-len(split) // batch_size), desc=title, unit="batch", leave=False, disable=None)
    reported = time.monotonic()
    with torch.set_grad_enabled(step is not None), bar:
        for x, targets in split.batches(batch_size, generator, shuffle=step is not None):
            samples = x.shape[1]
            with matrix_products(config["precision"], device):
                y, state = net(x, preserved and preserved.take(samples))
            if preserved:
                preserved.keep(state)
            loss = task.loss(y, targets)
            if step:
                step(loss)
            loss_sum += loss.detach() * samples
            if task.correct:
                correct += task.correct(y.detach(), targets)
            seen += samples
            bar.update()
            if time.monotonic() - reported > (SECONDS_BETWEEN_LINES if bar.disable else 1):
                reported = time.monotonic()
                status = _result(loss_sum, correct, seen)
                if bar.disable:
                    print(f"{title}: {seen}/{len(split)} samples, {status}", flush=True)
                else:
                    bar.set_postfix_str(str(status))
    return _result(loss_sum, correct, seen)


def _result(loss_sum, correct, seen):
    return Result(loss_sum.item() / seen, None if correct is None else correct.item(), seen)


def test(net, split, config, task):
    """Evaluate on the test split; the same network and config always give the same result."""
    generator = _generator(net, config)
    return run_epoch(net, split, config, task, generator, _preserved(config), title="test")


class Trainer:
    """A training that can be saved after any epoch and continued.

    Args:
        net, splits: the network and the data, on the same device; splits has "train" and "dev".
        config: the resolved config.
        task: CLASSIFICATION or ASSOCIATION.
        resume_from: a checkpoint to go on from; its weights are in `net` already.
    """

    def __init__(self, net, splits, config, task, resume_from=None):
        self.net, self.splits, self.config, self.task = net, splits, config, task
        self.folder = Path(config["checkpoint_base_path"]) / config["experiment_name"]
        self.optimizer = make_optimizer(config, net)
        self.scheduler = make_scheduler(config, self.optimizer)
        self.generator = _generator(net, config)
        self.preserved = _preserved(config)
        self.history = []
        self.best_model = None
        self.run_folder = None
        self.resumed = resume_from is not None
        if self.resumed:
            self._restore(resume_from)

    @property
    def best(self):
        """The history's entry of the epoch that was best on dev, the first of them."""
        if self.task.correct:
            return max(self.history, key=lambda entry: entry["dev_acc"])
        return min(self.history, key=lambda entry: entry["dev_loss"])

    def fit(self):
        """Train until the config's last epoch, keeping the best; the network then has the best epoch's weights."""
        p = self.config["hyperparameters"]
        self.run_folder = self.run_folder or new_run_folder(self.config["experiment_name"])
        with written_beside(self.run_folder / "config.yaml") as file:
            file.write(yaml.safe_dump(self.config, sort_keys=False).encode())
        from torch.utils.tensorboard import SummaryWriter  # seconds to import, and only trainings need it

        with SummaryWriter(self.run_folder, purge_step=len(self.history)) as board:
            for epoch in range(len(self.history), p["epoch"]):
                start = time.monotonic()
                lr = self.optimizer.param_groups[0]["lr"]
                train, dev = (
                    run_epoch(self.net, self.splits[name], self.config, self.task, self.generator, self.preserved, step,
                              f"epoch {epoch} {name}")
                    for name, step in (("train", self._step), ("dev", None))
                )  # fmt: skip
                if self.scheduler and not isinstance(self.scheduler, lr_scheduler.CyclicLR):
                    self.scheduler.step()
                entry = {"epoch": epoch}
                if self.task.correct:
                    entry |= {"train_acc": train.accuracy, "dev_acc": dev.accuracy}
                entry |= {
                    "train_loss": train.loss, "dev_loss": dev.loss, "lr": lr, "seconds": time.monotonic() - start,
                }  # fmt: skip
                self.history.append(entry)
                self._save()
                for key, value in entry.items():
                    board.add_scalar(key, value, epoch)
                print(
                    f"epoch {epoch}: train {train}, dev {dev}, lr {lr:.1e}, {entry['seconds']:.1f} s"
                    + (", best so far" if self.best is entry else ""),
                    flush=True,
                )
        self.net.load_state_dict(self.best_model)

    def _step(self, loss):
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if isinstance(self.scheduler, lr_scheduler.CyclicLR):
            self.scheduler.step()

    def _save(self):
        is_best = self.best is self.history[-1]
        if is_best:
            self.best_model = {name: value.clone() for name, value in self.net.state_dict().items()}
        if self.config["save_checkpoint"]:
            if not self.resumed and len(self.history) == 1:
                _move_aside(self.folder)
            state = self._state()
            checkpoint.save(self.folder / "last.pt", state)
            if is_best:
                checkpoint.save(self.folder / "best.pt", state)
        table = io.StringIO()
        writer = csv.DictWriter(table, self.history[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: round(value, 6) for key, value in entry.items()} for entry in self.history)
        with written_beside(self.run_folder / "metrics.csv") as file:
            file.write(table.getvalue().encode())

    def _state(self):
        return {
            "config": self.config,
            "epoch": self.history[-1]["epoch"],
            "model": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler and self.scheduler.state_dict(),
            "random": {
                "torch": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state_all(),
                "data": self.generator.get_state(),
            },
            "preserved": self.preserved and self.preserved.state,
            "history": self.history,
            "run_folder": str(self.run_folder),
        }

    def _restore(self, saved):
        device = self.generator.device
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.scheduler:
            self.scheduler.load_state_dict(saved["scheduler"])
        torch.set_rng_state(saved["random"]["torch"])
        if device.type == "cuda":
            torch.cuda.set_rng_state_all(saved["random"]["cuda"])
        self.generator.set_state(saved["random"]["data"])
        if self.preserved:
            self.preserved.state = map_tensors(lambda kept: kept.to(device), saved["preserved"])
        self.history = saved["history"]
        self.run_folder = Path(saved["run_folder"])
        self.best_model = checkpoint.load(self.folder / "best.pt", self.config["experiment_name"])["model"]


def matrix_products(precision, device):
    """A context in which dense layers and convolutions on CUDA run in that precision; on the CPU always in float32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    return torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16" and device.type == "cuda")


def make_optimizer(config, net):
    """The optimizer that the config names, over the parameters that are trained."""
    choice = config["optimizer"]["optimizer_choice"]
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    return getattr(torch.optim, choice)(parameters, lr=config["optimizer"][choice]["lr"], fused=True)


def make_scheduler(config, optimizer):
    """The learning rate scheduler that the config names; None for "none". CyclicLR is stepped every batch."""
    choice = config["scheduler"]["scheduler_choice"]
    if choice == "none":
        return None
    options = dict(config["scheduler"][choice])
    if choice == "CyclicLR":
        options["cycle_momentum"] = False  # Adam has none
    return getattr(lr_scheduler, choice)(optimizer, **options)


def _generator(net, config):
    """The generator of all that is random in the data: order, augmentation, Poisson spikes."""
    return torch.Generator(next(net.parameters()).device).manual_seed(config["pytorch_seed"])


def _preserved(config):
    return Preserved() if config["states"] == "preserved" else None


def new_run_folder(experiment):
    """runs/<experiment>/<time>, made anew."""
    start = time.strftime("%Y-%m-%d_%H-%M-%S")
    for suffix in ("", *(f"_{n}" for n in range(2, 100))):
        folder = Path("runs") / experiment / (start + suffix)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"the run folder {folder} can't be made: {error.strerror}") from None
        return folder
    raise UserError(f"the run folder {folder} is there already: wait a second")


def _move_aside(folder):
    """Keep the checkpoints of an older training: its folder gets the time of its last checkpoint behind its name."""
    newest = checkpoint.newest(folder)
    if newest.exists():
        when = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(newest.stat().st_mtime))
        aside = folder.with_name(f"{folder.name}_{when}")
        folder.rename(aside)
        print(f"the checkpoints of an older training are now in {aside}", file=sys.stderr)
