"""What trained synapse filters are worth: time series, with the same network and other filters, five seeds each.

    python benchmarks/trained_filters.py                    all datasets in data/time_series, two runs at a time
    python benchmarks/trained_filters.py --root F GunPoint  those of another folder

`fixed` keeps the coefficients as they start, `first order` has one exponential, `none` no filter (tau to 0). Each is
trained on all of the training set with each seed, for the accuracy on the test set; the first two also without a fifth
of it, for the accuracy on that fifth (dev). Writes trained_filters.csv, a row for each run, to results/tables/, and
from it trained_filters.md and two pictures. Runs that are in the CSV are not repeated, so it can be stopped.
"""

import os
import statistics
import sys
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.runs import command_line, complete, draw_seeds, run  # noqa: E402
from snn import config  # noqa: E402
from snn.base.files import write_picture, write_text  # noqa: E402
from snn.data import series  # noqa: E402
from snn.tasks.early import SHARES  # noqa: E402
from snn.tasks.series import SeriesClassification  # noqa: E402
from time_series import network  # noqa: E402

CONFIG = ROOT / "configs/time_series.yaml"
FILTERS = {
    "trained": [],
    "fixed": ["hyperparameters.train_coefficients=false"],
    "first order": ["hyperparameters.synapse_type=first_order"],
    "none": ["hyperparameters.synapse_type=none"],
}
COLORS = {"trained": "#0072b2", "fixed": "#d55e00", "first order": "#009e73", "none": "dimgrey"}
SEEDS = range(1, 6)
KSIG, HIVE_COTE = "signature kernel (ksig's README)", "HIVE-COTE 2 (aeon's result files)"
PUBLISHED = {  # test accuracy in percent; None: none is known to us
    "BasicMotions": (100, KSIG),
    "JapaneseVowels": (98.6, KSIG),
    "Epilepsy": (94.9, KSIG),
    "Braille": None,
    "ItalyPowerDemand": (97.0, HIVE_COTE),
    "GunPoint": (100, HIVE_COTE),
}


def train(dataset, filters, seed, refit, root):
    """Train once; return the row of the CSV."""
    settings = [f"dataset.name={dataset}", f"dataset.root={root}", f"dataset.refit={str(refit).lower()}"]
    settings += [f"pytorch_seed={seed}", *FILTERS[filters]]
    words = [word for setting in settings for word in ("--set", setting)]
    result, tables = run("time_series", network, words, SeriesClassification())
    metrics = tables["metrics"]
    return {
        "dataset": dataset, "filters": filters, "seed": seed, "refit": refit,
        "dev": "" if refit else round(float(metrics[-1]["dev_acc"]), 2),
        "test": round(result["test"], 2),
        "seconds": round(result["seconds"], 1),
        "early": " ".join(row["accuracy"] for row in tables["early"]),
    }  # fmt: skip


def run_all(datasets, root, jobs, file):
    """Do the runs that the CSV lacks; return all its rows, as strings."""
    wanted = [
        (dataset, filters, seed, refit)
        for pair, refits in ((("trained", "fixed"), (True, False)), (("first order", "none"), (True,)))
        for dataset in datasets for seed in SEEDS for filters in pair for refit in refits
    ]  # fmt: skip

    def order(row):
        return list(PUBLISHED).index(row["dataset"]), list(FILTERS).index(row["filters"]), row["refit"], row["seed"]

    return complete(file, ("dataset", "filters", "seed", "refit"), wanted, partial(train, root=root), order, jobs)


def figures(rows, dataset, filters, part):
    """Return the accuracies of all seeds on "dev", or on "test" after training on the whole training set."""
    of_part = "False" if part == "dev" else "True"
    wanted = (dataset, filters, of_part)
    return [float(row[part]) for row in rows if (row["dataset"], row["filters"], row["refit"]) == wanted]


def mean_and_deviation(values):
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}" if len(values) > 1 else "not run"


def nearest_neighbour(dataset, root):
    """Return the test accuracy of 1-nearest-neighbour: Euclidean, of scaled series padded with 0 to one length."""
    overrides = [f"dataset.name={dataset}", f"dataset.root={root}", "dataset.refit=true", "dataset.differences=false"]
    settings = config.resolve(CONFIG, overrides=overrides, warn=lambda _: None)
    splits, _ = series.load(settings, torch.device("cpu"), None)
    train, test = splits["train"], splits["test"]
    nearest = torch.cdist(test.values.flatten(1), train.values.flatten(1)).argmin(1)
    return 100 * (train.labels[nearest] == test.labels).double().mean().item()


