"""Training: one epoch after the other, saved so that it can stop at any batch and go on as if it never had."""

import csv
import io
import signal
import sys
import time
import warnings
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import torch
import yaml
from torch.nn.utils import get_total_norm
from torch.optim import lr_scheduler

from snn import checkpoint
from snn.base import ranks
from snn.base.errors import UserError
from snn.base.files import remove_unfinished, written_beside
from snn.layers.state import Preserved, map_tensors
from snn.layers.synapses import COEFFICIENTS
from snn.look import health
from snn.run.loop import Counts, run_epoch

EPOCHS_BETWEEN_PICTURES = 10


def test(net, split, config, task):
    """Evaluate on the test split; the same network and config, on as many ranks, always give the same result."""
    generator = data_generator(next(net.parameters()).device, config)
    return run_epoch(net, split, config, task, generator, _preserved(config), title="test")


class Stopped(Exception):
    """SIGINT or SIGTERM ended a training after a whole batch; `saved` says whether it can go on from there."""

    def __init__(self, number, where, saved):
        self.number, self.where, self.saved = number, where, saved


class Trainer:
    """A training that can stop after any batch and go on.

    Args:
        net, splits: the network and the data, on the same device; splits has "train" and "dev".
        config: the resolved config.
        task: CLASSIFICATION or ASSOCIATION.
        resume_from: a checkpoint to go on from; its weights are in `net` already.
    """

    def __init__(self, net, splits, config, task, resume_from=None):
        self.net, self.splits, self.config, self.task = net, splits, config, task
        self.device = next(net.parameters()).device
        self.folder = Path(config["checkpoint_base_path"]) / config["experiment_name"]
        self.run_folder = None
        self.optimizer = make_optimizer(config, net)
        self.scheduler = make_scheduler(config, self.optimizer)
        self.watch = health.FiniteWatch(self.optimizer)
        self.generator = data_generator(self.device, config)
        self.preserved = _preserved(config)
        self.history = []
        self.best_model = None
        # Of the running epoch: what its passes have counted, by split; the generator's state when the last of them
        # began; the learning rate and the time at its beginning.
        self.counts, self.at_pass_start, self.lr, self.began = {}, None, None, None
        self.seconds = 0  # that the running epoch took before it was resumed
        self.owns_folder = False  # whether the checkpoints in it are this training's
        if resume_from:
            self._restore(resume_from)
        self.parallel = ranks.parallel(net)

    @property
    def best(self):
        """The history's entry of the epoch that was best on dev, the first of them."""
        if self.task.correct:
            return max(self.history, key=lambda entry: entry["dev_acc"])
        return min(self.history, key=lambda entry: entry["dev_loss"])

    def fit(self):
        """Train until the config's last epoch, keeping the best; the network then has the best epoch's weights.

        Raises Stopped after SIGINT or SIGTERM, and UserError where a loss or gradient is not finite or a file can't be
        written. The last checkpoint is whole in all these cases.
        """
        try:
            with _signals_noted() as self.noted, self._run_files() as board:
                for epoch in range(len(self.history), self.config["hyperparameters"]["epoch"]):
                    self._epoch(epoch, board)
        except OSError as error:  # TensorBoard's; other files have their own error
            raise UserError(f"{self.run_folder} can't be written: {error.strerror or error}; {self._kept()}") from None
        self.net.load_state_dict(self.best_model)

    def _epoch(self, epoch, board):
        self.began = time.monotonic() - self.seconds
        self.lr = self.lr or self.optimizer.param_groups[0]["lr"]
        try:
            train = self._pass("train", epoch, self.parallel, self._step)
            self.watch.check()
        except health.NotFinite as failure:
            raise UserError(self._where_not_finite(epoch, failure.batch)) from None
        dev = self._pass("dev", epoch, self.net)
        if self.scheduler and not isinstance(self.scheduler, lr_scheduler.CyclicLR):
            self.scheduler.step()
        silent = [name for name, spikes in dev.spikes.items() if not spikes.any()]
        entry = {"epoch": epoch}
        if self.task.correct:
            entry |= {"train_acc": train.accuracy, "dev_acc": dev.accuracy}
        entry |= {
            "train_loss": train.loss, "dev_loss": dev.loss, "lr": self.lr, "seconds": time.monotonic() - self.began,
            "unstable_filters": health.unstable_filters(self.net), "silent_layers": len(silent),
        }  # fmt: skip
        self.history.append(entry)
        self.counts, self.lr, self.seconds = {}, None, 0
        is_best = self.best is entry
        if is_best:
            self.best_model = {name: value.clone() for name, value in self.net.state_dict().items()}
        if board:
            self._write_metrics()
            self._write_board(board, entry, train.total + dev.total, dev)
        self._save(is_best)
        print(
            f"epoch {epoch}: train {train}, dev {dev}, lr {entry['lr']:.1e}, {entry['seconds']:.1f} s"
            + (f", {entry['unstable_filters']} unstable filters" if entry["unstable_filters"] else "")
            + (f", no spike in layer {', '.join(silent)}" if silent else "")
            + (", best so far" if is_best else ""),
            flush=True,
        )

    def _pass(self, name, epoch, net, step=None):
        """One pass of the running epoch, or what is left of it."""
        if name == "train" and "dev" in self.counts:
            return self.counts[name].result_of_all(self.task)
        if name not in self.counts:
            self.at_pass_start = self.generator.get_state()
            self.counts[name] = Counts(self.device)
        counts, every = self.counts[name], self.config["checkpoint_every"]

        def after_batch():
            if number := ranks.largest(self.noted.signal):
                self._save()
                where = f"epoch {epoch}, after batch {counts.batches} of the {name} pass; {self._kept()}"
                raise Stopped(number, where, self.owns_folder)
            if every and counts.batches % every == 0:
                self._save()

        return run_epoch(
            net, self.splits[name], self.config, self.task, self.generator, self.preserved, step,
            f"epoch {epoch} {name}", counts, after_batch,
        )  # fmt: skip

    def _step(self, loss, batch):
        self.optimizer.zero_grad()
        loss.backward()
        self.watch.add(loss, batch)
        self.optimizer.step()
        if self.config["hyperparameters"]["stable_filters"]:
            for layer in self.net.modules():
                if hasattr(layer, "stabilize"):
                    layer.stabilize()
        if isinstance(self.scheduler, lr_scheduler.CyclicLR):
            self.scheduler.step()

    def _where_not_finite(self, epoch, batch):
        where = health.where_not_finite(self.net, self.task.loss, batch.x, batch.targets, batch.state)
        lr = f"optimizer.{self.config['optimizer']['optimizer_choice']}.lr"
        return (
            f"epoch {epoch}, batch {batch.number}: the loss or its gradient is not finite; it began in {where}; "
            f"{self._kept()}; train anew with a lower {lr}"
        )

    def _kept(self):
        last = self.folder / "last.pt"
        return f"{last} is kept" if self.owns_folder else "there is no checkpoint of this training yet"

    @contextmanager
    def _run_files(self):
        """Write what is in the run's folder from the start; gives TensorBoard's writer, None where another rank has it.

        What a later epoch wrote before the training was killed is written again.
        """
        if ranks.rank():
            yield None
            return
        from torch.utils.tensorboard import SummaryWriter  # seconds to import, and only trainings need it

        remove_unfinished(self.folder)
        self.run_folder = self.run_folder or new_run_folder(self.config["experiment_name"])
        with written_beside(self.run_folder / "config.yaml") as file:
            file.write(yaml.safe_dump(self.config, sort_keys=False).encode())
        with SummaryWriter(self.run_folder, purge_step=len(self.history)) as board:
            yield board

    def _write_metrics(self):
        table = io.StringIO()
        writer = csv.DictWriter(table, self.history[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {key: float(f"{value:.8g}") if isinstance(value, float) else value for key, value in entry.items()}
            for entry in self.history
        )
        with written_beside(self.run_folder / "metrics.csv") as file:
            file.write(table.getvalue().encode())

    def _write_board(self, board, entry, samples, dev):
        """Everything that TensorBoard shows of an epoch; what takes longer only once in a while."""
        epoch = entry["epoch"]
        for key, value in entry.items():
            board.add_scalar(key, value, epoch)
        board.add_scalar("samples_per_second", samples / entry["seconds"], epoch)
        gradients = [parameter.grad for parameter in self.net.parameters() if parameter.grad is not None]
        if gradients:  # there are none where the epoch was resumed on dev
            board.add_scalar("gradient_norm_of_last_batch", get_total_norm(gradients), epoch)
        steps = dev.total * self.config["hyperparameters"]["length"]
        for name, spikes in dev.spikes.items():
            board.add_scalar(f"firing_rate/layer_{name}", spikes.double().mean() / steps, epoch)
            board.add_scalar(f"silent_neurons/layer_{name}", (spikes == 0).double().mean(), epoch)
        if epoch % EPOCHS_BETWEEN_PICTURES == 0 or epoch + 1 == self.config["hyperparameters"]["epoch"]:
            from snn.look import inspection  # imports matplotlib, which takes a second

            for name, value in self.net.named_parameters():
                if name.endswith(COEFFICIENTS):
                    board.add_histogram(name, value, epoch)
            board.add_figure(*inspection.sample(self.net, self.splits["dev"], self.config, self.task), epoch)
        board.flush()

    def _save(self, is_best=False):
        """Save the training as it is now; every rank takes part, rank 0 writes."""
        if not self.config["save_checkpoint"]:
            return
        self.watch.check()
        state = self._state()
        if ranks.rank() == 0:
            if not self.owns_folder:
                _move_aside(self.folder)
            if is_best:
                checkpoint.save(self.folder / "best.pt", state)
            checkpoint.save(self.folder / "last.pt", state, keep=self.folder / "previous.pt")
        self.owns_folder = True

    def _state(self):
        random = {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "data": self.at_pass_start if self.counts else self.generator.get_state(),
        }
        return {
            "version": checkpoint.VERSION,
            "config": self.config,
            "epoch": self.history[-1]["epoch"] if self.history else -1,
            "model": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler and self.scheduler.state_dict(),
            "device": self.device.type,
            "random": ranks.gathered(random),
            "preserved": ranks.gathered(self.preserved and map_tensors(torch.Tensor.cpu, self.preserved.state)),
            "history": self.history,
            "best_model": self.best_model,
            "run_folder": str(self.run_folder),
            "running": {
                "counts": {name: counts.total() for name, counts in self.counts.items()},
                "lr": self.lr,
                "seconds": time.monotonic() - self.began if self.counts else 0,
            },
        }

    def _restore(self, saved):
        self.history, self.best_model, running = saved["history"], saved["best_model"], saved["running"]
        self.run_folder, self.owns_folder = Path(saved["run_folder"]), True
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.scheduler:
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")  # true where dev alone was left
            self.scheduler.load_state_dict(saved["scheduler"])
            if isinstance(self.scheduler, lr_scheduler.MultiStepLR):  # those to come may have been changed
                self.scheduler.milestones = Counter(self.config["scheduler"]["MultiStepLR"]["milestones"])
        rank, saved_ranks = ranks.rank(), len(saved["random"])
        for name, counts in running["counts"].items():
            if rank:  # rank 0 has counted for all
                nothing = {layer: torch.zeros_like(spikes) for layer, spikes in counts["spikes"].items()}
                counts = {"batches": counts["batches"], "spikes": nothing}
            self.counts[name] = Counts(self.device, **counts)
        self.lr, self.seconds = running["lr"], running["seconds"]
        if saved["device"] != self.device.type:
            if self.counts:
                raise UserError(
                    f"the checkpoint is from the middle of an epoch on {saved['device']}: resume it with --device "
                    f"{saved['device']}, not {self.device.type}"
                )
            if rank == 0:
                print(f"note: trained on {saved['device']} so far; the noise is another now", file=sys.stderr)
        elif rank < saved_ranks:
            random = saved["random"][rank]
            torch.set_rng_state(random["torch"])
            if random["cuda"] is not None:
                torch.cuda.set_rng_state(random["cuda"], self.device)
            self.generator.set_state(random["data"])
        self.at_pass_start = self.generator.get_state()
        if self.preserved and saved_ranks == ranks.ranks():
            self.preserved.state = map_tensors(lambda kept: kept.to(self.device), saved["preserved"][rank])
        elif saved_ranks != ranks.ranks() and rank == 0:
            states = "; preserved states start from zero" if self.preserved else ""
            print(f"note: ranks: {ranks.ranks()} from now on, {saved_ranks} so far{states}", file=sys.stderr)


@contextmanager
def _signals_noted():
    """Within it SIGINT and SIGTERM only leave their number in `.signal`; a second Ctrl-C interrupts at once."""
    noted = SimpleNamespace(signal=0)

    def note(number, _):
        if noted.signal and number == signal.SIGINT and ranks.ranks() == 1:  # torchrun sends its own again
            raise KeyboardInterrupt
        noted.signal = number

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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


def data_generator(device, config):
    """The generator of all that is random in the data: order, augmentation, Poisson spikes."""
    seed = ranks.own_seed(config["pytorch_seed"])
    return torch.Generator(device).manual_seed(seed)


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
    files = list(folder.glob("*.pt"))
    if files:
        newest = max(file.stat().st_mtime for file in files)
        when = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(newest))
        aside = folder.with_name(f"{folder.name}_{when}")
        try:
            folder.rename(aside)
        except OSError as error:
            raise UserError(f"{folder} can't be moved to {aside}: {error.strerror}; move it away") from None
        print(f"the checkpoints of an older training are now in {aside}", file=sys.stderr)
