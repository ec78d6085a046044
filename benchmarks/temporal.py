"""Networks for long sequences: our filters in their variants, next to other neurons and delays of the field.

    python benchmarks/temporal.py ecg                   QTDB, 1,301 steps, a class at each; two runs at a time
    python benchmarks/temporal.py permuted --root F     a quarter of MNIST, 784 pixels in one random order
    python benchmarks/temporal.py permuted_whole --root F   all of it, three seeds of the variants of our filters

The others are in benchmarks/neurons: recurrent LIF, ALIF and BRF neurons, and recurrent LIF neurons behind lines with
trained delays, each with a leaky integrator for each class as readout. All have the same config, data, dev split and
number of epochs, and about as many parameters; the epoch that is best on dev is tested, once; five seeds, if not three.
The others' learning rate, start of weights and truncation of gradients are chosen on dev of seed 2: for QTDB the best
of three to seven trials of each, for pixels of three to five with four epochs. So this ranks no neurons.

Of ours, `fixed` keeps filters' coefficients as they start, `first order` has one exponential in each, `real poles only`
starts without filters that ring and `rotating start` with these alone, `published start` has tau_m and tau_s for all,
and `none` has no filter (on QTDB its gradients are cut after 50 steps, as they become infinite otherwise); `leaky
neurons` has none either, but neurons whose potential leaks with tau_m. Writes temporal_<task>.csv, a row for each run,
to results/tables/, and from it temporal_<task>.md and .png. Runs that are in the CSV are not repeated, so it can be
stopped.
"""

import os
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import ecg  # noqa: E402
import sequential_mnist  # noqa: E402
import snn  # noqa: E402
from benchmarks.neurons.alif import ALIF  # noqa: E402
from benchmarks.neurons.brf import BRF  # noqa: E402
from benchmarks.neurons.common import LeakyIntegrator, Recurrent, surrogate_of  # noqa: E402
from benchmarks.neurons.delays import Delays  # noqa: E402
from benchmarks.neurons.lif import LIF  # noqa: E402
from benchmarks.runs import FILTERS, SEEDS, as_words, command_line, complete, label, mean_and_deviation, run  # noqa: E402
from snn.base.files import write_picture, write_text  # noqa: E402
from snn.data.ecg import CLASSES, LINES  # noqa: E402
from snn.layers.encoders import Copies  # noqa: E402
from snn.tasks.base import Task  # noqa: E402
from snn.tasks.classification import Classification  # noqa: E402

OURS = FILTERS | {
    "rotating start": ["hyperparameters.filters.rotating=1"],
    "published start": ["hyperparameters.filters.start=published"],
    "leaky neurons": [*FILTERS["none"], "hyperparameters.membrane_filter=true"],
}
OTHERS = {"LIF": LIF, "ALIF": ALIF, "BRF": BRF, "delays": LIF}
COLORS = dict(zip((*OURS, *OTHERS), (*["#0072b2", "#d55e00", "#009e73", "#cc79a7", "dimgrey", "#e69f00", "#56b4e9",
                                     "black"],
                                     *["#0072b2", "#d55e00", "#009e73", "#e69f00"])))  # fmt: skip
START_OF_TORCH = ["optimizer.AdamW.lr=0.1", "hyperparameters.init=published"]
TRUNCATED = "hyperparameters.truncate=50"
# Of others: potentials leave the network, where ours counts spikes, and weights start as the network makes them.
OF_PIXELS = [
    "ties=first", "hyperparameters.rate_scale=1", "hyperparameters.init=published", "optimizer.optimizer_choice=Adam",
]  # fmt: skip
BRF_WEIGHTS = 30  # times torch's: a current counts for dt, a hundredth
SIDE_BY_SIDE = 0.006  # in the picture, of the number of parameters
EPOCHS = 10  # of permuted MNIST
READOUT = 20  # steps: time constant of the readout before training, as in Yin et al. 2021


class Benchmark(NamedTuple):
    """A task, and what the other networks for it need."""

    experiment: str
    network: Callable  # ours
    task: Task
    inputs: int
    classes: int
    copies: int  # of each input, for lines with delays
    sizes: dict  # numbers of neurons, so that there are about as many parameters
    starts: dict  # neurons' options, from the papers
    gains: dict  # of the input's weights before training, in torch's
    settings: list  # of all
    settings_of: dict  # by model: what was best on dev
    published: dict  # from a name to (parameters, accuracy)
    shown: float  # points below the best that the picture shows
    models: tuple = tuple(COLORS)
    seeds: range = SEEDS


