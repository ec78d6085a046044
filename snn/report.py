"""A table of runs next to the published figures, and their learning curves.

python -m snn.report runs/                       print the table; write table.md and the curves to runs/
python -m snn.report runs/ more/ --out results   read several folders, write to another one
python -m snn.report runs/ --by seed             runs that differ in their seed as a row: mean ± standard deviation
python -m snn.report results/                    the runs that the README reports, and its table
"""

import argparse
import csv
import json
import math
import os
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

from snn import config, experiments
from snn.base.errors import UserError, as_mistake, printable
from snn.base.files import read_bytes, reading, user_path, write_picture, write_text
from snn.base.keys import boolean, checked, file_name, finite, size
from snn.base.output import lasting, note


class Published(NamedTuple):
    """Accuracy in percent (the loss for the associative memory) of the epoch that was best on dev."""

    dev: float
    test: float
    epoch: int  # from 0, of 100
    paper: float | None = None  # test figure in the paper itself (arXiv 2003.02944), if any

    @property
    def metric(self):
        return "acc" if self.dev > 1 else "loss"  # a loss is below 1, an accuracy far above


# From the paper's public code; in the order of the table.
PUBLISHED = {
    "snn_mlp_1": Published(98.58, 98.94, 72),
    "snn_mlp_1_non_zero": Published(98.488, 98.858, 93),
    "snn_mlp_1_poisson_input": Published(98.628, 98.928, 98),
    "snn_mlp_2": Published(98.66, 98.96, 72),
    "snn_mlp_2_poisson_input": Published(98.748, 98.978, 96),
    "snn_conv_1_mnist": Published(99.47, 99.59, 99),
    "snn_conv_1_mnist_poisson_input": Published(99.479, 99.519, 93, paper=99.46),
    "snn_conv_1_nmnist": Published(98.708, 98.558, 89, paper=99.39),
    "snn_conv_1_gesture": Published(85.156, 66.319, 46, paper=96.09),
    "snn_conv_1_gesture_30": Published(85.938, 68.75, 59),
    "snn_conv_1_gesture_max": Published(75.781, 70.486, 68),
    "snn_conv_2_gesture": None,  # beyond the paper
    "sequential_mnist": None,  # beyond the paper
    "sequential_mnist_permuted": None,  # beyond the paper
    "associative_memory": Published(0.00369, 0.0042, 92),
    "time_series": None,  # not implemented there, and the paper's table is not at hand
    "ecg": None,  # beyond the paper
}


class Run(NamedTuple):
    """What a run's folder holds."""

    folder: Path
    config: dict
    metrics: list  # of each epoch, a dict of numbers
    metric: str  # that decides which epoch is best
    highest_is_best: bool  # of the metric
    result: dict  # as in result.json; empty if the run has not ended
    best: dict  # the metrics of its best epoch, or of the best one so far
    settings: dict  # each value as JSON, by key: all but name, seed and places

    @property
    def name(self):
        return self.config["experiment_name"]

    @property
    def best_dev(self):
        return self.best[f"dev_{self.metric}"]

    @property
    def is_best_on_dev(self):
        """Whether no epoch is better on dev than the one that was kept."""
        return self.best_dev == _best(self.metrics, self.metric, self.highest_is_best)[f"dev_{self.metric}"]


def read_run(folder):
    """Return the Run in a folder. Raises UserError for files that are broken."""
    try:
        with reading("{reason}"):
            settings = config.read(folder / "config.yaml")
            lines = read_bytes(folder / "metrics.csv").decode().splitlines()
            metrics = [
                {key: checked(f"metrics.csv: {key}", _cell(key), value) for key, value in line.items() if value != ""}
                for line in csv.DictReader(lines)
            ]
            if not metrics:
                raise ValueError("metrics.csv has no epoch")
            result = _result(folder / "result.json")
            names = [column.removeprefix("dev_") for column in metrics[0] if column.startswith("dev_")]
            metric = result.get("metric") or next((name for name in names if name != "loss"), "loss")
            highest_is_best = result.get("highest_is_best", metric != "loss")  # a guess until the run has ended
            for entry in metrics:
                checked(f"metrics.csv: dev_{metric}", finite, entry[f"dev_{metric}"])
            for what, name in ("experiment_name", settings["experiment_name"]), ("its metric", metric):
                checked(what, file_name, name)  # a picture is named so
            if result:
                best = next((entry for entry in metrics if entry["epoch"] == result["best_epoch"]), None)
                if best is None:
                    raise ValueError(f"metrics.csv has no epoch {result['best_epoch']}, the best one of result.json")
            else:
                best = _best(metrics, metric, highest_is_best)
            as_json = {key: json.dumps(value) for key, value in config.values(settings).items()}
            run = Run(folder, settings, metrics, metric, highest_is_best, result, best, as_json)
            _row([run])  # raises where something is missing
    except UserError as error:
        raise UserError(f"{folder} holds no readable run ({error}): move it away, or name other folders") from None
    return run


