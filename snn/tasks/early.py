"""How early a network's answer is right: accuracy against the share of each series that it has seen."""

from pathlib import Path

import torch
from matplotlib.figure import Figure

from snn.base.files import write_csv
from snn.base.output import say
from snn.layers.state import preserved_state
from snn.look import drive
from snn.look.plots import BLUE, WIDTH

PARTS = 20
SHARES = torch.arange(1, PARTS + 1) / PARTS
PRINTED = (0.1, 0.25, 0.5, 0.75, 1)


@torch.no_grad()
def right_by_share(net, split, config, task):
    """Return whether the answer is right after each of SHARES of each series, bool `[shares, N]`.

    The answer is the class with the most output spikes so far; ties are decided as the config says.
    """
    found, everything, preserved = [], torch.arange(len(split), device=split.device), preserved_state(config)
    generator = torch.Generator(split.device)  # series have nothing random in them
    for x, targets in split.batches_of(everything.split(config["hyperparameters"]["batch_size"]), generator):
        y, end, of_output = drive.run(net.eval(), config, x, preserved and preserved.take(x.shape[1]))
        if preserved:
            preserved.keep(end)
        y, labels = task.counted(y, targets)
        parts = torch.arange(1, PARTS + 1, device=y.device)[:, None]
        last = (parts * targets[1] + PARTS - 1) // PARTS - 1  # last step of each share, rounded up, [shares, B]
        last = last[..., None].expand(-1, -1, y.shape[2])
        so_far = y.cumsum(0).gather(0, last)
        if config["ties"] == "potential":
            so_far = so_far + drive.less_than_a_spike(of_output.cumsum(0).gather(0, last))
        found.append(so_far.argmax(2) == labels)
    return torch.cat(found, 1).cpu()


def report(right, folder):
    """Print the accuracy by share, write it to a run's folder as early.csv, and return its picture."""
    accuracy = 100 * right.double().mean(1)
    by_share = [{"share": round(s.item(), 2), "accuracy": round(a.item(), 2)} for s, a in zip(SHARES, accuracy)]
    shown = [line for line in by_share if line["share"] in PRINTED]
    say("right after " + ", ".join(f"{line['share']:.0%} of each series: {line['accuracy']:.1f} %" for line in shown))
    settled = right.flip(0).cumprod(0).sum(0)  # number of last shares at which the answer is right
    if settled.any():
        delay = (PARTS + 1 - settled[settled > 0].double().median().item()) / PARTS
        say(f"of the series that end right, half are right from {delay:.0%} of their length on")
    write_csv(Path(folder) / "early.csv", by_share)
    caption = "Accuracy when the answer is taken early: after a share of each series."
    return {"early": (lambda: _picture(by_share), caption)}


def _picture(by_share):
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axis = figure.subplots()
    share, accuracy = zip(*((100 * line["share"], line["accuracy"]) for line in by_share))
    axis.plot(share, accuracy, "o-", ms=4, color=BLUE)
    axis.set(xlabel="share of the series seen (%)", ylabel="accuracy (%)", xlim=(0, 102), ylim=(0, 102))
    axis.grid(alpha=0.3)
    return figure
