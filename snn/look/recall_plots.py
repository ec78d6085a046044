"""Pictures of an associative memory: what it recalls, and how well."""

from matplotlib.figure import Figure

from snn.look.labels import layer_labels
from snn.look.plots import BLUE, GREEN, ORANGE, WIDTH, draw_neuron, draw_ticks, draw_trains, typical_neuron


def recall(x, target, spikes):
    """Draw for each pattern the corrupted input, the target and the output, all `[T, P, N]`, two patterns in a row."""
    count = x.shape[1]
    rows = -(-count // 2)
    figure = Figure(figsize=(WIDTH, 2.05 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, 6, sharex=True, sharey=True, squeeze=False)
    for pattern in range(2 * rows):
        first = 3 * (pattern % 2)
        of_pattern = axes[pattern // 2, first : first + 3]
        for axis, sequence, title in zip(of_pattern, (x, target, spikes), ("input", "target", "output")):
            if pattern < count:
                draw_trains(axis, sequence[:, pattern], BLUE if title == "output" else "black")
                axis.set_title(title if pattern < 2 else "", fontsize=10)
            else:
                axis.axis("off")
    for axis in axes[-1]:
        axis.set_xlabel("time step")
    for axis in axes[:, 0]:
        axis.set_ylabel("spike train")
    return figure


def recall_curves(lines):
    """Draw F1, precision and recall over increasing corruption, a panel for each kind.

    `lines` are as from `snn.tasks.recall.table`.
    """
    labels = {"noise": "probability of a noise spike", "rows": "silenced rows", "jitter_std": "jitter (steps)"}
    kinds = list(dict.fromkeys(line["corruption"] for line in lines))
    figure = Figure(figsize=(WIDTH, 3), layout="constrained")
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


def path(net, x, trace, target):
    """Draw the path of a pattern's busiest input train: its psp, then a neuron's potential and spikes in each layer.

    Args:
        net: the network that the trace is of.
        x: `[T, P, N]`; the first pattern is drawn.
        trace: from `snn.record`, with psp, spikes and v of all layers.
        target: spikes `[T, P, N]`.
    """
    (*hidden, output), labels = trace.spikes, layer_labels(net)
    train = int(x[:, 0].sum(0).argmax())
    figure = Figure(figsize=(WIDTH, 1.5 * (len(hidden) + 2)), layout="constrained")
    axes = figure.subplots(len(hidden) + 2, 1, sharex=True)
    psp = next(iter(trace.psp.values()))
    axes[0].plot(psp[:, 0, train].cpu(), color=BLUE, lw=1.2)
    axes[0].set_ylabel("psp")
    axes[0].set_title(f"input train {train}: spikes and their psp", fontsize=10, pad=13)
    draw_ticks(axes[0], x[:, 0, train], "black")
    for axis, layer in zip(axes[1:], (*hidden, output)):
        spikes = trace.spikes[layer][:, 0]
        neuron = train if layer == output else typical_neuron(spikes)
        draw_neuron(axis, net.get_submodule(layer), {"v": trace.v[layer][:, 0, neuron]}, spikes[:, neuron], {"v": BLUE})
        axis.set_title(f"{labels[layer]}, neuron {neuron}: potential and spikes (orange)", fontsize=10, pad=13)
        axis.set_ylabel("potential")
    draw_ticks(axes[-1], target[:, 0, train], "black", row=1)
    title = f"output train {train}: potential, spikes (orange), target (black)"
    axes[-1].set_title(title, fontsize=10, pad=20)
    axes[-1].set_xlabel("time step")
    return figure
