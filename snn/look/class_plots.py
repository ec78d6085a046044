"""Pictures of classification: samples and what a network answers."""

import numpy as np
from matplotlib.figure import Figure

from snn.layers.layer import hidden_layers
from snn.look.filter_plots import LINES, draw_responses, synapses
from snn.look.labels import layer_labels
from snn.look.plots import BLUE, ORANGE, WIDTH, busiest, color_legend, draw_input, draw_raster, literal, panels

HIDDEN = 3  # layers drawn in an overview; more would be too small to see
WINDOWS = 6  # time windows drawn of a recording
MISTAKES_IN_A_ROW = 5
START, END = 20, 9  # letters that are drawn of a class's name, if it is longer: such names often begin alike


def class_labels(names):
    """Return what pictures call classes: their names, without the middle where long."""
    return [literal(name if len(name) <= START + END else f"{name[:START]}…{name[-END:]}") for name in names]


def overview(before, after, x, counts, label, answer, spikes, classes):
    """Draw a sample's path: input, the filters of its busiest lines, spikes of each layer, output counts.

    Args:
        before, after: the network before and after training.
        x: input `[T, *shape]`.
        counts: of output spikes, `[classes]`.
        label, answer: integers.
        spikes: of the sample, `[T, *features]`, by layer.
        classes: what to call them, a list.
    """
    labels, behind = layer_labels(after), hidden_layers(after)
    hidden = [(name, of_layer) for name, of_layer in spikes.items() if name in behind][:HIDDEN]
    widths = [1, 1.4, *[1.4] * len(hidden), 1.4]
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    image, filters, *rasters, output = figure.subplots(1, len(widths), width_ratios=widths)
    draw_input(image, x.cpu())
    image.set_title("input", fontsize=10)
    _, untrained, trained = synapses(before, after)[0]
    is_input = trained.shape == x.shape[1:]
    draw_responses(filters, untrained, trained, busiest(x.flatten(1), LINES).cpu() if is_input else None)
    filters.set_title("its synapses' response\nto a single spike (psp)", fontsize=10)
    for axis, (name, of_layer) in zip(rasters, hidden):
        draw_raster(axis, labels[name], of_layer)
    _draw_counts(output, counts, label, answer, classes)
    return figure


def samples(x, encoded, counts, labels, answers, classes):
    """Draw a row for each sample: its input, the busiest lines that encode it, and the output spike counts.

    Args:
        x: input `[T, B, *shape]`.
        encoded: spikes or values that it is encoded in, `[T, B, *features]`; None draws none.
        counts: of output spikes, `[B, classes]`.
        labels, answers: `[B]`.
        classes: what to call them, a list.
    """
    count, widths = x.shape[1], [1, 1.4] if encoded is None else [1, 1.6, 1.4]
    figure = Figure(figsize=(WIDTH, 2.4 * count), layout="constrained")
    axes = figure.subplots(count, len(widths), squeeze=False, width_ratios=widths)
    for n, (image, *lines, output) in enumerate(axes):
        draw_input(image, x[:, n].cpu())
        for axis in lines:
            _draw_lines(axis, encoded[:, n].flatten(1).cpu())
        _draw_counts(output, counts[n], int(labels[n]), int(answers[n]), classes)
    for axis, title in zip(axes[0, :-1], ("input", "encoded")):
        axis.set_title(title, fontsize=10)
    return figure


def _draw_lines(axis, values):
    """Draw the busiest lines of an input `[T, N]`."""
    shown = busiest(values)
    axis.imshow(values[:, shown].T.numpy(), cmap="gray_r", aspect="auto", interpolation="nearest")
    axis.set(xlabel="time step", ylabel=f"input line ({len(shown)} busiest)")


def _draw_counts(axis, counts, label, answer, classes):
    """Draw how often each output neuron spikes, `[classes]`; the answer is blue if it is the label, else orange."""
    counts = counts.cpu().numpy()
    colors = ["silver"] * len(counts)
    colors[answer] = BLUE if answer == label else ORANGE
    axis.barh(range(len(counts)), counts, color=colors)
    are_counts = (counts >= 0).all() and (counts == counts.round()).all()
    what = "output spikes" if are_counts else "output, summed"  # potentials of a readout
    axis.set(xlabel=what, ylabel="class", xlim=(min(0, 1.05 * counts.min()), max(1, 1.05 * counts.max())))
    axis.xaxis.get_major_locator().set_params(integer=bool(are_counts))
    _name_ticks(axis.yaxis, classes)
    axis.invert_yaxis()
    answered = f"answer {classes[answer]}" if counts.any() else "no output spike"
    axis.set_title(f"label {classes[label]},\n{answered}", fontsize=10, loc="right")


def _name_ticks(axis, classes, **style):
    axis.set_ticks(range(len(classes)), classes, fontsize=min(8, 90 / len(classes)), **style)


def event_windows(x):
    """Draw frames `[T, 2, X, Y]`, averaged over consecutive time windows."""
    count = min(WINDOWS, len(x))
    figure, axes = panels(count, count, 2.8)
    edges = np.linspace(0, len(x), count + 1).astype(int)
    size_x, size_y = x.shape[2:]
    for axis, first, end in zip(axes, edges, edges[1:]):
        draw_input(axis, x[first:end].cpu())
        axis.set(xticks=[0, size_x - 1], yticks=[0, size_y - 1], xlabel="x (pixels)")
        axis.set_title(f"steps {first} to {end - 1}", fontsize=10)
    axes[0].set_ylabel("y (pixels)")
    color_legend(figure, {"brighter": ORANGE, "darker": BLUE})
    return figure


def confusion(counts, classes):
    """Draw how often samples of a class (rows) get an answer (columns); `classes` is what to call them, a list."""
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    figure, (axis,) = panels(1, 1, 5)
    shown = axis.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    figure.colorbar(shown, label="share of the class")
    for label, answer in counts.nonzero().tolist():
        color = "white" if share[label, answer] > 0.5 else "black"
        axis.text(answer, label, int(counts[label, answer]), ha="center", va="center", fontsize=8, color=color)
    axis.set(xlabel="answer", ylabel="label")
    long = max(map(len, classes)) > 8  # letters
    _name_ticks(axis.yaxis, classes)
    _name_ticks(axis.xaxis, classes, **({"rotation": 30, "ha": "right"} if long else {}))
    return figure


def mistakes(inputs, answers, classes):
    """Draw inputs `[T, B, *shape]`, each with its (label, answer); `classes` is what to call them, a list."""
    figure, axes = panels(len(answers), MISTAKES_IN_A_ROW, 2.9)
    for axis, x, (label, answer) in zip(axes, inputs.cpu().unbind(1), answers):
        draw_input(axis, x)
        axis.set_title(f"label {classes[label]},\nanswer {classes[answer]}", fontsize=9)
    return figure
