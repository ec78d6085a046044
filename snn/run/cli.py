"""The command line that every experiment's script shares."""

import argparse
import math
import os
import shlex
import sys
from pathlib import Path
from statistics import mean, stdev

import torch

from snn import checkpoint, config, experiments
from snn.base import process, ranks
from snn.base.errors import UserError, as_mistake
from snn.base.files import shipped
from snn.base.output import lasting, note, quiet, say
from snn.checkpoint.trained import trained_network
from snn.data import datasets
from snn.run import folders, predict
from snn.run.signals import Stopped
from snn.run.train import Experiment

WEIGHTS = shipped("weights")
KEPT = "the last checkpoint, if there is one, is whole"


def main(experiment, network, task=None, dataset=None, config_file=None, argv=None):
    """Run an experiment with its command line.

    Args:
        experiment: name of the experiment, of its script and of its YAML in configs/.
        network: from a config to a new network.
        task: what the network is trained for, a `snn.tasks.base.Task`; None: the task that its data needs.
        dataset: a module as `snn.data.base` describes it, for data that is not in `snn.data`.
        config_file: the experiment's YAML, from the script's folder, if it is not in configs/.
        argv: the command line's words; None takes those of the process.
    It may run in any thread; in the first one, signals end it well.
    Exits with status 2 after one line on a mistake that the user can fix, 1 if another rank is lost, or the output of
    anything but --train, and 128 plus the signal's number if SIGINT, SIGTERM or SIGHUP stopped it.
    """
    process.tune()
    os.environ["MPLBACKEND"] = "Agg"  # a script shows no windows, and the backend of a notebook may not be there
    own_config = experiments.config_file(experiment)
    if config_file:
        script = getattr(sys.modules["__main__"], "__file__", "")  # a notebook, or python -c, has none
        own_config = Path(script).parent / config_file
    with lasting() as output:
        args = _parse(experiment, own_config, argv)
        try:
            if dataset:
                datasets.add(dataset)
            with ranks.started():
                run = _run_seeds if args.seeds and not args.show else _run
                run(own_config, network, task, args)
            output.flush()
            if output.lost and not args.train:  # a training's result is in its run folder too
                _complain(f"the result can't be written to standard output: {output.lost}")
                sys.exit(1)
        except (UserError, PermissionError) as error:
            sys.exit(_complain(as_mistake(error)))
        except ranks.LostRank as error:
            _complain(f"{error}: see its own message, above or below; {_how_to_go_on(args)}")
            sys.stdout.flush()
            os._exit(1)  # NCCL's shutdown would wait for that rank
        except Stopped as stop:
            if ranks.rank() == 0:
                print(f"stopped at {stop.where}{'; ' + _how_to_go_on(args) if stop.saved else ''}", file=sys.stderr)
            sys.exit(128 + stop.number)
        except KeyboardInterrupt:
            kept = f"; {KEPT}" if args.train else ""
            print(f"\ninterrupted{kept}", file=sys.stderr)
            sys.exit(130)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            lower = "set hyperparameters.batch_size or hyperparameters.length lower, or "
            lower += "hyperparameters.chunk=auto" if args.train else "make the network smaller"
            kept = f"; {KEPT}" if args.train else ""
            sys.exit(_complain(f"out of memory: {lower}{kept}"))


def _is_out_of_memory(error):
    """Whether it is Python's or torch's error for that; torch's allocator on the CPU has no class of its own."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def _how_to_go_on(args):
    words = [*args.words, *(["--resume"] if args.train and not args.resume else [])]
    started = "the same torchrun and" if ranks.launched() else "python"
    return f"to resume: {started} {shlex.join([sys.argv[0], *words])}"


def _run_seeds(own_config, network, task, args):
    """Train or test once for each seed, with checkpoints in a folder of its own, and print mean and deviation."""
    settings, figures = config.resolve(own_config, args.config_file, args.demo, args.set, lambda _: None), []
    first, base = settings["pytorch_seed"], Path(settings["checkpoint_base_path"])
    kept = {n: base / f"seed_{n}" / settings["experiment_name"] for n in range(first, first + args.seeds)}
    config_of_first = None
    aside = []  # with those of the first seed, when it first saves: --resume would take what older runs left for these'
    if args.train and settings["save_checkpoint"] and not args.resume:
        aside = list(kept.values())[1:]
    for folder in aside if ranks.rank() == 0 else ():
        with folders.owned_by_a_run(folder):  # or say now that another run is at work there
            pass
    own = {n: _args_of_seed(own_config, args, n, folder, n == first) for n, folder in kept.items()}
    for n, folder in kept.items():
        say(f"seed {n}, {n + 1 - first} of {args.seeds}")
        of_seed, ready, trained = _run(own_config, network, task, own[n], aside)
        aside, config_of_first = [], config_of_first or trained
        if differing := config.changed(trained, config_of_first):
            note(f"{folder} is of another run than the seeds before: it has {', '.join(differing)}")
        figures.append(of_seed)
    print(", ".join(filter(None, [_mean_and_deviation(ready.task, figures), ready.note])))


def _args_of_seed(own_config, args, n, folder, is_first):
    """Return the command line of one of several seeds; raise UserError now if it can't resume, not after the others."""
    of_seed = {
        "set": [*args.set, f"pytorch_seed={n}", f"checkpoint_base_path={folder.parent}"],
        "resume": args.resume and (is_first or checkpoint.is_resumable(folder)),  # later ones may not have begun
        "checkpoint": folder / "best.pt" if args.test_only else None,
    }
    own = argparse.Namespace(**vars(args) | of_seed)
    if own.resume and not is_first:
        try:
            with quiet(notes=False):
                _settings(own_config, own)
        except UserError as error:
            raise UserError(f"seed {n}: {error}; or move {folder} away, if it is of an older run") from None
    return own


