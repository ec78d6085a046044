"""The command line that every experiment's script shares."""

import argparse
import json
import platform
import re
import shlex
import sys
from pathlib import Path

import numpy
import torch

from snn import checkpoint, config
from snn.base import ranks
from snn.base.errors import UserError
from snn.base.files import shipped, written_beside
from snn.base.memory import keep_freed_memory
from snn.run import loop, training

CONFIGS = shipped("configs")
WEIGHTS = shipped("weights")


def main(experiment, network, data, task=loop.CLASSIFICATION, report=None, argv=None):
    """Run an experiment as its command line says.

    Args:
        experiment: name of the experiment, of its script and of its YAML in configs/.
        network: from a config to the network.
        data: from a config and a device to (splits by name, note behind a test result).
        task: what the network is trained for.
        report: called with the tested network, the splits, the config and the run's folder, leaves pictures there and
            gives their captions by name; None reports nothing more.
        argv: the command line's words; None takes the process's own.
    Exits with status 2 after one line on a mistake that the user can mend, 1 where another rank is lost, and 130 or 143
    where SIGINT or SIGTERM stopped it.
    """
    args = _parse(experiment, argv)
    try:
        with ranks.started():
            _run(experiment, network, data, task, report, args)
    except UserError as error:
        sys.exit(_complain(error))
    except ranks.LostRank as error:
        _complain(f"{error}: what it says stands above or below; {_how_to_go_on(args)}")
        sys.exit(1)
    except training.Stopped as stop:
        if ranks.rank() == 0:
            print(f"stopped at {stop.where}{'; ' + _how_to_go_on(args) if stop.saved else ''}", file=sys.stderr)
        sys.exit(128 + stop.number)
    except KeyboardInterrupt:
        print("\ninterrupted; --train --resume goes on from the last checkpoint of a training", file=sys.stderr)
        sys.exit(130)


def _how_to_go_on(args):
    words = [*args.words, *(["--resume"] if args.train and not args.resume else [])]
    started = "the same torchrun and" if ranks.launched() else "python"
    return f"to go on: {started} {shlex.join([sys.argv[0], *words])}"


def _run(experiment, network, data, task, report, args):
    settings = config.resolve(CONFIGS / f"{experiment}.yaml", args.config_file, args.demo, args.set, _note)
    name = settings["experiment_name"]
    folder = Path(settings["checkpoint_base_path"]) / name
    device = find_device(args.device or settings["device"])
    batch_size = settings["hyperparameters"]["batch_size"]
    if ranks.ranks() > 1 and args.inspect:
        raise UserError("--inspect looks at a network in one process: leave out torchrun")
    if batch_size < ranks.ranks():
        raise UserError(f"hyperparameters.batch_size: {batch_size} samples can't be shared by {ranks.ranks()} ranks")

    source = saved = None
    if args.resume:
        saved, source = checkpoint.load_to_resume(folder, name, _note)
        config.check_resumed(settings, saved["config"], len(saved["history"]), _note)
    elif not args.train:
        source = args.checkpoint or settings["test_checkpoint_path"] or _own_or_shipped(folder)
        saved = checkpoint.load(source, name)
        if "config" in saved:
            settings = config.follow_checkpoint(settings, saved["config"], args.set, _note)

    keep_freed_memory()
    torch.manual_seed(settings["pytorch_seed"])
    net = network(settings).to(device)
    if not settings["hyperparameters"]["train_bias"]:
        for parameter_name, parameter in net.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and not parameter_name.endswith("bias"))
    if saved:
        checkpoint.load_model(net, saved, source)
    if ranks.rank():  # the network is the same, its dropout is not
        torch.manual_seed(ranks.own_seed(settings["pytorch_seed"]))
    with ranks.one_first():
        splits, note = data(settings, device)

    run_folder = None
    if args.train:
        shared = f"; {ranks.ranks()} ranks share every batch of {batch_size}" if ranks.ranks() > 1 else ""
        print(f"{name} on {device}: " + ", ".join(f"{len(split)} {part}" for part, split in splits.items()) + shared)
        if saved and len(saved["history"]) >= settings["hyperparameters"]["epoch"]:
            print(f"{name} is finished: all {len(saved['history'])} epochs are done")
        trainer = training.Trainer(net, splits, settings, task, resume_from=saved)
        trainer.fit()
        run_folder = trainer.run_folder
    if run_folder is None and ranks.rank() == 0 and (args.inspect or report):
        run_folder = training.new_run_folder(name)
    if args.inspect:
        from snn.look import inspection  # imports matplotlib, which takes a second

        result = inspection.inspect(net, network(settings), splits, settings, task, run_folder, report)
        print(f"look at {run_folder / 'index.html'}")
    else:
        result = training.test(net, splits["test"], settings, task)
        if report and ranks.rank() == 0:
            report(net, splits, settings, run_folder)
    if args.train:
        best = trainer.best
        if ranks.rank() == 0:
            _write_result(run_folder, settings, splits, device, best["epoch"], result, task)
        scores = (
            f"train {best['train_acc']:.2f} %, dev {best['dev_acc']:.2f} %, test {result.accuracy:.2f} %"
            if task.correct
            else f"train loss {best['train_loss']:.5f}, dev loss {best['dev_loss']:.5f}, test loss {result.loss:.5f}"
        )
        print(f"best epoch {best['epoch']}: {scores}")
        print(f"checkpoint: {folder / 'best.pt' if settings['save_checkpoint'] else 'none (save_checkpoint is false)'}")
    if run_folder:
        print(f"run folder: {run_folder}")
    score = (
        f"test accuracy: {result.accuracy:.2f} % ({result.correct}/{result.total})"
        if task.correct
        else f"test loss: {result.loss:.5f}"
    )
    print(score + (f", {note}" if note else ""))


