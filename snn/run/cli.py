"""The command line that every experiment's script shares."""

import argparse
import os
import re
import shlex
import sys
from pathlib import Path

import torch
from torch.nn.parameter import is_lazy

from snn import checkpoint, config
from snn.base import process, ranks
from snn.base.errors import UserError
from snn.base.files import shipped
from snn.base.output import lasting
from snn.data import datasets
from snn.layers.start import initialize
from snn.look import inspection
from snn.run import folders, loop
from snn.run.signals import Stopped
from snn.run.training import Trainer
from snn.tasks.classification import Classification

CONFIGS = shipped("configs")
WEIGHTS = shipped("weights")


def main(experiment, network, task=None, dataset=None, config_file=None, argv=None):
    """Run an experiment with its command line.

    Args:
        experiment: name of the experiment, of its script and of its YAML in configs/.
        network: from a config to the network.
        task: what the network is trained for, a `snn.tasks.base.Task`; None means Classification.
        dataset: a module as `snn.data.base` describes it, for data that is not in `snn.data`.
        config_file: the experiment's YAML, from the script's folder, if it is not in configs/.
        argv: the command line's words; None takes those of the process.
    It may run in any thread; in the first one, signals end it well.
    Exits with status 2 after one line on a mistake that the user can fix, 1 if another rank or the output of --test is
    lost, and 128 plus the signal's number if SIGINT, SIGTERM or SIGHUP stopped it.
    """
    process.tune()
    os.environ["MPLBACKEND"] = "Agg"  # a script shows no windows, and the backend of a notebook may not be there
    own_config = CONFIGS / f"{experiment}.yaml"
    if config_file:
        script = getattr(sys.modules["__main__"], "__file__", "")  # a notebook, or python -c, has none
        own_config = Path(script).parent / config_file
    with lasting() as output:
        args = _parse(experiment, own_config, argv)
        try:
            if dataset:
                datasets.add(dataset)
            with ranks.started():
                _run(own_config, network, task or Classification(), args)
            output.flush()
            if output.lost and not args.train:  # a training's result is in its run folder too
                _complain(f"the result can't be written to standard output: {output.lost}")
                sys.exit(1)
        except UserError as error:
            sys.exit(_complain(error))
        except ranks.LostRank as error:
            _complain(f"{error}: see its own message, above or below; {_how_to_go_on(args)}")
            sys.stdout.flush()
            os._exit(1)  # NCCL's shutdown would wait for that rank
        except Stopped as stop:
            if ranks.rank() == 0:
                print(f"stopped at {stop.where}{'; ' + _how_to_go_on(args) if stop.saved else ''}", file=sys.stderr)
            sys.exit(128 + stop.number)
        except KeyboardInterrupt:
            print("\ninterrupted; --train --resume continues a run from its last checkpoint", file=sys.stderr)
            sys.exit(130)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            lower = "set hyperparameters.batch_size or hyperparameters.length lower"
            sys.exit(_complain(f"out of memory: {lower}; the last checkpoint is whole"))