def _mean_and_deviation(task, figures):
    """Return the text for the end of several runs; `figures` are, of each, the metric by part of the data."""
    by_part = {part: [of_run[part] for of_run in figures] for part in figures[0]}
    means = [
        f"{part} {task.text(mean(values))}" + (f" ± {stdev(values):.2g}" if all(map(math.isfinite, values)) else "")
        for part, values in by_part.items()
    ]
    return f"{len(figures)} seeds: {', '.join(means)}"


def _run(own_config, network, task, args, aside=()):
    """Train or test; return the task's metric by part of the data, the Experiment, and the config that trained it.

    With --show and --predict nothing. `aside` as for `Trainer`.
    """
    settings, sources, saved, source = _settings(own_config, args)
    if args.show:
        print(config.as_yaml(settings, sources), end="")
        return None
    if ranks.ranks() > 1 and (args.inspect or args.predict):
        raise UserError("--inspect and --predict run in one process: leave out torchrun")
    if args.predict:
        net = trained_network(saved, settings, source, network)
        predictor = predict.Predictor(net, task=task, device=settings["device"])
        others = [file for file in (source, own_config, args.config_file) if file]
        print(predict.write(predictor, args.predict, args.out, others))
        return None
    ready = Experiment(network, settings, task, saved=saved, source=source)
    words = {f"--{word}": vars(args)[word] for word in ("train", "inspect", "resume", "seeds")}
    ranks.check_same(words | {"epochs done": len(saved["history"]) if args.resume else 0})
    command = f"python {shlex.join([sys.argv[0], *args.words])}" if args.inspect else None
    if args.train:
        return _print_training(ready, ready.train(saved, inspect=command, aside=aside)), ready, ready.config
    result, run_folder = ready.test(command)
    _print_test(ready, result, run_folder)
    return {"test": ready.task.value(result)}, ready, saved.get("config", settings)


def _settings(own_config, args):
    """Return the run's config, the source of each of its values, and the checkpoint that it starts from and its path.

    There is none for a new training, and with --show alone.
    """
    sources, saved, source = {}, None, None
    settings = config.resolve(own_config, args.config_file, args.demo, args.set, note, sources)
    for option in ("device", "init_from", "freeze"):
        if value := getattr(args, option):
            settings[option], sources[option] = value, f"--{option}"
    settings = config.check(settings, sources=sources)
    name = settings["experiment_name"]
    folder = Path(settings["checkpoint_base_path"]) / name
    if args.resume:
        saved, source = checkpoint.load_to_resume(folder, name, note)
        settings = config.check_resumed(settings, saved["config"], len(saved["history"]), note)
    elif args.test_only or args.predict:
        source = args.checkpoint or settings["test_checkpoint_path"] or _own_or_shipped(folder)
        saved = checkpoint.load(source, name)
        if "config" in saved:
            saved["config"] = _measured_as_then(saved["config"], settings)
            settings = config.follow_checkpoint(settings, saved["config"], args.set, note, sources, bool(args.predict))
            if sources.get("init_from") != "--set":  # pictures show filters before training too
                settings["init_from"] = saved["config"].get("init_from", "")
    config.note_unread(settings, sources, note)
    return settings, sources, saved, source