def _cell(key):
    """Return the check of a column of metrics.csv: a task's own, such as the loss on dev, may be not finite."""
    is_ours = key in ("epoch", "lr", "seconds", "unstable_filters", "silent_layers", "hidden_rate")
    return lambda value: float(value) if not is_ours and value in ("nan", "inf", "-inf") else finite(value)


def _result(file):
    """Return a result.json with every value of its type; empty if there is none yet."""
    if not file.exists():
        return {}
    result = json.loads(read_bytes(file))
    samples = result.get("samples", {})
    return {
        "best_epoch": checked("best_epoch", size, result["best_epoch"]),
        **({"test": checked("test", finite, result["test"])} if "test" in result else {}),
        **{key: check(result[key]) for key, check in (("metric", str), ("highest_is_best", boolean)) if key in result},
        "samples": [checked("samples", size, samples[part]) for part in ("train", "dev", "test") if part in samples],
        "ties": checked("test_ties", size, result.get("test_ties", 0)),
        "on": str(result.get("on", "")),
        "commit": str(result.get("commit", "")),
    }


def _best(metrics, metric, highest_is_best):
    return (max if highest_is_best else min)(metrics, key=lambda entry: entry[f"dev_{metric}"])


def _row(runs):
    """Return a row of the table, a string by column: of a run, or of several that differ in nothing but their seed."""
    name, metric, settings = runs[0].name, runs[0].metric, runs[0].config
    best, results = [run.best for run in runs], [run.result for run in runs]
    samples = (" / ".join(f"{number:,}" for number in result.get("samples", [])) for result in results)
    ties = sum(result.get("ties", 0) for result in results)
    tied = f" ({ties} ties{' in all' if runs[1:] else ''})" if ties else ""
    rates = [entry.get("hidden_rate") for entry in best]
    return {
        "Run": f"{name}, n = {len(runs)}" if runs[1:] else f"{name} {runs[0].folder.name}",
        "Samples train / dev / test": _joined(samples),
        "Epochs": f"{_joined(map(_epochs, runs))}, best " + ", ".join(f"{entry['epoch']:.0f}" for entry in best),
        "Train": _figures([entry[f"train_{metric}"] for entry in best], metric),
        "Dev": _figures([run.best_dev for run in runs], metric),
        "Test": _figures([result.get("test") for result in results], metric) + tied,
        "Published dev / test": _published(name),
        "Seed": ", ".join(str(run.config["pytorch_seed"]) for run in runs),
        "Time": _duration(mean(sum(entry["seconds"] for entry in run.metrics) for run in runs)),
        "On": _joined(result.get("on", "") for result in results),
        "Commit": _joined(result.get("commit", "") for result in results),
        "Overrides": ", ".join(f"`{setting}`" for setting in config.changed(settings, _own(name, settings))),
    } | ({} if None in rates else {"Hidden rate": _figures(rates, "rate")})


def _own(name, settings):
    """Return the config that a run's overrides are over: its experiment's, or the defaults where it has none."""
    yaml_file = experiments.config_file(name.removesuffix("-demo"))
    if not yaml_file.exists():
        return config.defaults(settings)
    return config.resolve(yaml_file, demo=name.endswith("-demo"), warn=lambda _: None)


def _joined(values):
    return "; ".join(dict.fromkeys(filter(None, values)))


def _epochs(run):
    done, asked = len(run.metrics), run.config["hyperparameters"]["epoch"]
    return f"{done} of {asked}" if done < asked else f"{done}"


def _duration(seconds):
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 3600:.1f} h" if seconds > 3600 else f"{seconds / 60:.0f} min"


def _figure(value, metric):
    """Return an accuracy in percent, a loss, or another metric, as text."""
    return f"{value:.2f}" if metric == "acc" else f"{value:.5f}"


def _figures(values, metric):
    """Return the figure of a run, or mean ± standard deviation of several; None is that of a run without one."""
    known = [value for value in values if value is not None]
    if not known:
        return "not yet"
    deviates = known[1:] and all(map(math.isfinite, known))
    text = _figure(mean(known), metric) + (f" ± {_figure(stdev(known), metric)}" if deviates else "")
    return text + (f" (of {len(known)})" if len(known) < len(values) else "")


def _published(name):
    """Return the published figures of an experiment as text; empty if there are none."""
    published = PUBLISHED.get(name)
    if published is None:
        return ""
    dev, test = (_figure(value, published.metric) for value in (published.dev, published.test))
    return f"{dev} / {test}, best {published.epoch}" + (f"; paper {published.paper}" if published.paper else "")