def _is_out_of_memory(error):
    """Whether it is Python's or torch's error for that; torch's allocator on the CPU has no class of its own."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def _how_to_go_on(args):
    words = [*args.words, *(["--resume"] if args.train and not args.resume else [])]
    started = "the same torchrun and" if ranks.launched() else "python"
    return f"to resume: {started} {shlex.join([sys.argv[0], *words])}"


def _run(own_config, network, task, args):
    sources = {}
    settings = config.resolve(own_config, args.config_file, args.demo, args.set, ranks.note, sources)
    if args.device:
        settings["device"], sources["device"] = args.device, "--device"
    name = settings["experiment_name"]
    folder = Path(settings["checkpoint_base_path"]) / name
    source = saved = None
    if args.resume:
        saved, source = checkpoint.load_to_resume(folder, name, ranks.note)
        settings = config.check_resumed(settings, saved["config"], len(saved["history"]), ranks.note)
    elif args.test_only:
        source = args.checkpoint or settings["test_checkpoint_path"] or _own_or_shipped(folder)
        saved = checkpoint.load(source, name)
        if "config" in saved:
            saved["config"] = _measured_as_then(saved["config"], settings)
            settings = config.follow_checkpoint(settings, saved["config"], args.set, ranks.note, sources)
    if args.show:
        print(config.as_yaml(settings, sources), end="")
        return

    device = find_device(settings["device"])
    if settings["precision"] == "tf32" and device.type == "cpu":
        ranks.note("precision tf32 is for CUDA: products run in float32")
    batch_size = settings["hyperparameters"]["batch_size"]
    if ranks.ranks() > 1 and args.inspect:
        raise UserError("--inspect runs in one process: leave out torchrun")
    if batch_size < ranks.ranks():
        raise UserError(f"hyperparameters.batch_size: {batch_size} samples can't be shared by {ranks.ranks()} ranks")
    words = {f"--{word}": value for word, value in vars(args).items() if word in ("train", "inspect", "resume")}
    epochs = {"epochs done": len(saved["history"]) if args.resume else 0}
    ranks.check_same(words | epochs | config.shared(settings))
    torch.manual_seed(settings["pytorch_seed"])
    settings = config.check(datasets.measured(settings))
    net = network(settings)
    if any(map(is_lazy, net.parameters())):
        raise UserError(
            "the network has lazy modules, whose sizes are not known yet: call it in network(config) once, such as "
            "net(torch.zeros(1, 1, 784)), before it is returned"
        )
    initialize(net, settings["hyperparameters"])
    net.to(device)
    if not settings["hyperparameters"]["train_bias"]:
        for parameter_name, parameter in net.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and not parameter_name.endswith("bias"))
    if saved:
        checkpoint.load_model(net, saved, source)
    if ranks.rank():  # the ranks share the network, but not its dropout
        torch.manual_seed(ranks.own_seed(settings["pytorch_seed"]))
    with ranks.one_first():
        splits, note = datasets.load(settings, device, getattr(net, "input_shape", None))

    run_folder = None
    if args.train:
        trainer = Trainer(net, splits, settings, task, resume_from=saved)
        _announce(trainer, device)
        trainer.fit()
        run_folder = trainer.run_folder
        source = folder / "best.pt" if settings["save_checkpoint"] else "none (save_checkpoint is false)"
        epoch = trainer.best["epoch"]
    else:
        epoch = saved.get("epoch", "unknown")
    origin = {"checkpoint": f"{source}, epoch {epoch}", "command": f"python {shlex.join([sys.argv[0], *args.words])}"}
    result, run_folder = _test(net, network, splits, settings, task, args.inspect and origin, run_folder)
    if args.train:
        best = trainer.best
        if ranks.rank() == 0:
            folders.write_result(run_folder, name, splits, device, best["epoch"], task.value(result), result.ties)
        figures = {part: best[f"{part}_{task.metric}"] for part in ("train", "dev")} | {"test": task.value(result)}
        scores = ", ".join(f"{part} {task.text(value)}" for part, value in figures.items())
        print(f"best epoch {best['epoch']}: {scores}")
        print(f"checkpoint: {source}")
    if run_folder:
        print(f"run folder: {run_folder}")
    if result.ties:
        decided = "the potential decides" if settings["ties"] == "potential" else "the first is the answer"
        print(f"ties: in {result.ties} of {result.total} test samples several classes have the most spikes; {decided}")
    if args.train and not trainer.learns():
        note = f"{note}, no better than without spikes".removeprefix(", ")
    print(task.test_line(result) + (f", {note}" if note else ""))


def _measured_as_then(saved, settings):
    """Return a checkpoint's config with what its run measured; one from before it was kept measures once more."""
    root = {key: value for key, value in settings["dataset"].items() if key == "root"}
    return saved | datasets.measured(saved | {"dataset": saved["dataset"] | root})


