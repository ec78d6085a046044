"""Train a network and test its best epoch, in one call: for search tools, notebooks, and the command line."""

import copy
import re
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn.parameter import is_lazy

from snn import checkpoint, experiments
from snn.base import process, ranks
from snn.base.drawn import drawn_apart, seed
from snn.base.errors import UserError, UserValueError
from snn.base.output import note, quiet, say
from snn.checkpoint import transfer
from snn.config import check, resolve, shared
from snn.config.sources import settings_in
from snn.data import datasets
from snn.layers.start import initialize
from snn.layers.synapses import coefficient_names
from snn.look import inspection
from snn.look.health import filters_in
from snn.run import folders
from snn.run.passes import Result, data_generator
from snn.run.step import evaluate
from snn.run.trainer import Trainer
from snn.tasks import answers
from snn.tasks.default import task_for


class Run(NamedTuple):
    """A training that has ended."""

    metrics: list  # the rows of metrics.csv, a dict for each epoch
    best: dict  # the row of the epoch that was best on dev
    net: torch.nn.Module  # with that epoch's weights, in eval mode
    folder: Path | None  # runs/<experiment_name>/<time>; None on ranks other than 0
    config: dict  # all of it
    learns: bool  # False if the last epochs were no better on dev than a network without spikes
    test: Result | None  # of that network on the test split; None if it was not tested


def train(network, config=None, task=None, splits=None, on_epoch=None, test=True, verbose=False, dataset=None):
    """Train a network as `--train` does, and return a Run: `snn.train("snn_mlp_1", {"dataset": {"name": "digits"}})`.

    It leaves the files that `--train` leaves, and prints only notes, on stderr, unless `verbose`. It may run in any
    thread; runs at the same time in one process share torch's random numbers, and are not reproducible.

    Args:
        network: the name of an experiment that ships; or a function from a config to a new network. One that is not
            new goes on from its weights, and what was frozen in it stays so.
        config: what differs from the experiment's config, or, for a function, from the defaults: a dict, nested as in
            a YAML, or the path of a YAML. One that `snn.config.resolve` has returned differs in nothing.
        task: what the network is trained for, a `snn.tasks.base.Task`; None: the experiment's, or else the
            task that its data needs.
        splits: "train", "dev" and "test", each a `snn.data.base.Split` on the config's device, in place of its dataset.
            A dataset module of your own is known to configs after `snn.data.datasets.add(module)`.
        on_epoch: called after each epoch with its row of metrics.csv, a dict. If it returns True, that epoch is the
            last; what it raises ends the run, whose last checkpoint is complete. What it draws from torch is the same
            in each run of this seed, and changes nothing in the run.
        test: whether to test the best epoch.
        verbose: print what `--train` prints meanwhile.
        dataset: in place of the config's: what `snn.data.series.from_arrays` returns.
    Raises UserError for a mistake that the user can fix, `snn.Stopped` after SIGINT, SIGTERM or SIGHUP in the first
    thread, and `snn.base.ranks.LostRank`.
    """
    process.tune()
    with nullcontext() if verbose else quiet(), ranks.started():
        config = _naming(dataset, config) if dataset else config
        if isinstance(network, str):
            script = experiments.find(network)
            if script is None:
                names = ", ".join(experiments.NAMES)
                raise UserError(f"no experiment {network!r:.50} ships: pass a function from a config, or {names}")
            settings = resolve(experiments.config_file(network), config, warn=note)
            network, task = script.network, task or getattr(script, "task", None)
        else:
            settings = resolve(config or {}, warn=note)
        with drawn_apart(find_device(settings["device"])):  # a search draws its next trial from torch too
            experiment = Experiment(network, settings, task, splits, dataset=dataset)

            def watch(row):
                with drawn_apart(experiment.device, settings["pytorch_seed"] + row["epoch"]):
                    return on_epoch(row)

            return experiment.train(on_epoch=on_epoch and watch, test=test)


def _naming(dataset, config):
    """Return the settings of a config, with the name of a dataset."""
    settings, _ = settings_in(config or {})
    group = settings.setdefault("dataset", {})
    if isinstance(group, dict):  # resolve says what it should be
        group["name"] = dataset.NAMES[0]
    return settings


