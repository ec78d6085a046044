"""Pictures of spikes and filters, as matplotlib figures."""

import numpy as np
import torch
from matplotlib.figure import Figure

from snn.neurons import SpikingNeuron
from snn.synapses import DualExpIIR, FirstOrderLowPass

BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"  # told apart by colour-blind readers too (Okabe, Ito 2008)
STEPS = 40  # of an impulse response
LINES = 60  # trained filters that are drawn of each layer


def raster(axes, spikes, title=None, color="black"):
    """Draw spikes `[T, N]`, a dot for each: time to the right, trains upward from the bottom as in an image's rows."""
    time, train = spikes.cpu().nonzero(as_tuple=True)
    length, trains = spikes.shape
    axes.scatter(time, train, s=1.2, c=color, marker="s", linewidths=0)
    axes.set(xlim=(-1, length), ylim=(trains, -1))
    if title:
        axes.set_title(title, fontsize=10)


def recall(x, target, spikes):
    """For each pattern the corrupted input, the target and the output, all `[T, P, N]`, two patterns in a row."""
    count = x.shape[1]
    rows = -(-count // 2)
    figure = Figure(figsize=(12, 2.05 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, 6, sharex=True, sharey=True, squeeze=False)
    for pattern in range(2 * rows):
        of_pattern = axes[pattern // 2, 3 * (pattern % 2) : 3 * (pattern % 2) + 3]
        for axis, sequence, title in zip(of_pattern, (x, target, spikes), ("input", "target", "output")):
            if pattern < count:
                raster(
                    axis, sequence[:, pattern], title if pattern < 2 else None, BLUE if title == "output" else "black"
                )
            else:
                axis.axis("off")
    for axis in axes[-1]:
        axis.set_xlabel("time step")
    for axis in axes[:, 0]:
        axis.set_ylabel("spike train")
    return figure


def recall_curves(lines):
    """F1 over growing corruption, a panel for each kind; `lines` as of `snn.recall.table`."""
    labels = {"noise": "probability of a noise spike", "rows": "silenced rows", "jitter_std": "jitter (steps)"}
    kinds = list(dict.fromkeys(line["corruption"] for line in lines))
    figure = Figure(figsize=(3.6 * len(kinds), 3), layout="constrained")
    axes = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axis, kind in zip(axes, kinds):
        own = [line for line in lines if line["corruption"] == kind]
        for score, color, marker in (("f1", BLUE, "o"), ("precision", ORANGE, "^"), ("recall", GREEN, "v")):
            values = [line[score] for line in own]
            axis.plot([line["size"] for line in own], values, marker=marker, ms=4, color=color, label=score)
        axis.set(xlabel=labels[kind], ylim=(0, 1.03))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("of the spikes, within a step")
    axes[0].legend(fontsize=8)
    return figure


def impulse_responses(before, after):
    """What each synapse layer makes of a single spike, in a network before and after training."""
    pairs = [(a, b) for a, b in zip(before, after) if isinstance(b, (DualExpIIR, FirstOrderLowPass))]
    figure = Figure(figsize=(3.2 * len(pairs), 2.9), layout="constrained")
    axes = figure.subplots(1, len(pairs), sharey=True, squeeze=False)[0]
    for number, (axis, (untrained, trained)) in enumerate(zip(axes, pairs), 1):
        responses = _responses(trained)
        shown = np.linspace(0, responses.shape[1] - 1, min(LINES, responses.shape[1])).astype(int)
        axis.plot(range(STEPS), responses[:, shown], color=BLUE, lw=0.6, alpha=0.5)
        axis.plot([], [], color=BLUE, lw=1, label=f"trained, {len(shown)} of {responses.shape[1]}")
        axis.plot(range(STEPS), _responses(untrained)[:, 0], color=ORANGE, lw=2, label="before")
        axis.set_xlabel("steps after the spike")
        axis.set_title(f"synapse layer {number}", fontsize=10)
        axis.legend(fontsize=7)
    axes[0].set_ylabel("psp")
    return figure


@torch.no_grad()
def _responses(synapse):
    """Impulse responses `[STEPS, lines]` of a synapse layer."""
    x = torch.zeros(STEPS, 1, *synapse.shape, device=next(synapse.parameters()).device)
    x[0] = 1
    return synapse(x)[0].flatten(1).cpu().numpy()


def path(net, x, outputs, target):
    """The way of the pattern's busiest input train through the layers: its psp, then a neuron's potential and spikes.

    Args:
        net: the network; after its last neurons comes the output filter.
        x: `[T, P, N]`; the first pattern is drawn.
        outputs: of each layer, `[T, P, *]`.
        target: spikes `[T, P, N]`.
    """
    neurons = [place for place, layer in enumerate(net) if isinstance(layer, SpikingNeuron)]
    train = int(x[:, 0].sum(0).argmax())
    figure = Figure(figsize=(9, 1.5 * (len(neurons) + 1)), layout="constrained")
    axes = figure.subplots(len(neurons) + 1, 1, sharex=True)
    axes[0].plot(outputs[0][:, 0, train].cpu(), color=BLUE, lw=1)
    axes[0].set_ylabel("psp")
    axes[0].set_title(f"input train {train}: spikes and their psp", fontsize=10, pad=13)
    _ticks(axes[0], x[:, 0, train], "black", 0)
    for number, (axis, place) in enumerate(zip(axes[1:], neurons), 1):
        spikes = outputs[place][:, 0]
        is_last = place == neurons[-1]
        neuron = train if is_last else _typical(spikes)
        potential = _potential(net[place], outputs[place - 1][:, 0, neuron], spikes[:, neuron])
        axis.plot(potential.cpu(), color=BLUE, lw=1)
        axis.axhline(1, color="gray", lw=0.8, ls="--")
        _ticks(axis, spikes[:, neuron], ORANGE, 0)
        if is_last:
            _ticks(axis, target[:, 0, train], "black", 1)
        what = f"output train {neuron}: potential, spikes (orange), target (black)" if is_last else (
            f"hidden layer {number}, neuron {neuron}: potential and spikes (orange)"
        )  # fmt: skip
        axis.set_title(what, fontsize=10, pad=20 if is_last else 13)
        axis.set_ylabel("potential")
    axes[-1].set_xlabel("time step")
    return figure


def _typical(spikes):
    """The neuron whose number of spikes is the median of those that spike; spikes `[T, N]`."""
    counts = spikes.sum(0)
    in_order = counts.argsort()
    return int(in_order[-(int((counts > 0).sum()) // 2 + 1)])


def _ticks(axis, spikes, color, row):
    """Short lines above the curve, at the times of spikes `[T]`."""
    time = spikes.cpu().nonzero()[:, 0]
    axis.vlines(time, 1.02 + 0.09 * row, 1.1 + 0.09 * row, color=color, lw=1, transform=axis.get_xaxis_transform(),
                clip_on=False)  # fmt: skip


def _potential(neuron, current, spikes):
    """The potential `[T]` of a neuron from its current and its spikes: v[t] = I[t] - r[t-1], filtered if it says so."""
    filtered = FirstOrderLowPass(1, neuron.tau_m, trainable=False).to(current.device)
    reset = filtered(spikes.view(-1, 1, 1))[0].roll(1, 0)
    reset[0] = 0
    potential = current.view(-1, 1, 1) - reset
    return (filtered(potential)[0] if neuron.membrane_filter else potential).flatten()
