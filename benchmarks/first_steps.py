"""How soon deep networks begin to learn, by how their weights start: three seeds each.

    python benchmarks/first_steps.py                   two runs at a time, a thread each
    python benchmarks/first_steps.py --mnist data --nmnist data/N-MNIST --jobs 1

Spiking layers pass on nothing below the threshold, so deep networks are silent at first: their loss is that of
guessing. `published` is torch's own start, `init: kaiming` ours; the others were tried. Writes first_steps.csv, a row
for each run, first_steps.md and first_steps.png to results/tables/. Runs that are in the CSV are not repeated, so it
can be stopped.
"""

import contextlib
import importlib
import io
import math
import statistics
import sys
from functools import partial
from itertools import chain, islice, repeat
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import nn

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.runs import command_line, complete, draw_seeds  # noqa: E402
from snn import config  # noqa: E402
from snn.base import process  # noqa: E402
from snn.base.files import write_picture, write_text  # noqa: E402
from snn.data import datasets  # noqa: E402
from snn.layers.start import initialize  # noqa: E402
from snn.run.optimizers import make_optimizer  # noqa: E402
from snn.run.passes import data_generator  # noqa: E402
from snn.run.step import evaluate, forward  # noqa: E402
from snn.tasks.classification import Classification  # noqa: E402

MNIST = {"hyperparameters.batch_size": 16, "dataset.dev_size": 1000}
NMNIST = {"hyperparameters.batch_size": 16, "hyperparameters.length": 15, "dataset.dev_size": 100}
NMNIST |= {"dataset.train_size": 900}
NETWORKS = {  # by name: script, what differs from its config (None: the demo), steps
    "MNIST CNN, lr 1e-3": ("snn_conv_1_mnist", MNIST | {"optimizer.Adam.lr": 1e-3}, 110),
    "MNIST CNN, lr 1e-4": ("snn_conv_1_mnist", MNIST, 110),
    "N-MNIST, 900 recordings, lr 1e-3": ("snn_conv_1_nmnist", NMNIST | {"optimizer.Adam.lr": 1e-3}, 110),
    "gesture demo, lr 1e-3": ("snn_conv_1_gesture", None, 150),
}
SEEDS = (2, 3, 4)
WINDOW = 5  # a network has begun to learn when its mean loss over this number of steps
FALLEN = 0.9  # is below this share of the loss of guessing


def kaiming(net, x):
    initialize(net, {"init": "kaiming", "threshold": 0})  # whose half are the biases


@torch.no_grad()
def calibrated(net, x):
    for number, layer in enumerate(net):
        if layer in products(net):
            layer.weight /= net[: number + 1](x)[0].std()
            layer.bias.zero_()
            layer.bias -= net[: number + 1](x)[0].mean()


@torch.no_grad()
def biased(net, x):
    for layer in products(net):
        layer.bias.fill_(0.5)


