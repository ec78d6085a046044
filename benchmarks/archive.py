"""Time series datasets of the archive with one config for all of them, next to other classifiers.

    python benchmarks/archive.py --root F                 all datasets in the folder F, two runs at a time
    python benchmarks/archive.py --root F GunPoint        some of them

Default splits: trained on all of the training set (`dataset.refit`), tested once, five seeds. `fixed` keeps filters'
coefficients as they start, `first order` has one exponential, `real poles only` starts without filters that ring, and
`none` has no filter. Beside them 1-nearest-neighbour, with the Euclidean distance and with dynamic time warping over
all channels together, and MiniRocket: `pip install sktime tslearn` first. Writes archive.csv, a row for each run, to
results/tables/, and from it archive.md, archive.png, and early.png: accuracy against the share of a series that was
seen. Runs that are in the CSV are not repeated, so it can be stopped.
"""

import os
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.runs import FILTERS, SEEDS, as_words, command_line, complete, draw_seeds, label, mean_and_deviation, run  # noqa: E402
from snn.base.files import write_picture, write_text  # noqa: E402
from snn.data.series_files import read_part  # noqa: E402
from snn.tasks.early import SHARES  # noqa: E402
from snn.tasks.series import SeriesClassification  # noqa: E402
from time_series import network  # noqa: E402

OTHERS = "1-NN Euclidean", "1-NN DTW", "MiniRocket"
COLORS = dict(zip(
    (*FILTERS, *OTHERS),
    ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "dimgrey", "#56b4e9", "#e69f00", "black"),
))  # fmt: skip


def train(dataset, model, seed, root):
    """Train and test once; return the row of the CSV."""
    start, ties, early = time.monotonic(), "", []
    if model in FILTERS:
        words = [f"dataset.name={dataset}", f"dataset.root={root}", f"pytorch_seed={seed}", "dataset.refit=true"]
        result, tables = run("time_series", network, as_words([*words, *FILTERS[model]]), SeriesClassification())
        test, ties, early = result["test"], result["test_ties"], [row["accuracy"] for row in tables["early"]]
    else:
        test = other(dataset, model, seed, root)
    seconds = round(time.monotonic() - start, 1)
    row = {"dataset": dataset, "model": model, "seed": seed, "test": round(test, 2)}
    return row | {"ties": ties, "seconds": seconds, "early": " ".join(early)}


def other(dataset, model, seed, root):
    """Return the test accuracy of a classifier that is not ours."""
    settings = {"name": dataset, "root": root, "labels": "labels", "groups": ""}
    train, test = (read_part(settings, part) for part in ("TRAIN", "TEST"))
    if model == "1-NN DTW":
        from tslearn.neighbors import KNeighborsTimeSeriesClassifier
        from tslearn.utils import to_time_series_dataset

        classifier = KNeighborsTimeSeriesClassifier(n_neighbors=1, metric="dtw")
        x, x_test = (to_time_series_dataset(part.values) for part in (train, test))
    else:
        from sklearn.neighbors import KNeighborsClassifier
        from sktime.classification.kernel_based import RocketClassifier

        longest = max(map(len, train.values + test.values))
        x, x_test = (padded(part.values, longest) for part in (train, test))
        classifier = RocketClassifier(rocket_transform="minirocket", random_state=seed)
        if model == "1-NN Euclidean":
            x, x_test, classifier = x.reshape(len(x), -1), x_test.reshape(len(x_test), -1), KNeighborsClassifier(1)
    names = np.array(train.classes)[train.labels], np.array(test.classes)[test.labels]  # each file has its own numbers
    return 100 * float(np.mean(classifier.fit(x, names[0]).predict(x_test) == names[1]))


def padded(series, length):
    """Return series `[steps, C]` as `[N, C, length]`, with 0 after their ends and for missing values."""
    found = np.zeros((len(series), series[0].shape[1], length), np.float32)
    for row, values in zip(found, series):
        row[:, : len(values)] = np.nan_to_num(values.T)
    return found


def wanted_runs(datasets, models):
    """Return (dataset, model, seed) of all runs, seed by seed; 1-nearest-neighbour has nothing random."""
    runs = [(dataset, model, seed) for seed in SEEDS for dataset in datasets for model in models]
    return [(dataset, model, seed) for dataset, model, seed in runs if seed == SEEDS[0] or model not in OTHERS[:2]]


def figures(rows, dataset, model):
    return [float(row["test"]) for row in rows if (row["dataset"], row["model"]) == (dataset, model)]