def _print_training(ready, run):
    """Print a training's result; return its figures by part of the data."""
    figures = {part: run.best[f"{part}_{ready.task.metric}"] for part in ("train", "dev")}
    figures["test"] = ready.task.value(run.test)
    scores = ", ".join(f"{part} {ready.task.text(value)}" for part, value in figures.items())
    best = f"best epoch {run.best['epoch']}: {scores}\ncheckpoint: {ready.source}\n"
    _print_test(ready, run.test, run.folder, best, "" if run.learns else "no better than without spikes")
    return figures


def _print_test(ready, result, run_folder, best="", blame=""):
    """Print a test's result, its last line for programs to read; `best` and `blame` are of the training before it."""
    if result.ties:
        decided = "the potential decides" if ready.config["ties"] == "potential" else "the first is the answer"
        print(f"ties: in {result.ties} of {result.total} test samples several classes have the most spikes; {decided}")
    print(best, end="")
    if run_folder:
        print(f"run folder: {run_folder}")
    print(", ".join(filter(None, [ready.task.test_line(result), ready.note, blame])))


def _measured_as_then(saved, settings):
    """Return a checkpoint's config with what its run measured; one from before it was kept measures once more."""
    root = {key: value for key, value in settings["dataset"].items() if key == "root"}
    return saved | datasets.measured(saved | {"dataset": saved["dataset"] | root})


def _own_or_shipped(folder):
    """Return the experiment's own best epoch, or the weights that ship with the project if there is none."""
    own, shipped = folder / "best.pt", WEIGHTS / f"{folder.name}.pt"
    if own.exists() or not shipped.exists():
        return own
    note(f"there is no {own}: evaluating {shipped}, which ships; results/{folder.name} says how it was trained")
    return shipped


def _parse(experiment, own_config, argv):
    parser = _Parser(
        prog=f"{experiment}.py",
        allow_abbrev=False,  # --seed 5 would be --seeds 5
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=sys.modules["__main__"].__doc__,
    )
    add = parser.add_argument
    add("--train", action="store_true", help="train, keep the best epoch, and test it")
    add("--test", action="store_true", help="evaluate a checkpoint on the test set; answers go to its run folder")
    add("--inspect", action="store_true", help="evaluate as --test does, and save pictures of the network at work")
    add("--predict", metavar="F", help="write a checkpoint's answers to the samples in a file to --out")
    add("--out", metavar="F", help="the CSV file for --predict; a file that is there is replaced")
    add("--demo", action="store_true", help="data that ships or is simulated, few epochs; with --test: an old demo")
    add("--show", action="store_true", help="print every config key with its value, help and source")
    add("--config_file", metavar="F", help=f"a YAML overlay: its keys override those of {own_config.name}")
    add(
        "--set",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="override keys: hyperparameters.epoch=1 precision=bf16",
    )
    add("--resume", action="store_true", help="with --train: continue from this experiment's newest checkpoint")
    add(
        "--checkpoint",
        metavar="F",
        help="checkpoint for --test, --inspect and --predict, instead of this experiment's best epoch",
    )
    add("--seeds", metavar="N", type=int, help="a run for each of N seeds, from pytorch_seed on; mean and deviation")
    add("--init_from", metavar="F", help="a checkpoint, or weights that ship: layers that fit start from it")
    add("--freeze", metavar="A,B", help="layers that are not trained, such as 0,1 or 'synapses 1,Linear 1'")
    add("--device", metavar="D", help="auto (the default), cpu, cuda or cuda:1")
    args = parser.parse_args(argv)
    args.words = sys.argv[1:] if argv is None else argv
    if args.demo and not (args.test or args.show or args.predict or (args.inspect and args.checkpoint)):
        args.train = True
    args.test_only = (args.test or args.inspect) and not args.train
    if "" in vars(args).values():
        parser.error("an option has an empty value: give it one, or leave it out")
    if args.resume and not args.train:
        parser.error("--resume continues a run: add --train")
    if bool(args.predict) != bool(args.out):
        parser.error("--predict takes the file to predict, and --out the file for the answers: give both, or none")
    if args.predict and (args.train or args.test or args.inspect):
        parser.error("--predict needs a trained network, and tests none: leave out --train, --test and --inspect")
    if not (args.train or args.test or args.inspect or args.predict or args.show):
        parser.print_help(sys.stderr)
        parser.error("nothing to do: add --train, --test, --inspect, --predict, --show or --demo")
    if (args.test_only or args.predict) and (args.init_from or args.freeze):
        parser.error("--init_from and --freeze are for a training: add --train, or leave them out")
    if args.seeds is not None and not 2 <= args.seeds <= 1000:
        parser.error(f"--seeds {args.seeds}: use a number from 2 to 1000")
    if args.seeds and (args.checkpoint or args.predict):
        parser.error("--seeds tests the checkpoints of its own runs: leave out --checkpoint and --predict, or --seeds")
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
