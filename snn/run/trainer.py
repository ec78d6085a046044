"""Training: epoch by epoch, saved so that a run can stop at any batch and resume as if it had not stopped."""

import json
import math
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch.optim import lr_scheduler

from snn import checkpoint
from snn.base import ranks, yamls
from snn.base.drawn import drawn_apart
from snn.base.errors import UserError
from snn.base.files import check_writable, reading, remove_unfinished
from snn.base.keys import plain
from snn.base.output import note, say
from snn.checkpoint import transfer
from snn.kernels.products import matrix_products
from snn.layers.chunks import in_chunks
from snn.layers.layer import hidden_layers, takes_means
from snn.layers.state import preserved_state
from snn.layers.synapses import check_stabilizes, unstable_filters, would_move
from snn.look import drive, inspection
from snn.look.board import Board
from snn.look.labels import layer_labels
from snn.run import folders, signals, snapshot
from snn.run.finite import FiniteWatch, NotFinite, where_not_finite
from snn.run.graph import with_graph
from snn.run.optimizers import learning_rate, make_optimizer, make_scheduler
from snn.run.passes import Pass, data_generator
from snn.run.step import evaluate_step, loss_of_silence, train_step

PATIENCE = 3  # epochs without learning until a note says so


class Trainer:
    """A run that can stop after any batch and resume.

    Args:
        net, splits: the network and the data, on the same device; splits has "train" and "dev".
        config: the resolved config.
        task: a `snn.tasks.base.Task`.
        resume_from: a checkpoint to resume from; its weights are already in `net`.
        aside: more folders whose checkpoints are moved aside, with older ones of this run, when it first saves.
    """

    def __init__(self, net, splits, config, task, resume_from=None, aside=()):
        self.aside = aside
        self.net, self.splits, self.config, self.task = net, splits, config, task
        if not any(parameter.requires_grad for parameter in net.parameters()):
            raise UserError("the network has no parameters to train")
        self.device = next(net.parameters()).device
        self.silence = None  # the loss of an output without spikes
        self.data = {name: split.fingerprint() for name, split in splits.items()}
        ranks.check_same(self.data)
        self.folder = Path(config["checkpoint_base_path"]) / config["experiment_name"]
        if config["save_checkpoint"] and not resume_from:
            transfer.check_kept(config["init_from"], [self.folder, *aside])
        self.run_folder = None
        self.frozen = transfer.freeze(net, config["freeze"])
        self.optimizer = make_optimizer(config, net)
        self.scheduler = make_scheduler(config, self.optimizer)
        if config["hyperparameters"]["stable_filters"]:
            check_stabilizes(net)
            if not resume_from and (moved := would_move(net)):
                why = "they are unstable, or slower than those that start here"
                note(f"stable_filters moves {moved:,} of the filters at the first step: {why}")
        if config["hyperparameters"]["rate_loss"] and not hidden_layers(net):
            raise UserError("hyperparameters.rate_loss: the network has no hidden neurons; set it to 0")
        if task.classifies:
            drive.check(net, config)
        self.watch = FiniteWatch(self.optimizer, shared=ranks.ranks() > 1)
        self.generator = data_generator(self.device, config)
        self.preserved = preserved_state(config)
        self.history = []  # a row of metrics.csv for each epoch
        self.best_model = None
        self.warned = False  # that the network does not learn
        self.is_recorded = False
        self.names = [*net.state_dict()]  # what a new network has: a layer may make a buffer in its first forward
        # Of the current epoch: its passes, by split; the generator's state when the last one started; the learning rate
        # and the time when the epoch started.
        self.passes, self.at_pass_start, self.lr, self.began = {}, None, None, None
        self.seconds = 0  # that the current epoch took before it was resumed
        self.owns_folder = False  # whether the checkpoints in the folder are this run's
        if resume_from:
            with reading(f"{self.folder / 'last.pt'} can't be resumed ({{reason}}): --test may still evaluate it"):
                snapshot.restore(self, resume_from)
        if ranks.ranks() > 1 and any(map(takes_means, net.modules())):
            note("BatchNorm takes the mean of each rank's own share of a batch, not of the batch: it trains otherwise")
        self.parallel = ranks.parallel(in_chunks(net, config["hyperparameters"]))
        step = partial(train_step, self.parallel, self.optimizer, self.watch, task, config)
        self.train_step = with_graph(step, self.parallel, self.optimizer, config, task)
        step = partial(evaluate_step, net, task, config)
        self.evaluate_step = with_graph(step, self.parallel, None, config, task)

    @property
    def best(self):
        """The history's entry of the epoch that was best on dev; the first of equals."""
        best = self.history[0]
        for entry in self.history:
            if self.task.is_better(entry, best):
                best = entry
        return best

    def learns(self):
        """Whether one of the last epochs was better on dev than an output without spikes; the first ones count as that.

        Deep networks start silent, and a step that is too large, or targets that are another dataset's, end there.
        """
        last = self.history[-PATIENCE:]
        if len(last) < PATIENCE:
            return True
        if self.silence is None:
            self.silence = loss_of_silence(self.net, self.splits["dev"], self.config, self.task)
        samples = len(self.splits["dev"])
        return any(self.task.learns(entry, self.silence, samples) for entry in last)

    def fit(self, on_epoch=None):
        """Train until the config's last epoch, keeping the best; the network then has the best epoch's weights.

        After each epoch, `on_epoch` gets its row of metrics.csv, a dict; if it returns True, that epoch is the last.

        Raises Stopped after SIGINT, SIGTERM or SIGHUP, and UserError if a loss or gradient is not finite or
        a file can't be written. The last checkpoint, if the config has some saved, is complete in all these cases.
        """
        if self.config["save_checkpoint"] and not self.owns_folder:
            checkpoint.check_readable(snapshot.capture(self), self.names)
        with signals.noted(repeated=ranks.ranks() > 1) as self.noted, self._owned(), self._run_files() as board:
            snapshot.complete(self)
            for epoch in range(len(self.history), self.config["hyperparameters"]["epoch"]):
                self._epoch(epoch, board)
                if on_epoch and ranks.largest(int(bool(on_epoch(dict(self.history[-1]))))):  # all ranks go on, or none
                    break
            if number := ranks.largest(self.noted.signal):  # that came while the last epoch was saved
                raise signals.Stopped(number, f"the end of training; {self._kept()}", self.owns_folder)
        self.net.load_state_dict(self.best_model)

    def _epoch(self, epoch, board):
        self.began = time.monotonic() - self.seconds
        self.lr = self.lr or learning_rate(self.optimizer)

        train = self.pass_over("train")
        if "dev" not in self.passes:  # else this run was stopped on dev, and resumes there
            self.parallel.train()
            for layer in self.frozen:
                layer.eval()  # else a normalization's statistics would change
            with self._finite(epoch):
                for batch in train:
                    train.add(batch, *self._train(batch))
                    self._after_batch("train")

        dev = self.pass_over("dev")
        self.net.eval()
        ranks.broadcast(self.net.buffers())  # of a normalization, each rank has its own after the last batch
        with torch.no_grad():
            for batch in dev:
                dev.add(batch, *self.evaluate_step(batch.x, batch.targets, batch.state))
                self._after_batch("dev")

        if self.scheduler and not isinstance(self.scheduler, lr_scheduler.CyclicLR):
            self.scheduler.step()
        self._end_epoch(epoch, train.result(), dev.result(), board)

    def _train(self, batch):
        """Train on a batch; return the sums of its losses, scores and ties, and the state that it ends with."""
        sums, end = self.train_step(batch.x, batch.targets, batch.state, batch.share)
        self.watch.note(batch)
        if isinstance(self.scheduler, lr_scheduler.CyclicLR):
            self.scheduler.step()
        return sums, end

    def pass_over(self, name, counts=None):
        """Return the current epoch's pass over a split; a new one, or the rest of one that has counted `counts`."""
        if name not in self.passes:
            self.at_pass_start = self.generator.get_state()
            self.passes[name] = Pass(
                self.splits[name], self.task, self.config, self.generator, f"epoch {len(self.history)} {name}",
                name == "train", self.preserved, counts,
            )  # fmt: skip
        return self.passes[name]

    def _after_batch(self, name):
        """Save, and stop after a signal, where it is time for it."""
        batches, every = self.passes[name].batches, self.config["checkpoint_every"]
        if number := ranks.largest(self.noted.signal):
            self._save()
            where = f"epoch {len(self.history)}, after batch {batches} of the {name} pass; {self._kept()}"
            raise signals.Stopped(number, where, self.owns_folder)
        if every and batches % every == 0:
            self._save()

    @contextmanager
    def _finite(self, epoch):
        """Raise UserError if the loss or gradient of a batch in the block fails, or a weight after it is not finite."""
        try:
            yield
            self.watch.check()
        except NotFinite as failure:
            batch = failure.batch
            with matrix_products(self.config["precision"], self.device):
                run = in_chunks(self.net, self.config["hyperparameters"])
                where = where_not_finite(self.net, self.task.loss, batch.x, batch.targets, batch.state, run)
            is_of_data = where in ("the input", "the targets")
            remedy = "data without NaN and infinite values" if is_of_data else f"a lower {self._lr_key()}"
            raise UserError(
                f"epoch {epoch}, batch {batch.number}: the loss or its gradient is not finite or too large; it began "
                f"in {where}; {self._kept()}; start a new run with {remedy}"
            ) from None
        spoilt = [name for name, value in self.net.named_parameters() if not value.isfinite().all()]
        if spoilt:  # by the last step, whose gradient was finite
            raise UserError(f"epoch {epoch}: {spoilt[0]} is not finite after the last step; {self._kept()}")

    def _end_epoch(self, epoch, train, dev, board):
        """Note and save an epoch with these Results, and say how it went."""
        labels = layer_labels(self.net)
        silent = [labels[name] for name, spikes in dev.spikes.items() if not spikes.any()]
        unstable = unstable_filters(self.net)
        entry = {"epoch": epoch} | self.task.columns(train, dev)
        for name, value in entry.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise UserError(f"columns() of task {type(self.task).__name__}: {name} is {value!r}, not a number")
        try:
            entry = plain(entry)
        except ValueError as error:
            raise UserError(f"columns() of task {type(self.task).__name__}: {entry} are not {error}") from None
        deciding = [f"{part}_{self.task.metric}" for part in ("train", "dev")]
        if lacks := [name for name in deciding if name not in entry]:
            raise UserError(f"columns() of task {type(self.task).__name__}: there is no {lacks[0]}, its metric")
        if not math.isfinite(entry[deciding[1]]):  # a run can't go on from that
            raise UserError(f"epoch {epoch}: {deciding[1]} is not finite; {self._kept()}")
        entry |= {
            "epoch": epoch, "lr": self.lr, "seconds": time.monotonic() - self.began,
            "unstable_filters": unstable, "silent_layers": len(silent),
        }  # fmt: skip
        steps = self.splits["dev"].length or self.config["hyperparameters"]["length"]
        hidden = hidden_layers(self.net)
        if hidden := [spikes.flatten() for name, spikes in dev.spikes.items() if name in hidden]:
            entry["hidden_rate"] = torch.cat(hidden).double().mean().item() / dev.total / steps
        self.history.append(entry)
        self.passes, self.lr, self.seconds = {}, None, 0
        is_best = self.best is entry
        if is_best:
            self.best_model = {name: value.clone() for name, value in self.net.state_dict().items()}
        if board:
            folders.write_metrics(self.run_folder, self.history)
        self._save(is_best)
        say(
            f"epoch {epoch}: train {self.task.summary(train)}, dev {self.task.summary(dev)}, lr {entry['lr']:.1e}, "
            f"{entry['seconds']:.1f} s"
            + (f", {unstable} unstable filters" if unstable else "")
            + (f", no spike in {', '.join(silent)}" if silent else "")
            + (f", {self.task.better}" if is_best and self.task.better else "")
        )
        if not self.warned and not self.learns():
            self.warned = True
            self._warn(entry, dev)
        if board:
            samples = train.total + dev.total
            board.write(entry, samples, dev, steps, self.net, self.config, self._picture, self.watch.norm)

    def _warn(self, entry, dev):
        """Say once that the network does not learn, and which keys may help."""
        lr, what = "another", f"is no better on dev than one without spikes, whose loss is {self.silence:.4g}"
        if dev.spikes and not dev.spikes[last := list(dev.spikes)[-1]].any():
            lr, what = "a higher", f"has no {'hidden' if last in hidden_layers(self.net) else 'output'} spike"
        elif entry["dev_loss"] > 1.1 * self.silence:
            lr = "a lower"
        keys = [f"{lr} {self._lr_key()}"]
        if lr != "a lower":
            published = self.config["hyperparameters"]["init"] == "published"
            keys = ["hyperparameters.init=kaiming"] * published + [*keys, "a lower hyperparameters.threshold"]
        if "hold" in self.config["hyperparameters"] and lr != "a lower":
            keys.append("a larger hyperparameters.hold")
        note(f"after {len(self.history)} epochs the network {what}; what may help: {', '.join(keys)}")

    def _lr_key(self):
        cyclic = isinstance(self.scheduler, lr_scheduler.CyclicLR)
        return "scheduler.CyclicLR.max_lr" if cyclic else f"optimizer.{self.config['optimizer']['optimizer_choice']}.lr"

    def _picture(self):
        """Return TensorBoard's picture of the network at work on the first dev sample: (name, figure)."""
        dev, config = self.splits["dev"], self.config
        with drawn_apart(self.device):  # a network may draw in eval mode too
            seen = inspection.view(self.net, None, dev, config, lambda: data_generator(self.device, config), count=1)
        return self.task.picture(seen)

    def _kept(self):
        none = "there is no checkpoint of this run" + " yet" * self.config["save_checkpoint"]
        return f"{self.folder / 'last.pt'} is kept" if self.owns_folder else none

    @contextmanager
    def _owned(self):
        """Own the checkpoints' folder during the run; one that can't be written is found before the first batch."""
        if ranks.rank() or not self.config["save_checkpoint"]:
            yield
            return
        with folders.owned_by_a_run(self.folder):
            check_writable(self.folder / "last.pt")
            yield

    def _is_recorded(self):
        """Whether the run was finished and tested before, and its folder says what trained it."""
        if len(self.history) < self.config["hyperparameters"]["epoch"]:
            return False
        try:
            result = json.loads((self.run_folder / "result.json").read_text())
            ties = yamls.load((self.run_folder / "config.yaml").read_text(), "config.yaml")["ties"]
            return "test" in result and (result["best_epoch"], ties) == (self.best["epoch"], self.config["ties"])
        except (OSError, ValueError, LookupError, TypeError, UserError):  # then they are written anew
            return False

    @contextmanager
    def _run_files(self):
        """Make the run's folder and its initial files; yield its Board, or None on ranks other than 0."""
        if ranks.rank():
            yield None
            return
        for folder in (Path("runs") / self.config["experiment_name"]).glob("*"):
            remove_unfinished(folder)
        self.run_folder = self.run_folder or folders.new_run_folder(self.config["experiment_name"])
        self.is_recorded = self._is_recorded()
        if not self.is_recorded:
            folders.write_config(self.run_folder, self.config)
        if self.history:  # its folder may be a new one
            folders.write_metrics(self.run_folder, self.history)
        with Board(self.run_folder, len(self.history)) as board:
            yield board

    def _save(self, is_best=False):
        """Save the run as it is now; every rank takes part, rank 0 writes."""
        if not self.config["save_checkpoint"]:
            return
        self.watch.check()
        state = snapshot.capture(self)
        if not self.owns_folder:
            checkpoint.check_readable(state, self.names)
        if ranks.rank() == 0:
            if not self.owns_folder:
                folders.move_aside(self.folder)
                for folder in self.aside:
                    with folders.owned_by_a_run(folder):
                        folders.move_aside(folder)
            if is_best:
                checkpoint.save(self.folder / "best.pt", state)
            checkpoint.save(self.folder / "last.pt", state, keep=self.folder / "previous.pt")
        self.owns_folder = True
