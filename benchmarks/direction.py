"""What trained synapse filters are worth where time alone tells the classes apart: bars that move in four directions.

    python benchmarks/direction.py    all runs that results/tables/direction.csv lacks, then the table and the picture

A bar is seen for one step, is dark for the rest of a pause, and is then seen one pixel further; it starts anywhere and
goes around. So neither a frame nor the sum of all frames tells where it goes: a network must still hold the last place
when the next one comes. The networks differ in their filters alone: `trained`, `fixed` as they start (tau_m 4 steps),
and `none`. Writes a row for each run to direction.csv, which is kept, so it can be stopped; from it direction.md and
direction.png.
"""

import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import nn

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import snn  # noqa: E402
from benchmarks.runs import command_line, complete  # noqa: E402
from snn.base.files import write_picture, write_text  # noqa: E402
from snn.layers.synapses import Unfiltered  # noqa: E402

FILTERS = {
    "trained": lambda shape: snn.DualExpIIR(shape, TAU_M, TAU_S),
    "fixed": lambda shape: snn.DualExpIIR(shape, TAU_M, TAU_S, trainable=False),
    "none": Unfiltered,
}
COLORS = {"trained": "#0072b2", "fixed": "#d55e00", "none": "dimgrey"}
TAU_M, TAU_S = 4, 1
PAUSES = (4, 8, 12)  # steps from one place to the next
SEEDS = range(1, 4)
LENGTH, SIZE, CHANNELS = 48, 12, 8
NOISE = 0.01  # of a pixel's steps have a spike of no bar
BATCH, STEPS, TESTED = 32, 500, 1024  # samples of a training step, such steps, samples of the test
LR = 2e-3
ANGLES = 4  # the directions, as turns by 90 degrees
SHOWN = 40  # steps of an impulse response


def bars(count, pause, generator):
    """Return moving bars, spikes `[T, N, 1, SIZE, SIZE]`, and their directions `[N]`, 0 to 3."""
    labels = torch.randint(ANGLES, (count,), generator=generator)
    start, first = (torch.randint(limit, (count,), generator=generator) for limit in (SIZE, pause))
    x = torch.rand(LENGTH, count, 1, SIZE, SIZE, generator=generator) < NOISE
    samples = torch.arange(count)
    for move, step in enumerate(range(0, LENGTH, pause)):
        shown = first + step < LENGTH
        x[(first + step)[shown], samples[shown], 0, ((start + move) % SIZE)[shown]] = True
    for turns in range(1, ANGLES):
        x[:, labels == turns] = x[:, labels == turns].rot90(turns, (3, 4))
    return x.float(), labels


def network(synapse):
    """Return 12x12 - 8C3 - P2 - 4 with such filters, and weights with which it does not start silent."""
    net = snn.Sequential(
        synapse((1, SIZE, SIZE)), snn.Conv2d(1, CHANNELS, 3, padding=1), snn.SpikingNeuron(TAU_M), nn.MaxPool2d(2),
        nn.Flatten(), synapse(CHANNELS * SIZE**2 // 4), snn.Linear(CHANNELS * SIZE**2 // 4, ANGLES),
        snn.SpikingNeuron(TAU_M),
    )  # fmt: skip
    for layer in net:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight)
    return net


def train(filters, pause, seed):
    """Train once; return the row of the CSV."""
    began, generator = time.monotonic(), torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    net = network(FILTERS[filters])
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], LR)
    for _ in range(STEPS):
        x, labels = bars(BATCH, pause, generator)  # new ones at every step: nothing to remember them by
        optimizer.zero_grad()
        F.cross_entropy(net(x)[0].sum(0), labels).backward()
        optimizer.step()
        snn.stabilize(net)
    with torch.no_grad():
        x, labels = bars(TESTED, pause, generator)
        right = (net(x)[0].sum(0).argmax(1) == labels).double().mean().item()
        impulse = torch.zeros(SHOWN, 1, 1, SIZE, SIZE)
        impulse[0] = 1
        response = net[0](impulse)[0].mean((1, 2, 3, 4))
    return {
        "filters": filters, "pause": pause, "seed": seed, "test": round(100 * right, 2),
        "seconds": round(time.monotonic() - began, 1),
        "response": " ".join(f"{value:.4f}" for value in response.tolist()),
    }  # fmt: skip


def order(row):
    return row["seed"], int(row["pause"]), list(FILTERS).index(row["filters"])


def of(rows, filters, pause, column):
    return [row[column] for row in rows if (row["filters"], row["pause"]) == (filters, str(pause))]


def table(rows):
    """Return the Markdown table of test accuracies."""
    lines = [
        f"Accuracy in percent on {TESTED} new bars, mean and range of {len(SEEDS)} seeds; 50 is to know the axis and",
        "to guess the direction. Made by `python benchmarks/direction.py`.", "",
        "| Steps from one place to the next | Trained filters | Fixed | None |", "|---|---|---|---|",
    ]  # fmt: skip
    for pause in PAUSES:
        values = [[float(value) for value in of(rows, filters, pause, "test")] for filters in FILTERS]
        cells = [f"{statistics.mean(v):.1f} ({min(v):.1f} to {max(v):.1f})" if v else "not run" for v in values]
        lines.append(f"| {pause} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(rows):
    """Draw accuracies by pause, and the mean impulse response of the first filters before and after training."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for filters, color in COLORS.items():
        values = [[float(value) for value in of(rows, filters, pause, "test")] for pause in PAUSES]
        for pause, of_pause in zip(PAUSES, values):
            left.plot([pause] * len(of_pause), of_pause, "o", ms=4, mfc="none", color=color, alpha=0.6)
        means = [(pause, statistics.mean(v)) for pause, v in zip(PAUSES, values) if v]
        left.plot(*zip(*means), color=color, label=filters)
    left.axhline(50, color="lightgrey", ls=":", zorder=0)
    left.set(xticks=PAUSES, xlabel="steps from one place to the next", ylabel="test accuracy (%)", ylim=(40, 102))
    left.legend(frameon=False, title="filters")
    drawn = [(pause, "trained", f"trained, {pause} steps") for pause in PAUSES]
    drawn.append((PAUSES[0], "fixed", "as they start"))
    for (pause, filters, label), shade in zip(drawn, ("#9ecae1", "#4292c6", "#08306b", COLORS["fixed"])):
        responses = [[float(v) for v in text.split()] for text in of(rows, filters, pause, "response")]
        right.plot([statistics.mean(v) for v in zip(*responses)], color=shade, label=label)
    right.set(xlabel="steps after a spike", ylabel="mean response of the input's filters", ylim=(0, None))
    right.legend(frameon=False)
    return figure


def main():
    parser = command_line(__doc__)
    args = parser.parse_args()
    out, columns = args.out, ("filters", "pause", "seed")
    wanted = [(filters, pause, seed) for seed in SEEDS for pause in PAUSES for filters in FILTERS]
    rows = complete(out / "direction.csv", columns, wanted, train, order, args.jobs)
    write_text(out / "direction.md", table(rows))
    write_picture(out / "direction.png", draw(rows))


if __name__ == "__main__":
    main()