def _by_seed(runs):
    """Return lists of runs that differ in nothing but their seed, one of each seed: the last of those tested."""
    groups = {}
    for run in runs:
        group = groups.setdefault((run.name, run.metric, frozenset(run.settings.items())), {})
        seed = run.config["pytorch_seed"]
        if seed in group:
            left_out, run = sorted((group[seed], run), key=_how_far)
            note(f"{left_out.folder} is left out: {run.folder} has the same settings and seed")
        group[seed] = run
    return [list(group.values()) for group in groups.values()]


def _how_far(run):
    """Return what sorts runs by how far they are: under way, ended, tested; then by time."""
    return "test" in run.result, bool(run.result), run.folder.name


def table(runs, by_seed=False, everything=False):
    """Return the runs as a Markdown table, in the order of PUBLISHED, then by time.

    Args:
        runs: from `read_run`.
        by_seed: whether those that differ in nothing but their seed are one row.
        everything: whether the project's experiments that were not run have a row too.
    """
    groups = _by_seed(runs) if by_seed else [[run] for run in runs]
    lines = [(group[0].name, group[0].folder.name, _row(group)) for group in groups]
    columns = list(dict.fromkeys(column for _, _, line in lines for column in line))
    for name in PUBLISHED.keys() - {run.name for run in runs} if everything else ():
        lines.append((name, "", {"Run": name, "Test": "not run", "Published dev / test": _published(name)}))
    order = list(PUBLISHED)
    lines.sort(key=lambda line: (order.index(line[0]) if line[0] in order else len(order), line[0], line[1]))
    cells = [columns, ["---"] * len(columns), *([line.get(column, "") for column in columns] for _, _, line in lines)]
    return "".join(f"| {' | '.join(printable(cell).replace('|', '/') for cell in line)} |\n" for line in cells)


def _labels(runs):
    """Return how the settings of each of these runs differ from the others', as `a.b=value`; "" where none does."""
    settings = [run.settings for run in runs]
    keys = dict.fromkeys(key for of_run in settings for key in of_run)
    differing = [key for key in keys if len({of_run.get(key) for of_run in settings}) > 1]
    return [", ".join(f"{key}={of_run.get(key, 'unset')}" for key in differing) for of_run in settings]


def _run_folders(folder):
    """Yield the folders with a metrics.csv below a folder. Links are followed, to each folder once."""
    seen = set()
    for path, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        if (real := os.path.realpath(path)) in seen:
            folders.clear()
        elif "metrics.csv" in files:
            yield Path(path)
        folders.sort()
        seen.add(real)


def _refuse(error):
    if isinstance(error, PermissionError):  # else the folder is not there
        raise error


@lasting()
def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m snn.report", formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__
    )
    parser.add_argument(
        "folders", nargs="+", type=user_path, help="run folders, or folders that contain some at any depth"
    )
    parser.add_argument("--out", type=user_path, help="folder for table.md and the curves; default: the first folder")
    parser.add_argument("--by", choices=["seed"], help="one row for runs that differ in nothing but their seed")
    parser.add_argument("--all", action="store_true", help="also a row for each experiment here without a run")
    try:
        args = parser.parse_args(argv)
        found = {}
        for path in (path for folder in args.folders for path in _run_folders(folder)):
            found.setdefault(os.path.realpath(path), path)
        runs = [read_run(folder) for folder in sorted(found.values())]
        if not runs:
            raise UserError(f"no run in {', '.join(map(str, args.folders))}: train first, or name the folder runs/")
        out = args.out or args.folders[0]
        text = table(runs, args.by == "seed", args.all)
        print(text, end="")
        write_text(out / "table.md", text)
        os.environ["MPLBACKEND"] = "Agg"  # as in snn.run.cli
        from snn.look.learning_curves import learning_curves  # imports matplotlib, which takes a second

        pictures = {}
        for run in runs:
            pictures.setdefault((run.name, run.metric), []).append(run)
        for name, metric in pictures:
            is_only = sum(other == name for other, _ in pictures) == 1  # else a run of another metric has this name
            title = name if is_only else f"{name}_{metric}"
            with reading(f"the learning curves of {name} can't be drawn: {{reason}}"):
                of_metric = pictures[name, metric]
                known = next((run for run in of_metric if run.result), of_metric[0])
                shown = sorted(of_metric, key=lambda run: run.best_dev, reverse=known.highest_is_best)
                figure = learning_curves(title, shown, metric, PUBLISHED.get(name), _labels(shown))
                write_picture(out / f"{title}.png", figure)
    except (UserError, PermissionError) as error:
        print(f"error: {as_mistake(error)}", file=sys.stderr)
        sys.exit(2)
    print(f"{out / 'table.md'} and {len(pictures)} pictures of learning curves written", file=sys.stderr)


if __name__ == "__main__":
    main()