def table(rows, datasets, root):
    """Return the Markdown tables of test and dev accuracies."""
    lines = [
        "Accuracy in percent on the test set, mean and standard deviation of five seeds, trained on all the training",
        "set with settings chosen on dev. Made by `python benchmarks/trained_filters.py`.", "",
        "| Dataset | Trained filters | Fixed | First order | None | 1-NN | Published | Seconds a run |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for dataset in datasets:
        published = "{} {}".format(*PUBLISHED[dataset]) if PUBLISHED[dataset] else "none known"
        seconds = [float(row["seconds"]) for row in rows if (row["dataset"], row["filters"]) == (dataset, "trained")]
        cells = [mean_and_deviation(figures(rows, dataset, filters, "test")) for filters in FILTERS]
        cells += [f"{nearest_neighbour(dataset, root):.1f}", published]
        cells += [f"{statistics.mean(seconds):.0f}" if seconds else ""]
        lines.append(f"| {dataset} | {' | '.join(cells)} |")
    lines += ["", "The same on dev: a fifth of the training set, another one for each seed. Trained on the rest.", "",
              "| Dataset | Trained filters | Fixed |", "|---|---|---|"]  # fmt: skip
    for dataset in datasets:
        cells = [mean_and_deviation(figures(rows, dataset, filters, "dev")) for filters in ("trained", "fixed")]
        lines.append(f"| {dataset} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw_filters(rows, datasets):
    """Draw the test accuracy of every seed, and the mean, by dataset and filters."""
    figure = Figure(figsize=(1.7 * len(datasets) + 1, 4), layout="constrained")
    axis = figure.subplots()
    for number, filters in enumerate(FILTERS):
        for place, dataset in enumerate(datasets):
            values, x = figures(rows, dataset, filters, "test"), place + 0.19 * (number - 1.5)
            axis.plot([x] * len(values), values, "o", ms=4, mfc="none", color=COLORS[filters], alpha=0.6)
            if values:
                axis.plot([x - 0.07, x + 0.07], [statistics.mean(values)] * 2, lw=3, color=COLORS[filters])
        axis.plot([], [], lw=3, color=COLORS[filters], label=f"{filters} filters" if filters == "trained" else filters)
    axis.set(xticks=range(len(datasets)), xticklabels=datasets, ylabel="test accuracy (%)")
    axis.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=len(FILTERS), frameon=False)
    return figure


def draw_early(rows, datasets):
    """Draw the test accuracy when the answer is taken early, with trained and with fixed filters."""
    columns = -(-len(datasets) // 2)
    figure = Figure(figsize=(2.9 * columns, 5), layout="constrained")
    axes = figure.subplots(2, columns, sharex=True, sharey=True, squeeze=False).flat
    for axis, dataset in zip(axes, datasets):
        for filters in ("trained", "fixed"):
            curves = [
                [float(value) for value in row["early"].split()]
                for row in rows
                if (row["dataset"], row["filters"], row["refit"]) == (dataset, filters, "True")
            ]
            if curves:
                share = (100 * SHARES).tolist()
                draw_seeds(axis, share, curves, COLORS[filters], 0.15, label=f"{filters} filters")
        axis.set_title(dataset, fontsize=10)
        axis.set(xlim=(0, 100), ylim=(0, 102))
        axis.grid(alpha=0.3)
    figure.supxlabel("share of the series seen (%)", fontsize=10)
    figure.supylabel("test accuracy (%)", fontsize=10)
    figure.axes[0].legend(fontsize=8)
    return figure


def main():
    parser = command_line(__doc__)
    parser.add_argument("datasets", nargs="*", metavar="NAME", help="all six if none is named")
    parser.add_argument("--root", type=Path, default=ROOT / "data/time_series", help="folder of the datasets")
    args = parser.parse_args()
    datasets = args.datasets or list(PUBLISHED)
    if unknown := set(datasets) - set(PUBLISHED):
        parser.error(f"{', '.join(sorted(unknown))}: the table has {', '.join(PUBLISHED)}")
    os.environ["MPLBACKEND"] = "Agg"
    root, out = args.root.resolve(), args.out.resolve()
    rows = run_all(datasets, root, args.jobs, out / "trained_filters.csv")
    write_text(out / "trained_filters.md", table(rows, datasets, root))
    for name, draw in (("trained_filters", draw_filters), ("early", draw_early)):
        write_picture(out / f"{name}.png", draw(rows, datasets))


if __name__ == "__main__":
    main()