class Experiment:
    """A network, what it is trained for, and its data, ready to be trained and tested.

    Args:
        network: from a config to the network.
        config: the resolved config; its attribute also holds what was measured of the dataset.
        task: a `snn.tasks.base.Task`; None takes the task that its data needs.
        splits: in place of those of the config's dataset.
        saved, source: a checkpoint whose weights the network gets, and its path.
        dataset: in place of the config's.
    """

    def __init__(self, network, config, task, splits=None, saved=None, source=None, dataset=None):
        if isinstance(task, type):
            raise UserError(f"task: pass an object, {task.__name__}(), not the class")
        self.network, self.task = network, (task or task_for(config, dataset)).of(config)
        self.device = find_device(config["device"])
        if config["precision"] == "tf32" and self.device.type == "cpu":
            note("precision tf32 is for CUDA: products run in float32")
        batch_size = config["hyperparameters"]["batch_size"]
        if batch_size < ranks.ranks():
            raise UserError(
                f"hyperparameters.batch_size: {batch_size} samples can't be shared by {ranks.ranks()} ranks"
            )
        ranks.check_same(shared(config))
        seed(self.device, config["pytorch_seed"])
        self.config = check(datasets.measured(config, dataset))
        self.net = self._made().to(self.device)
        own = getattr(self.net, "config", None)  # which a module of your own may use
        if own is None or isinstance(own, dict) and own.keys() <= {*self.config, "measured"}:
            self.net.config = self.config  # as `snn.load` does
        self.source, self.epoch = source, None  # of the weights: a checkpoint and its epoch
        self.start = None  # the weights that it starts training from
        if saved:
            checkpoint.load_model(self.net, saved, source)
            self.epoch = saved.get("epoch", "unknown")
        else:
            if config["init_from"]:
                transfer.start_from(self.net, config["init_from"], self.config)
            self.start = {name: value.clone() for name, value in self.net.state_dict().items()}
        if ranks.rank():  # the ranks share the network, but not its dropout
            seed(self.device, ranks.own_seed(config["pytorch_seed"]))
        if splits:
            self.splits, self.note = datasets.checked(splits, "of your own"), ""  # for the end of the test line
            return
        with ranks.one_first():
            shape = getattr(self.net, "input_shape", None)
            self.splits, self.note = datasets.load(self.config, self.device, shape, dataset)

    def _made(self):
        """Return a new network, as it is before training."""
        p = self.config["hyperparameters"]
        try:
            net = self.network(self.config)
        except ValueError as error:  # of a layer, which says what it needs
            raise UserValueError(f"the network of this config can't be made: {error}") from error
        if not isinstance(net, torch.nn.Module):
            raise UserError(f"network(config) must return a torch.nn.Module, not {type(net).__name__}")
        if any(map(is_lazy, net.parameters())):
            raise UserError(
                "the network has lazy modules, whose sizes are not known yet: call it in network(config) once, such as "
                "net(torch.zeros(1, 1, 784)), before it is returned"
            )
        initialize(net, p)
        fixed = set() if p["train_coefficients"] else coefficient_names(net)
        for name, parameter in net.named_parameters():
            if name in fixed or _is_bias(name) and not p["train_bias"]:
                parameter.requires_grad_(False)
        return net

    def train(self, resume_from=None, on_epoch=None, test=True, inspect=None, aside=()):
        """Train, from a checkpoint on if there is one, and return a Run.

        `inspect` is as in `test`, `aside` as for `Trainer`.
        """
        trainer = Trainer(self.net, self.splits, self.config, self.task, resume_from, aside)
        name, done, p = self.config["experiment_name"], len(trainer.history), self.config["hyperparameters"]
        sizes = ", ".join(f"{len(split) // split.repeats} {part}" for part, split in self.splits.items())
        count = ranks.ranks()
        sharing = f"; {count} ranks share every batch of {p['batch_size']}" if count > 1 else ""
        say(f"{name} on {self.device}: {sizes}{sharing}")
        of_train, filters = self.splits["train"], filters_in(self.net)
        times = f", each sample {of_train.repeats} times" if of_train.repeats > 1 else ""
        if done >= p["epoch"]:
            say(f"{name} is finished: all {done} epochs are done; --set hyperparameters.epoch=N trains longer")
        else:
            say(
                f"{p['epoch']} epochs of {-(-len(of_train) // p['batch_size']):,} batches{times}; "
                f"{of_train.length or p['length']:,} time steps" + (f"; {filters}" if filters else "")
            )
        trainer.fit(on_epoch)
        folder, best, result = trainer.run_folder, trainer.best, None
        is_saved = self.config["save_checkpoint"]
        self.source = trainer.folder / "best.pt" if is_saved else "none (save_checkpoint is false)"
        self.epoch = best["epoch"]
        if test:
            result, folder = self.test(inspect, folder)
        if ranks.rank() == 0 and not trainer.is_recorded:
            folders.write_result(folder, name, self.splits, self.device, count, best["epoch"], self.task, result)
        return Run(trainer.history, best, self.net.eval(), folder, self.config, trainer.learns(), result)

    def test(self, inspect=None, run_folder=None):
        """Test, with the task's report; return the Result and the run folder.

        With the command that asked for them as `inspect`, the pictures of --inspect and their page are made too.
        """
        test, task = partial(evaluate, self.net, self.splits["test"], self.config), self.task
        if ranks.rank() or not (inspect or task.reports or task.classifies):
            return test(task), run_folder
        run_folder = run_folder or folders.new_run_folder(self.config["experiment_name"])
        result = self._reported(test, inspect, run_folder) if inspect or task.reports else test(task)
        if found := result.answers:
            names = datasets.class_names(self.config, found.scores.shape[1])
            answers.write(found, names, run_folder, self.task.counts)
        return result, run_folder

    def _untrained(self):
        """Return a network whose filters are as before training, for pictures."""
        with drawn_apart(self.device, self.config["pytorch_seed"]):  # as before training
            net = self.network(self.config).to(self.device)
        net = copy.deepcopy(net) if net is self.net else net  # of a function that always returns the same
        if self.start:
            net.load_state_dict(self.start, strict=False)  # a buffer may be of its first forward
        elif self.config["init_from"]:
            try:
                with quiet(notes=False):
                    transfer.start_from(net, self.config["init_from"])
            except UserError as error:
                note(f"pictures show filters before training as if they had not started from another network: {error}")
        return net

    def _reported(self, test, inspect, run_folder):
        """Test with the task's report, and with pictures as in `test`; return the Result."""
        untrained = self._untrained()
        generator = partial(data_generator, self.device, self.config)
        try:
            seen = inspection.view(self.net, untrained, self.splits["test"], self.config, generator, test)
        except Exception as error:  # samples of one's own may be such that some can't be taken out
            note(f"no pictures: {' '.join(str(error).split())}")
            return test(self.task)
        if inspect:
            origin = {"checkpoint": f"{self.source}, epoch {self.epoch}", "command": inspect}
            result = inspection.inspect(seen, self.task, run_folder, origin)
            say(f"look at {run_folder / 'index.html'}")
            return result
        result = test(self.task)
        inspection.report(seen, self.task, run_folder)
        return result


def _is_bias(name):
    """Whether a parameter of this name is a bias, such as `0.bias`, `bias_ih_l0` of torch's GRU, or parametrized."""
    own = re.search(r"(?:^|\.)parametrizations\.([^.]+)\.|([^.]+)$", name)
    return "bias" in (own[1] or own[2]).split("_")


def find_device(name):
    """Return the torch.device for `auto` (CUDA if there is one), `cpu`, `cuda` or `cuda:1`.

    Raises UserError for any other name, and for a device that is missing.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    name = ranks.device_of_rank(name)
    match = re.fullmatch(r"cpu|cuda(?::(\d+))?", name)
    if not match:
        raise UserError(f"device {name}: use auto, cpu, cuda or cuda:<number>")
    count = torch.cuda.device_count()
    if name != "cpu" and int(match[1] or 0) >= count:
        raise UserError(
            f"device {name} is missing: torch {torch.__version__} sees {count} CUDA devices; use --device cpu"
        )
    device = torch.device(name)
    if match[1]:
        torch.cuda.set_device(device)
    return device