BENCHMARKS = {
    "ecg": Benchmark(
        "ecg", ecg.network, ecg.task, LINES, CLASSES, 4, {"LIF": 36, "ALIF": 36, "BRF": 36, "delays": 30}, {}, {}, [],
        {
            **dict.fromkeys(("none", "leaky neurons"), [TRUNCATED]),  # else their gradients become infinite at once
            **dict.fromkeys(("LIF", "ALIF", "delays"), [*START_OF_TORCH, TRUNCATED]), "BRF": START_OF_TORCH,
        },
        {"ALIF": (1800, 85.9), "DH-SNN": (1800, 86.35), "SE-adLIF": (1800, 86.9), "BRF": (1800, 87.0),
         "SPRiF": (1800, 88.4)}, 10,
    ),
    "permuted": Benchmark(
        "sequential_mnist_permuted", sequential_mnist.network, Classification(), 1, 10, 64,
        {"LIF": 288, "ALIF": 288, "BRF": 288, "delays": 256},
        {"ALIF": {"tau_m": (20, 5), "tau_adp": (200, 50)}, "BRF": {"omega": (15, 85)}}, {"LIF": 5, "delays": 5},
        ["dataset.train_size=12500", "dataset.dev_size=2500", f"hyperparameters.epoch={EPOCHS}",
         f"scheduler.CosineAnnealingWarmRestarts.T_0={EPOCHS}", "hyperparameters.dropout=0",  # which only ours has
         "hyperparameters.filters.rotating=0.5"],  # as in ecg
        {
            "LIF": [*OF_PIXELS, "optimizer.Adam.lr=0.003", TRUNCATED],
            "ALIF": [*OF_PIXELS, "optimizer.Adam.lr=0.01", "hyperparameters.readout=1", TRUNCATED],
            "BRF": [*OF_PIXELS, "optimizer.Adam.lr=0.004"],
            "delays": [*OF_PIXELS, "optimizer.Adam.lr=0.004", "hyperparameters.filters.longest=783",
                       "optimizer.coefficients_lr_factor=1"],
        },
        {}, 100,  # none is published of ten epochs
    ),
}  # fmt: skip
BENCHMARKS["permuted_whole"] = BENCHMARKS["permuted"]._replace(
    settings=[*BENCHMARKS["permuted"].settings, "dataset.train_size=0", "dataset.dev_size=0"],
    models=(*FILTERS, "rotating start"),
    seeds=SEEDS[:3],
)


def network(model, benchmark, config):
    """Return a model's network: ours, or lines, delayed or not - recurrent neurons - leaky integrators."""
    if model in OURS:
        return benchmark.network(config)
    p, bank, lines, size = config["hyperparameters"], [], benchmark.inputs, benchmark.sizes[model]
    if model == "delays":
        lines *= benchmark.copies
        bank = [Copies(benchmark.copies), Delays.from_config(lines, p)]
    neurons = OTHERS[model](size, surrogate_of(p), **benchmark.starts.get(model, {}))
    currents, recurrent = snn.Linear(lines, size), Recurrent(neurons)
    if model == "BRF":
        for layer in (currents, recurrent.back):
            layer.weight.data *= BRF_WEIGHTS
    currents.weight.data *= benchmark.gains.get(model, 1)
    return snn.Sequential(
        *bank, currents, recurrent, snn.Linear(size, benchmark.classes), LeakyIntegrator(benchmark.classes, READOUT)
    )


def train(model, seed, name, root):
    """Train and test once; return the row of the CSV, without figures if the training ended with what is not finite."""
    benchmark, made = BENCHMARKS[name], []

    def make(config):
        made.append(network(model, benchmark, config))
        return made[-1]

    settings = [*benchmark.settings, *OURS.get(model, ()), *benchmark.settings_of.get(model, ())]
    settings += [f"pytorch_seed={seed}", *([f"dataset.root={root}"] if name != "ecg" else [])]
    try:
        result, tables = run(benchmark.experiment, make, as_words(settings), benchmark.task)
    except RuntimeError as error:
        if "is not finite" not in str(error):
            raise
        of_run = dict.fromkeys(("dev", "test", "epoch", "seconds"), "")
    else:
        dev = float(tables["metrics"][result["best_epoch"]]["dev_acc"])
        of_run = {"dev": round(dev, 2), "test": round(result["test"], 2), "epoch": result["best_epoch"]}
        of_run["seconds"] = round(result["seconds"])
    trained = sum(parameter.numel() for parameter in made[0].parameters() if parameter.requires_grad)
    return {"model": model, "seed": seed, "parameters": trained} | of_run