def _announce(trainer, device):
    settings, done = trainer.config, len(trainer.history)
    name, p = settings["experiment_name"], settings["hyperparameters"]
    shared = f"; {ranks.ranks()} ranks share every batch of {p['batch_size']}" if ranks.ranks() > 1 else ""
    sizes = ", ".join(f"{len(split)} {part}" for part, split in trainer.splits.items())
    print(f"{name} on {device}: {sizes}{shared}")
    if done >= p["epoch"]:
        print(f"{name} is finished: all {done} epochs are done; --set hyperparameters.epoch=N trains longer")


def _test(net, network, splits, settings, task, origin, run_folder):
    """Test the network, with the task's report; return the Result and the run folder.

    Where `origin` says what the network is from, the pictures of --inspect and their page are made too.
    """
    if ranks.rank() or not (origin or task.reports):
        return loop.test(net, splits["test"], settings, task), run_folder
    run_folder = run_folder or folders.new_run_folder(settings["experiment_name"])
    device = next(net.parameters()).device
    seen = inspection.view(
        net, network(settings).to(device), splits["test"], settings,
        generator=lambda: loop.data_generator(device, settings),
        test=lambda task: loop.test(net, splits["test"], settings, task),
    )  # fmt: skip
    if origin:
        result = inspection.inspect(seen, task, run_folder, origin)
        print(f"look at {run_folder / 'index.html'}")
        return result, run_folder
    result = seen.test(task)
    inspection.report(seen, task, run_folder)
    return result, run_folder


def _own_or_shipped(folder):
    """Return the experiment's own best epoch, or the weights that ship with the project if there is none."""
    own, shipped = folder / "best.pt", WEIGHTS / f"{folder.name}.pt"
    if own.exists() or not shipped.exists():
        return own
    ranks.note(f"there is no {own}: evaluating {shipped}, which ships; results/{folder.name} says how it was trained")
    return shipped


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


def _parse(experiment, own_config, argv):
    parser = _Parser(
        prog=f"{experiment}.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=sys.modules["__main__"].__doc__,
    )
    add = parser.add_argument
    add("--train", action="store_true", help="train, keep the best epoch, and test it")
    add("--test", action="store_true", help="evaluate a checkpoint on the test set")
    add("--inspect", action="store_true", help="evaluate as --test does, and save pictures of the network at work")
    add("--demo", action="store_true", help="embedded data, a few epochs; trains, unless --test evaluates an old demo")
    add("--show", action="store_true", help="print every config key with its value, help and source")
    add("--config_file", metavar="F", help=f"a YAML overlay: its keys override those of {own_config.name}")
    add("--set", metavar="KEY=VALUE", action="append", default=[], help="override one key: hyperparameters.epoch=1")
    add("--resume", action="store_true", help="with --train: continue from this experiment's newest checkpoint")
    add(
        "--checkpoint",
        metavar="F",
        help="checkpoint for --test and --inspect, instead of this experiment's best epoch",
    )
    add("--device", metavar="D", help="auto (the default), cpu, cuda or cuda:1")
    args = parser.parse_args(argv)
    args.words = sys.argv[1:] if argv is None else argv
    if args.demo and not (args.test or args.show or (args.inspect and args.checkpoint)):
        args.train = True
    args.test_only = (args.test or args.inspect) and not args.train
    if args.checkpoint == "" or args.config_file == "" or args.device == "":
        parser.error("an option has an empty value: give it one, or leave it out")
    if args.resume and not args.train:
        parser.error("--resume continues a run: add --train")
    if not (args.train or args.test or args.inspect or args.show):
        parser.print_help(sys.stderr)
        parser.error("nothing to do: add --train, --test, --inspect, --show or --demo")
    if args.checkpoint and args.train:
        parser.error("--checkpoint is for --test, and --train tests its own best epoch: leave one out")
    return args


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        sys.exit(_complain(f"{message} (--help lists the options)"))


def _complain(message):
    rank = f"rank {ranks.rank()}: " if ranks.rank() else ""
    print(f"error: {rank}{message}", file=sys.stderr)
    return 2