def table(rows, datasets):
    """Return the results as Markdown: accuracies by dataset and model, and how much better trained filters are."""
    seeds = len({row["seed"] for row in rows})
    lines = [
        "Accuracy in percent on the test set, default splits, one config for all; mean ± standard deviation of",
        f"{seeds} seeds. Made by `python benchmarks/archive.py`.", "",
        f"| Dataset | {' | '.join(COLORS)} | Seconds to train |", "|---" * (len(COLORS) + 2) + "|",
    ]  # fmt: skip
    for dataset in datasets:
        cells = [mean_and_deviation(figures(rows, dataset, model)) for model in COLORS]
        seconds = [float(row["seconds"]) for row in rows if (row["dataset"], row["model"]) == (dataset, "trained")]
        lines.append(f"| {dataset} | {' | '.join(cells)} | {statistics.median(seconds):.0f} |")
    means = [statistics.mean(statistics.mean(figures(rows, d, model)) for d in datasets) for model in COLORS]
    lines += [f"| mean | {' | '.join(f'{mean:.1f}' for mean in means)} | |", ""]
    for model in list(FILTERS)[1:]:  # seeds of one dataset are no independent datasets: a mean for each
        trained, other = ([statistics.mean(figures(rows, d, of)) for d in datasets] for of in ("trained", model))
        better = [mine - its for mine, its in zip(trained, other)]
        if better[1:]:
            error, mean = statistics.stdev(better) / len(better) ** 0.5, statistics.mean(better)
            lines.append(
                f"Trained filters less {model}: {mean:+.2f} points, standard error over datasets {error:.2f}.  "
            )
    return "\n".join(lines) + "\n"


def draw_accuracies(rows, datasets):
    """Draw the test accuracy of every run, and the mean, by dataset and model."""
    figure = Figure(figsize=(1.5 * len(datasets) + 1, 4), layout="constrained")
    axis = figure.subplots()
    for number, (model, color) in enumerate(COLORS.items()):
        for place, dataset in enumerate(datasets):
            values, x = figures(rows, dataset, model), place + 0.11 * (number - 3.5)
            axis.plot([x] * len(values), values, "o", ms=3, mfc="none", color=color, alpha=0.6)
            if values:
                axis.plot([x - 0.05, x + 0.05], [statistics.mean(values)] * 2, lw=3, color=color)
        axis.plot([], [], lw=3, color=color, label=label(model) if model in FILTERS else model)
    axis.set(xticks=range(len(datasets)), xticklabels=datasets, ylabel="test accuracy (%)")
    axis.tick_params("x", labelsize=8)
    axis.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=len(COLORS), frameon=False, fontsize=8)
    return figure


def draw_early(rows, datasets):
    """Draw the test accuracy when the answer is taken early, with trained and with fixed filters."""
    columns = -(-len(datasets) // 2)
    figure = Figure(figsize=(2.9 * columns, 5), layout="constrained")
    axes = figure.subplots(2, columns, sharex=True, sharey=True, squeeze=False).flat
    for axis, dataset in zip(axes, datasets):
        for model in ("trained", "fixed"):
            of_model = [row["early"].split() for row in rows if (row["dataset"], row["model"]) == (dataset, model)]
            curves = [list(map(float, accuracies)) for accuracies in of_model]
            if curves:
                draw_seeds(axis, (100 * SHARES).tolist(), curves, COLORS[model], 0.15, label=label(model))
        axis.set_title(dataset, fontsize=10)
        axis.set(xlim=(0, 100), ylim=(0, 102))
        axis.grid(alpha=0.3)
    figure.supxlabel("share of the series seen (%)", fontsize=10)
    figure.supylabel("test accuracy (%)", fontsize=10)
    figure.axes[0].legend(fontsize=8)
    return figure


def main():
    parser = command_line(__doc__)
    parser.add_argument("datasets", nargs="*", metavar="NAME", help="all in the folder if none is named")
    parser.add_argument("--root", type=Path, default=ROOT / "data/time_series", help="folder of the datasets")
    args = parser.parse_args()
    root, out = args.root.resolve(), args.out.resolve()
    datasets = args.datasets or sorted(path.name for path in root.glob("*") if path.is_dir())
    os.environ["MPLBACKEND"] = "Agg"

    def order(row):
        return row["dataset"], list(COLORS).index(row["model"]), int(row["seed"])

    for models in (FILTERS, OTHERS):  # apart: ours take three times as long in a process that has run MiniRocket
        wanted, columns = wanted_runs(datasets, models), ("dataset", "model", "seed")
        rows = complete(out / "archive.csv", columns, wanted, partial(train, root=root), order, args.jobs)
    found = {(row["dataset"], row["model"], int(row["seed"])) for row in rows}
    datasets = dict.fromkeys(row["dataset"] for row in rows)
    datasets = [name for name in datasets if found >= set(wanted_runs([name], COLORS))]  # else it was stopped
    write_text(out / "archive.md", table(rows, datasets))
    for name, draw in (("archive", draw_accuracies), ("early", draw_early)):
        write_picture(out / f"{name}.png", draw(rows, datasets))


if __name__ == "__main__":
    main()