def figures(rows, model, column):
    return [float(row[column]) for row in rows if row["model"] == model and row[column]]


def table(rows, name):
    """Return the results as Markdown: accuracies by model, and how much better trained filters are."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    seeds = len({row["seed"] for row in rows})
    lines = [
        f"Accuracy in percent, mean ± standard deviation of {seeds} seeds; test is of the epoch that is best on dev.",
        f"Made by `python benchmarks/temporal.py {name}`.", "",
        "| Model | Trained parameters | Dev | Test | Seconds to train |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for model in models:
        dev, test, seconds, parameters = (figures(rows, model, of) for of in ("dev", "test", "seconds", "parameters"))
        cells = [mean_and_deviation(values, 2) if values else "none" for values in (dev, test)]
        if len(parameters) < seeds:
            cells[0] += f" ({len(parameters)} seed{'s' * (len(parameters) > 1)})"
        if failed := len(parameters) - len(test):
            cells[1] += f" ({failed} of {len(parameters)} became infinite)"
        cells.append(f"{statistics.median(seconds):.0f}" if seconds else "")
        lines.append(f"| {_label(model)} | {parameters[0]:,.0f} | {' | '.join(cells)} |")
    lines.append("")
    with_figures = [row for row in rows if row["test"]]
    trained, *others = ({r["seed"]: float(r["test"]) for r in with_figures if r["model"] == of} for of in models)
    for model, of_model in zip(models[1:], others):
        better = [trained[seed] - test for seed, test in of_model.items() if seed in trained]
        if better[1:]:
            error = statistics.stdev(better) / len(better) ** 0.5
            lines.append(
                f"{_label(models[0])} less {_label(model)}: {statistics.mean(better):+.2f} points on test, "
                f"standard error {error:.2f}.  "
            )
    return "\n".join(lines) + "\n"


def _label(model):
    if model == "leaky neurons":
        return "no filters, leaky neurons"
    if model in OURS:
        return label(model)
    return "delays, recurrent LIF" if model == "delays" else f"recurrent {model}"


def draw(rows, benchmark):
    """Draw test accuracy against the number of parameters, mean and deviation of the seeds."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axis = figure.subplots()
    places = []

    def beside(parameters):
        """Return where a model stands: those with as many parameters side by side."""
        places.append(parameters)
        return parameters * (1 + SIDE_BY_SIDE * (places.count(parameters) - 1))

    tests = {model: values for model in COLORS if (values := figures(rows, model, "test"))}
    means = {model: statistics.mean(values) for model, values in tests.items()}
    lowest = max(0, max(means.values()) - benchmark.shown)
    for model, mean in means.items():
        below = f": {mean:.0f} %, not shown" if mean < lowest else ""
        axis.errorbar(
            beside(figures(rows, model, "parameters")[0]), mean,
            statistics.stdev(tests[model]) if tests[model][1:] else 0, fmt="o" if model in OURS else "s",
            color=COLORS[model], ms=6, capsize=3, lw=1, label=_label(model) + below,
        )  # fmt: skip
    for (name, (parameters, accuracy)), marker in zip(benchmark.published.items(), "^vD<>"):
        chosen = "dev" if name == "BRF" else "test"
        axis.plot(
            beside(parameters), accuracy, marker, mfc="none", color="black", ms=7, lw=0,
            label=f"{name} as published, best {chosen} epoch",
        )  # fmt: skip
    axis.set_ylim(bottom=lowest)
    axis.set(xlabel="trained parameters", ylabel="test accuracy (%)")
    axis.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def main():
    parser = command_line(__doc__)
    parser.add_argument("task", choices=BENCHMARKS)
    parser.add_argument("--root", type=Path, default=ROOT / "data", help="folder that holds MNIST/raw (ecg needs none)")
    args = parser.parse_args()
    out, benchmark = args.out.resolve(), BENCHMARKS[args.task]
    os.environ["MPLBACKEND"] = "Agg"

    def order(row):
        return list(COLORS).index(row["model"]), int(row["seed"])

    wanted = [(model, seed) for seed in benchmark.seeds for model in benchmark.models]
    one = partial(train, name=args.task, root=args.root.resolve())
    rows = complete(out / f"temporal_{args.task}.csv", ("model", "seed"), wanted, one, order, args.jobs)
    write_text(out / f"temporal_{args.task}.md", table(rows, args.task))
    write_picture(out / f"temporal_{args.task}.png", draw(rows, benchmark))


if __name__ == "__main__":
    main()