def _own_or_shipped(folder):
    """The experiment's own best epoch, or the weights that ship with the project where there is none."""
    own, shipped = folder / "best.pt", WEIGHTS / f"{folder.name}.pt"
    if own.exists() or not shipped.exists():
        return own
    _note(f"there is no {own}: this evaluates {shipped}, which ships; results/{folder.name} says how it was trained")
    return shipped


def _write_result(folder, settings, splits, device, best_epoch, result, task):
    """result.json in the run's folder: what `snn.report` needs beside the metrics."""
    threads = torch.get_num_threads()
    cpu = f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    shared = f", {ranks.ranks()} ranks" if ranks.ranks() > 1 else ""
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    values = {
        "experiment": settings["experiment_name"],
        "best_epoch": best_epoch,
        "test": result.accuracy if task.correct else result.loss,
        "samples": {name: len(split) for name, split in splits.items()},
        "on": f"torch {torch.__version__}, {hardware}{shared}",
        "python": platform.python_version(),
        "numpy": numpy.__version__,
    }
    with written_beside(folder / "result.json") as file:
        file.write(json.dumps(values, indent=2).encode() + b"\n")


def find_device(name):
    """The torch.device of `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:1`.

    Raises UserError for another name, and for a device that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    name = ranks.device_of_rank(name)
    match = re.fullmatch(r"cpu|cuda(?::(\d+))?", name)
    if not match:
        raise UserError(f"device {name}: use auto, cpu, cuda or cuda:<number>")
    count = torch.cuda.device_count()
    if name != "cpu" and int(match[1] or 0) >= count:
        raise UserError(f"device {name} is not there: torch {torch.__version__} sees {count} of CUDA; use --device cpu")
    device = torch.device(name)
    if match[1]:
        torch.cuda.set_device(device)
    return device


def _parse(experiment, argv):
    parser = _Parser(
        prog=f"{experiment}.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=sys.modules["__main__"].__doc__,
    )
    add = parser.add_argument
    add("--train", action="store_true", help="train, keep the best epoch on dev, and test that one")
    add("--test", action="store_true", help="evaluate a checkpoint on the test set")
    add("--inspect", action="store_true", help="evaluate as --test does, and leave pictures of the network at work")
    add("--demo", action="store_true", help="embedded data, a few epochs; alone it means --demo --train")
    add("--config_file", metavar="F", help=f"a YAML laid over configs/{experiment}.yaml, key by key")
    add("--set", metavar="KEY=VALUE", action="append", default=[], help="override one key: hyperparameters.epoch=1")
    add("--resume", action="store_true", help="with --train: go on from this experiment's newest checkpoint")
    add(
        "--checkpoint",
        metavar="F",
        help="what --test and --inspect evaluate, instead of this experiment's best epoch",
    )
    add("--device", metavar="D", help="auto (the default), cpu, cuda or cuda:1")
    args = parser.parse_args(argv)
    args.words = sys.argv[1:] if argv is None else argv
    if args.demo and not (args.test or args.inspect):
        args.train = True
    if not (args.train or args.test or args.inspect):
        parser.print_help(sys.stderr)
        parser.error("nothing to do: give --train, --test, --inspect or --demo")
    if args.resume and not args.train:
        parser.error("--resume goes on with a training: give --train too")
    if args.checkpoint and args.train:
        parser.error("--checkpoint is what --test evaluates; --train tests its own best epoch: leave one out")
    return args


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        sys.exit(_complain(f"{message} (--help shows what there is)"))


def _complain(message):
    rank = f"rank {ranks.rank()}: " if ranks.rank() else ""
    print(f"error: {rank}{message}", file=sys.stderr)
    return 2


def _note(message):
    if ranks.rank() == 0:
        print(f"note: {message}", file=sys.stderr)
