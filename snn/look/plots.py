"""What pictures share: colours, sizes, and how inputs, spikes and neurons are drawn. Each draws with matplotlib."""

import torch
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from snn.base.errors import printable

BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"  # told apart by colour-blind readers too (Okabe, Ito 2008)
POLARITIES = LinearSegmentedColormap.from_list("polarities", [BLUE, "white", ORANGE])  # darker, nothing, brighter
WIDTH = 12  # inches, of the pictures on a page
NEURONS = 150  # lines of a large layer or input that are drawn


def panels(count, columns, height):
    """Return a figure with `count` panels, `columns` of them in a row, `height` inches each, and their axes."""
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH, height * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[count:]:
        axis.axis("off")
    return figure, axes[:count]


def literal(text):
    """Return a text as matplotlib draws it as it is: $ would begin a formula."""
    return printable(text).replace("$", r"\$")


def color_legend(figure, colors):
    """Say in a corner of a figure what colours mean, a dict from names."""
    for name, color in colors.items():
        figure.axes[0].plot([], [], "s", color=color, label=name)
    figure.legend(loc="outside upper right", ncols=2, fontsize=8, frameon=False)


def busiest(values, count=NEURONS):
    """Return the numbers of the `count` lines of `[T, N]` with the largest sums, in order."""
    return values.sum(0).argsort(descending=True, stable=True)[:count].sort()[0]


def draw_input(axis, x):
    """Draw an input `[T, *shape]` as one picture: an image, a camera's two polarities, trains, or series over time."""
    mean = x.float().mean(0)
    if mean.dim() == 1 and mean.numel() == 784:
        mean = mean.view(1, 28, 28)
    if mean.dim() == 1:
        if ((x == 0) | (x == 1)).all():
            draw_trains(axis, x)
            axis.set(xlabel="time step", ylabel="input train")
        else:
            axis.plot(x.numpy(), lw=0.9)
            axis.set(xlabel="time step", ylabel="scaled value", xlim=(-1, len(x)))
        return
    if len(mean) == 2:
        signed = (mean[1] - mean[0]).T  # [X, Y] to rows and columns
        largest = signed.abs().max().clamp(min=1e-9).item()
        axis.imshow(signed.numpy(), cmap=POLARITIES, vmin=-largest, vmax=largest)
    else:
        axis.imshow(mean[0].numpy(), cmap="gray_r", vmin=0)
    axis.set(xticks=[], yticks=[])


def draw_trains(axis, spikes, color="black"):
    """Draw spikes `[T, N]`, a dot for each: time to the right, trains from top to bottom like an image's rows."""
    time, train = spikes.cpu().nonzero(as_tuple=True)
    axis.scatter(time, train, s=1.2, c=color, marker="s", linewidths=0)
    axis.set(xlim=(-1, len(spikes)), ylim=(spikes.shape[1], -1))


def draw_raster(axis, label, spikes):
    """Draw spikes `[T, *features]` of a layer's busiest neurons, in neuron order."""
    flat = spikes.flatten(1).cpu()
    shown = busiest(flat)
    step, neuron = flat[:, shown].nonzero(as_tuple=True)
    axis.scatter(step, neuron, s=max(3, 600 / len(shown)), c="black", marker="|", linewidths=1)
    axis.set(xlim=(-1, len(flat)), ylim=(-1, len(shown)), xlabel="time step")
    are_all = len(shown) == flat.shape[1]
    axis.set_ylabel("neuron" if are_all else "neurons drawn, in order")
    of_all = "" if are_all else f" of {flat.shape[1]}"
    axis.set_title(f"spikes of {label}:\n{len(shown)}{of_all} neurons", fontsize=10)


def typical_neuron(spikes):
    """Return the neuron with the median number of spikes of those that spike; spikes `[T, N]`."""
    counts = spikes.sum(0)
    return int(counts.argsort()[-(int((counts > 0).sum()) // 2 + 1)])


def draw_neuron(axis, layer, states, spikes, colors):
    """Draw a neuron's states `[T]`, its layer's threshold, if it has a single one, and its spikes `[T]`.

    `states` and their `colors` are by name.
    """
    for name, values in states.items():
        axis.plot(values.cpu(), color=colors[name], lw=1.2, label={"v": "potential"}.get(name, name))
    threshold = getattr(layer, "threshold", None)
    if torch.is_tensor(threshold) and threshold.numel() == 1:
        threshold = threshold.item()
    if isinstance(threshold, (int, float)):
        axis.axhline(threshold, color="gray", lw=0.8, ls="--", label="threshold")
    draw_ticks(axis, spikes, ORANGE)


def draw_ticks(axis, spikes, color, row=0):
    """Draw short lines above the curve, at the times of spikes `[T]`; rows are counted upwards."""
    time, low = spikes.cpu().nonzero()[:, 0], 1.02 + 0.09 * row
    axis.vlines(time, low, low + 0.08, color=color, lw=1, transform=axis.get_xaxis_transform(), clip_on=False)
