"""Filters that drift out of stability while they are trained, and four remedies: three seeds each.

    python benchmarks/drift.py                   two runs at a time, a thread each
    python benchmarks/drift.py --mnist data --jobs 1

Trains snn_mlp_1 for 20 epochs and the associative memory for 26, in bfloat16, with the published form of the filters
and with remedies. Writes drift.csv, a row for each run, drift.md and drift.png to results/tables/. Runs that are in
the CSV are not repeated, so it can be stopped.
"""

import importlib
import statistics
import sys
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.remedies import Pulled  # noqa: E402
from benchmarks.runs import as_words, command_line, complete, run  # noqa: E402
from snn.base.files import write_picture, write_text  # noqa: E402
from snn.tasks.association import Association  # noqa: E402

SEEDS = (2, 3, 4)
PULL = 10  # of coefficients to their start, as a decoupled weight decay: a step moves them by PULL * lr of the distance
REMEDIES = {  # by name: what it sets in the config, and its description
    "published": ({}, "a1, a2 and b1 free"),
    "clamped": ({"hyperparameters.stable_filters": "true"}, "`stable_filters: true`, after every step"),
    "slower": ({"optimizer.coefficients_lr_factor": 0.1}, "`coefficients_lr_factor: 0.1`"),
    "pulled": (
        {"hyperparameters.synapse_type": "benchmarks.remedies.Pulled"},
        f"coefficients decay towards their start, by {PULL} times the learning rate a step",
    ),
    "poles": ({"hyperparameters.synapse_type": "benchmarks.remedies.Poles"}, "logits of two real poles are trained"),
}
COLORS = ("dimgrey", "#d55e00", "#0072b2", "#009e73", "#cc79a7")
NETWORKS = {  # by script: epochs, figure of an epoch, its name, its best
    "snn_mlp_1": (20, "dev_acc", "dev accuracy (%)", max),
    "associative_memory": (26, "dev_loss", "dev loss", min),
}


def network(config, script):
    """Build a script's network; coefficients that are pulled know the learning rate."""
    net, optimizer = importlib.import_module(script).network(config), config["optimizer"]
    for layer in net.modules():
        if isinstance(layer, Pulled):
            layer.rate = PULL * optimizer[optimizer["optimizer_choice"]]["lr"]
    return net


def train(script, remedy, seed, mnist):
    """Train once; return the row of the CSV."""
    epochs, figure, _, best = NETWORKS[script]
    changes = {"pytorch_seed": seed, "hyperparameters.epoch": epochs, "precision": "bf16"}
    changes |= {"hyperparameters.stable_filters": "false"} | REMEDIES[remedy][0]
    task = Association() if script == "associative_memory" else None
    if script == "snn_mlp_1":
        changes["dataset.root"] = mnist
    words = as_words(f"{key}={value}" for key, value in changes.items())
    result, tables = run(script, partial(network, script=script), ["--device", "cpu", *words], task)
    rows = tables["metrics"]
    values = [float(row[figure]) for row in rows]
    return {
        "network": script, "remedy": remedy, "seed": seed, "best": best(values), "last": values[-1],
        "unstable": rows[-1]["unstable_filters"], "seconds": round(result["seconds"]),
        "commit": result["commit"], "values": " ".join(f"{value:.5g}" for value in values),
        "unstable_filters": " ".join(row["unstable_filters"] for row in rows),
    }  # fmt: skip


def order(row):
    return list(NETWORKS).index(row["network"]), list(REMEDIES).index(row["remedy"]), row["seed"]


def of(rows, script, remedy):
    return [row for row in rows if (row["network"], row["remedy"]) == (script, remedy)]


def table(rows):
    """Return the Markdown table: by network and remedy, the figure on dev and unstable filters."""
    lines = ["Seeds 2, 3 and 4, `precision: bf16`. Made by `python benchmarks/drift.py`."]
    for script, (epochs, _, name, _) in NETWORKS.items():
        lines += [
            "", f"## `{script}`, {epochs} epochs", "",
            f"| Remedy | What | Best {name} | At the end | Unstable filters at the end |", "|---|---|---|---|---|",
        ]  # fmt: skip
        for remedy, (_, what) in REMEDIES.items():
            found = of(rows, script, remedy)
            cells = [", ".join(f"{float(row[key]):.4g}" for row in found) for key in ("best", "last", "unstable")]
            lines += [f"| {remedy} | {what} | {' | '.join(cells)} |"] if found else []
    return "\n".join(lines) + "\n"


def draw(rows):
    """Draw the figure on dev and the number of unstable filters over the epochs: every seed, and the seeds' median."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    for (script, (_, _, name, _)), axes in zip(NETWORKS.items(), figure.subplots(2, 2)):
        for axis, key, label in zip(axes, ("values", "unstable_filters"), (name, "unstable filters")):
            for color, remedy in zip(COLORS, REMEDIES):
                curves = [[float(value) for value in row[key].split()] for row in of(rows, script, remedy)]
                for curve in curves:
                    axis.plot(curve, color=color, lw=0.6, alpha=0.5)
                if curves:
                    axis.plot([statistics.median(at) for at in zip(*curves)], color=color, lw=1.8, label=remedy)
            axis.set(xlabel="epoch", ylabel=label, title=script)
            axis.grid(alpha=0.3)
            axis.locator_params(axis="x", integer=True)
    figure.axes[2].set_yscale("log")
    figure.axes[3].set_yscale("symlog")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False)
    return figure


def main():
    parser = command_line(__doc__)
    parser.add_argument("--mnist", type=Path, default=ROOT / "data", help="folder of MNIST/raw")
    args = parser.parse_args()
    wanted = [(script, remedy, seed) for seed in SEEDS for script in NETWORKS for remedy in REMEDIES]
    of_remedy = partial(train, mnist=args.mnist.resolve())
    rows = complete(args.out / "drift.csv", ("network", "remedy", "seed"), wanted, of_remedy, order, args.jobs)
    write_text(args.out / "drift.md", table(rows))
    write_picture(args.out / "drift.png", draw(rows))


if __name__ == "__main__":
    main()