STARTS = {  # by name: what it does with the network and its first batch, what it sets in the config, its description
    "published": (None, {}, "torch's own: weights and biases uniform up to 1 / sqrt(fan-in)"),
    "init: kaiming": (None, {"hyperparameters.init": "kaiming"}, "Kaiming's weights, biases half the threshold"),
    "Kaiming, biases 0": (kaiming, {}, "normal with deviation sqrt(2 / fan-in)"),
    "biases 0.5": (biased, {}, "published weights, biases half the threshold"),
    "calibrated": (calibrated, {}, "on the first batch each layer's currents have mean 0 and deviation 1"),
    "threshold 0.5": (None, {"hyperparameters.threshold": 0.5}, "throughout; weights as published"),
    "wide surrogate": (None, {"hyperparameters.surrogate_arguments": "{sigma: 1.0}"}, "throughout; instead of 0.4"),
}
TRY_ALL, TRIED_EVERYWHERE = ("MNIST CNN, lr 1e-3", "gesture demo, lr 1e-3"), list(STARTS)[:3]
COLORS = ["dimgrey", "#0072b2", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#e69f00"]


def products(net):
    """Return the dense layers and convolutions of a network."""
    return [layer for layer in net if isinstance(layer, (nn.Linear, nn.Conv2d))]


def train(name, start, seed, roots):
    """Train for the first steps; return the row of the CSV."""
    process.tune()
    script, changes, steps = NETWORKS[name]
    change, of_start, _ = STARTS[start]
    demo = changes is None
    changes = {"pytorch_seed": seed, "precision": "bf16"} | (changes or {}) | of_start
    if not demo:
        changes["dataset.root"] = roots[script]
    overrides = [f"{key}={value}" for key, value in changes.items()]
    yaml = ROOT / "configs" / f"{script}.yaml"
    settings = config.resolve(yaml, demo=demo, overrides=overrides, warn=lambda _: None)
    device, task = torch.device("cpu"), Classification().of(settings)
    torch.manual_seed(seed)
    net = importlib.import_module(script).network(settings)
    initialize(net, settings["hyperparameters"])
    with contextlib.redirect_stdout(io.StringIO()):
        splits, _ = datasets.load(settings, device, net.input_shape)
    generator, optimizer = data_generator(device, settings), make_optimizer(settings, net)
    batch_size, losses = settings["hyperparameters"]["batch_size"], []
    epochs = (splits["train"].batches(batch_size, generator, shuffle=True) for _ in repeat(None))
    for x, labels in islice(chain.from_iterable(epochs), steps):
        if change and not losses:
            change(net, x)
        optimizer.zero_grad()
        loss, _, _ = forward(net, task, settings, x, labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with contextlib.redirect_stdout(io.StringIO()):
        dev = evaluate(net, splits["dev"], settings, task)
    guessing = math.log(products(net)[-1].out_features)
    fallen = (n for n, mean in enumerate(means(losses), WINDOW) if mean < FALLEN * guessing)
    return {
        "network": name, "start": start, "seed": seed, "fallen_after": next(fallen, ""),
        "dev": round(task.value(dev), 2), "losses": " ".join(f"{loss:.3f}" for loss in losses),
    }  # fmt: skip


def means(losses):
    """Return the mean of the last WINDOW losses at each step, from the WINDOWth on."""
    return [statistics.mean(losses[n - WINDOW : n]) for n in range(WINDOW, len(losses) + 1)]


def run_all(roots, jobs, file):
    """Do the runs that the CSV lacks; return all its rows, as strings."""
    wanted = [
        (name, start, seed) for seed in SEEDS for name in NETWORKS for start in STARTS
        if name in TRY_ALL or start in TRIED_EVERYWHERE
    ]  # fmt: skip

    def order(row):
        return list(NETWORKS).index(row["network"]), list(STARTS).index(row["start"]), row["seed"]

    return complete(file, ("network", "start", "seed"), wanted, partial(train, roots=roots), order, jobs)


def of(rows, name, start):
    return [row for row in rows if (row["network"], row["start"]) == (name, start)]


def table(rows):
    """Return the Markdown table: by network and start, steps and dev accuracy of each seed."""
    lines = [
        f"Steps until the loss, as the mean of {WINDOW} steps, is a tenth below that of guessing, and dev accuracy in",
        "percent after the last step; seeds 2, 3 and 4, `precision: bf16`. Made by `python benchmarks/first_steps.py`.",
    ]
    for name, (_, _, steps) in NETWORKS.items():
        lines += [
            "",
            f"## {name}",
            "",
            f"| Start | What | Begun after steps | Dev after {steps} |",
            "|---|---|---|---|",
        ]
        for start, (_, _, what) in STARTS.items():
            found = of(rows, name, start)
            begun, dev = ([row[key] or "never" for row in found] for key in ("fallen_after", "dev"))
            lines += [f"| {start} | {what} | {', '.join(begun)} | {', '.join(dev)} |"] if found else []
    return "\n".join(lines) + "\n"


def draw(rows):
    """Draw the loss over the steps, by network and start: the mean of the seeds, and the range of those."""
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    for axis, name in zip(figure.subplots(2, 2).flat, NETWORKS):
        for color, start in zip(COLORS, STARTS):
            curves = [means([float(loss) for loss in row["losses"].split()]) for row in of(rows, name, start)]
            if curves:
                steps, width = range(WINDOW, WINDOW + len(curves[0])), 2.5 if start == "init: kaiming" else 1.2
                draw_seeds(axis, steps, curves, color, 0.12, label=start, lw=width)
        axis.set_title(name, fontsize=10)
        axis.set(xlabel="step", ylabel="loss", ylim=(0, 3.2))
        axis.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure


def main():
    parser = command_line(__doc__)
    parser.add_argument("--mnist", type=Path, default=ROOT / "data", help="folder of MNIST/raw")
    parser.add_argument("--nmnist", type=Path, default=ROOT / "data/N-MNIST", help="folder of Train and Test")
    args = parser.parse_args()
    roots = {"snn_conv_1_mnist": args.mnist.resolve(), "snn_conv_1_nmnist": args.nmnist.resolve()}
    rows = run_all(roots, args.jobs, args.out / "first_steps.csv")
    write_text(args.out / "first_steps.md", table(rows))
    write_picture(args.out / "first_steps.png", draw(rows))


if __name__ == "__main__":
    main()
