"""Pictures of spikes and filters, as matplotlib figures."""

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from snn.base.errors import printable
from snn.layers.encoders import ENCODERS
from snn.layers.layer import output_name, state_names
from snn.layers.synapses import Synapse

BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"  # told apart by colour-blind readers too (Okabe, Ito 2008)
WIDTH = 12  # inches, of the pictures on a page
STEPS = 40  # of an impulse response
LINES = 60  # trained filters drawn per layer
NEURONS = 150  # neurons of a large layer drawn in a raster
WINDOWS = 6  # time windows drawn of a recording
MISTAKES_IN_A_ROW = 5
LONGEST_NAME = 30  # letters of a class's name
LABELLED = 20  # runs of a search with a line of their own in the legend


def layer_labels(net):
    """Return what pictures call each layer of a network, by its name: "synapses 1", "Linear 1", "hidden 1", "output".

    Layers of a kind are counted from the input on; the last one that spikes is the output.
    """
    labels, numbers, output = {}, {}, []
    for name, layer in net.named_modules():
        kind = "synapses" if isinstance(layer, Synapse) else type(layer).__name__
        if isinstance(layer, ENCODERS):
            labels[name] = "encoder"
            continue
        if output_name(layer) == "spikes":
            kind, output = "hidden", [name]
        numbers[kind] = numbers.get(kind, 0) + 1
        labels[name] = f"{kind} {numbers[kind]}"
    return labels | dict.fromkeys(output, "output")


def class_labels(names, count):
    """Return what pictures call `count` classes: their names, cut where long, or else their numbers."""
    return [*(_literal(name)[:LONGEST_NAME] for name in names), *map(str, range(len(names), count))]


def _literal(text):
    """Return a text as matplotlib draws it as it is: $ would begin a formula."""
    return printable(text).replace("$", r"\$")


def raster(axes, spikes, title=None, color="black"):
    """Draw spikes `[T, N]`, a dot for each: time to the right, trains from top to bottom like an image's rows."""
    time, train = spikes.cpu().nonzero(as_tuple=True)
    length, trains = spikes.shape
    axes.scatter(time, train, s=1.2, c=color, marker="s", linewidths=0)
    axes.set(xlim=(-1, length), ylim=(trains, -1))
    if title:
        axes.set_title(title, fontsize=10)


def recall(x, target, spikes):
    """Draw for each pattern the corrupted input, the target and the output, all `[T, P, N]`, two patterns in a row."""
    count = x.shape[1]
    rows = -(-count // 2)
    figure = Figure(figsize=(WIDTH, 2.05 * rows + 0.5), layout="constrained")
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
    """Draw F1 over increasing corruption, a panel for each kind; `lines` as from `snn.tasks.recall.table`."""
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


def impulse_responses(before, after):
    """Draw each synapse layer's response to a single spike, in a network before and after training."""
    pairs = _synapses(before, after)
    figure, axes = _panels(len(pairs))
    labels = layer_labels(after)
    for axis, (name, untrained, trained) in zip(axes, pairs):
        _draw_responses(axis, untrained, trained)
        axis.set_title(labels[name], fontsize=10)
        axis.set_ylabel("psp")
    return figure


def has_synapses(net):
    """Whether there is a synapse layer to draw."""
    return bool(_synapses(net, net))


def _synapses(before, after):
    """Return the synapse layers of a network before and after training: (name, untrained, trained)."""
    return [
        (name, layer, after.get_submodule(name)) for name, layer in before.named_modules() if isinstance(layer, Synapse)
    ]


def _panels(count):
    """Return a figure with `count` panels, at most four in a row, and their axes."""
    columns = min(count, 4)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH, 3 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[count:]:
        axis.axis("off")
    return figure, axes[:count]


def _draw_responses(axis, untrained, trained, lines=None):
    """Draw impulse responses of a synapse layer, of the given input lines or of some from the whole range."""
    responses = _responses(trained)
    if lines is None:
        lines = np.linspace(0, responses.shape[1] - 1, min(LINES, responses.shape[1])).astype(int)
    axis.plot(range(STEPS), responses[:, lines], color=BLUE, lw=0.6, alpha=0.5)
    axis.plot([], [], color=BLUE, lw=1, label=f"trained, {len(lines)} of {responses.shape[1]}")
    axis.plot(range(STEPS), _responses(untrained)[:, 0], color=ORANGE, lw=2, label="before")
    axis.set_xlabel("steps after the spike")
    axis.legend(fontsize=7)


@torch.no_grad()
def _responses(synapse):
    """Return the impulse responses `[STEPS, lines]` of a synapse layer."""
    x = torch.zeros(STEPS, 1, *synapse.shape, device=next(synapse.parameters()).device)
    x[0] = 1
    return synapse(x)[0].flatten(1).cpu().numpy()


def path(net, x, trace, target):
    """Draw the path of a pattern's busiest input train: its psp, then a neuron's potential and spikes in each layer.

    Args:
        net: the network that the trace is of.
        x: `[T, P, N]`; the first pattern is drawn.
        trace: from `snn.record`, with psp, spikes and v of all layers.
        target: spikes `[T, P, N]`.
    """
    neurons, (first_synapse, *_), labels = list(trace.spikes), trace.psp, layer_labels(net)
    train = int(x[:, 0].sum(0).argmax())
    figure = Figure(figsize=(WIDTH, 1.5 * (len(neurons) + 1)), layout="constrained")
    axes = figure.subplots(len(neurons) + 1, 1, sharex=True)
    axes[0].plot(trace.psp[first_synapse][:, 0, train].cpu(), color=BLUE, lw=1)
    axes[0].set_ylabel("psp")
    axes[0].set_title(f"input train {train}: spikes and their psp", fontsize=10, pad=13)
    _ticks(axes[0], x[:, 0, train], "black", 0)
    for axis, layer in zip(axes[1:], neurons):
        spikes = trace.spikes[layer][:, 0]
        is_last = layer == neurons[-1]
        neuron = train if is_last else _typical(spikes)
        axis.plot(trace.v[layer][:, 0, neuron].cpu(), color=BLUE, lw=1)
        _draw_threshold(axis, net.get_submodule(layer))
        _ticks(axis, spikes[:, neuron], ORANGE, 0)
        if is_last:
            _ticks(axis, target[:, 0, train], "black", 1)
        what = f"output train {neuron}: potential, spikes (orange), target (black)" if is_last else (
            f"{labels[layer]}, neuron {neuron}: potential and spikes (orange)"
        )  # fmt: skip
        axis.set_title(what, fontsize=10, pad=20 if is_last else 13)
        axis.set_ylabel("potential")
    axes[-1].set_xlabel("time step")
    return figure


def _typical(spikes):
    """Return the neuron with the median number of spikes of those that spike; spikes `[T, N]`."""
    counts = spikes.sum(0)
    in_order = counts.argsort()
    return int(in_order[-(int((counts > 0).sum()) // 2 + 1)])


def _ticks(axis, spikes, color, row):
    """Draw short lines above the curve, at the times of spikes `[T]`."""
    time = spikes.cpu().nonzero()[:, 0]
    axis.vlines(time, 1.02 + 0.09 * row, 1.1 + 0.09 * row, color=color, lw=1, transform=axis.get_xaxis_transform(),
                clip_on=False)  # fmt: skip


def samples(x, encoded, y, targets, classes):
    """Draw a row for each sample: its input, the busiest lines that encode it, and the output spike counts.

    Args:
        x: input `[T, B, *shape]`.
        encoded: spikes or values that it is encoded in, `[T, B, *features]`; None draws none.
        y: output spikes `[T, B, classes]`.
        targets: labels `[B]`.
        classes: what to call them, a list.
    """
    count, widths = x.shape[1], [1, 1.4] if encoded is None else [1, 1.6, 1.4]
    figure = Figure(figsize=(WIDTH, 2.4 * count), layout="constrained")
    axes = figure.subplots(count, len(widths), squeeze=False, width_ratios=widths)
    for n, (image, *lines, output) in enumerate(axes):
        picture(image, x[:, n].cpu())
        for axis in lines:
            _draw_lines(axis, encoded[:, n].flatten(1).cpu())
        _draw_counts(output, y[:, n], int(targets[n]), classes)
    for axis, title in zip(axes[0, :-1], ("input", "encoded")):
        axis.set_title(title, fontsize=10)
    return figure


def _draw_lines(axis, values):
    """Draw the busiest lines of an input `[T, N]`."""
    busiest = values.sum(0).argsort(descending=True)[:NEURONS].sort()[0]
    axis.imshow(values[:, busiest].T.numpy(), cmap="gray_r", aspect="auto", interpolation="nearest")
    axis.set(xlabel="time step", ylabel=f"input line ({len(busiest)} busiest)")


def _draw_counts(axis, spikes, label, classes):
    """Draw how often each output neuron spikes `[T, classes]`; the answer is blue if it is the label, else orange."""
    counts = spikes.sum(0).cpu().numpy()
    answer = int(counts.argmax())
    colors = ["silver"] * len(counts)
    colors[answer] = BLUE if answer == label else ORANGE
    axis.barh(range(len(counts)), counts, color=colors)
    axis.set(xlabel="output spikes", ylabel="class", xlim=(0, max(1, 1.05 * counts.max())))
    _name_ticks(axis.yaxis, classes)
    axis.invert_yaxis()
    answered = f"answer {classes[answer]}" if counts.max() else "no output spike"
    axis.set_title(f"label {classes[label]},\n{answered}", fontsize=10)


def _name_ticks(axis, classes, **style):
    axis.set_ticks(range(len(classes)), classes, fontsize=min(8, 90 / len(classes)), **style)


def picture(axis, x):
    """Draw an input `[T, *shape]` as one picture: an image, a camera's two polarities, trains, or series over time."""
    mean = x.float().mean(0)
    if mean.dim() == 1 and mean.numel() == 784:
        mean = mean.view(1, 28, 28)
    if mean.dim() == 1 and not ((x == 0) | (x == 1)).all():
        axis.plot(x.numpy(), lw=0.9)
        axis.set(xlabel="time step", ylabel="scaled value", xlim=(-1, len(x)))
        return
    if mean.dim() == 1:
        raster(axis, x)
        axis.set(xlabel="time step", ylabel="input train")
        return
    if len(mean) == 2:
        signed = (mean[1] - mean[0]).T  # [X, Y] to rows and columns
        largest = signed.abs().max().clamp(min=1e-9).item()
        axis.imshow(signed.numpy(), cmap=_POLARITIES, vmin=-largest, vmax=largest)
    else:
        axis.imshow(mean[0].numpy(), cmap="gray_r", vmin=0)
    axis.set(xticks=[], yticks=[])


_POLARITIES = LinearSegmentedColormap.from_list("polarities", [BLUE, "white", ORANGE])  # darker, nothing, brighter


def event_windows(x):
    """Draw frames `[T, 2, X, Y]`, averaged over consecutive time windows."""
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    edges = np.linspace(0, len(x), WINDOWS + 1).astype(int)
    for axis, first, end in zip(figure.subplots(1, WINDOWS), edges, edges[1:]):
        picture(axis, x[first:end].cpu())
        size_x, size_y = x.shape[2:]
        axis.set(xticks=[0, size_x - 1], yticks=[0, size_y - 1], xlabel="x (pixels)")
        axis.set_title(f"steps {first} to {end - 1}", fontsize=10)
    figure.axes[0].set_ylabel("y (pixels)")
    for color, name in ((ORANGE, "brighter"), (BLUE, "darker")):
        figure.axes[0].plot([], [], "s", color=color, label=name)
    figure.legend(loc="outside upper right", ncols=2, fontsize=8, frameon=False)
    return figure


def rasters(net, spikes):
    """Draw spikes `[T, *features]` of layers of a network, by name; of a large layer, those of its busiest neurons."""
    figure, axes = _panels(len(spikes))
    labels = layer_labels(net)
    for axis, (name, of_layer) in zip(axes, spikes.items()):
        _draw_busiest(axis, labels[name], of_layer)
    return figure


def _draw_busiest(axis, label, spikes):
    """Draw spikes `[T, *features]` of a layer's busiest neurons, in neuron order."""
    flat = spikes.flatten(1).cpu()
    shown = flat.sum(0).argsort(descending=True, stable=True)[:NEURONS].sort()[0]
    step, neuron = flat[:, shown].nonzero(as_tuple=True)
    axis.scatter(step, neuron, s=max(3, 600 / len(shown)), c="black", marker="|", linewidths=1)
    axis.set(xlim=(-1, len(flat)), ylim=(-1, len(shown)), xlabel="time step", ylabel="neuron")
    of_all = "" if len(shown) == flat.shape[1] else f" of {flat.shape[1]}"
    axis.set_title(f"spikes of {label}:\n{len(shown)}{of_all} neurons", fontsize=10)


def overview(before, after, x, y, label, spikes, classes):
    """Draw a sample's path: input, the filters of its busiest lines, spikes of each layer, output counts.

    Args:
        before, after: the network before and after training.
        x: input `[T, *shape]`.
        y: output spikes `[T, classes]`.
        label: an integer.
        spikes: of the sample, `[T, *features]`, by layer.
        classes: what to call them, a list.
    """
    labels = layer_labels(after)
    hidden = dict(list(spikes.items())[:-1][:3])  # more would be too small to see
    widths = [1, 1.4, *[1.4] * len(hidden), 1.4]
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    image, filters, *rasters_of, output = figure.subplots(1, len(widths), width_ratios=widths)
    picture(image, x.cpu())
    image.set_title("input", fontsize=10)
    _, untrained, trained = _synapses(before, after)[0]
    busiest = x.sum(0).flatten().argsort(descending=True)[:LINES].cpu()
    _draw_responses(filters, untrained, trained, busiest if trained is after[0] else None)
    filters.set_title("its synapses' response\nto a single spike (psp)", fontsize=10)
    for axis, (name, of_layer) in zip(rasters_of, hidden.items()):
        _draw_busiest(axis, labels[name], of_layer)
    _draw_counts(output, y, label, classes)
    return figure


def neurons(net, trace):
    """Draw every state of a neuron of each layer, such as potential and reset, its threshold and its spikes.

    Args:
        net: the network that the trace is of.
        trace: by quantity, such as `spikes`, `v` and `reset`, each by layer, `[T, *features]`.
    """
    figure = Figure(figsize=(WIDTH, 1.8 * len(trace["spikes"]) + 0.4), layout="constrained")
    axes = figure.subplots(len(trace["spikes"]), 1, sharex=True, squeeze=False)[:, 0]
    labels = layer_labels(net)
    for axis, (name, spikes) in zip(axes, trace["spikes"].items()):
        neuron, layer = _typical(spikes.flatten(1)), net.get_submodule(name)
        for state, color in zip(state_names(layer), (BLUE, GREEN, "black", "gray")):
            label = {"v": "potential"}.get(state, state)
            axis.plot(trace[state][name].flatten(1)[:, neuron].cpu(), color=color, lw=1.2, label=label)
        _draw_threshold(axis, layer)
        _ticks(axis, spikes.flatten(1)[:, neuron], ORANGE, 0)
        axis.set_title(f"{labels[name]}, neuron {neuron}: {int(spikes.flatten(1)[:, neuron].sum())} spikes (orange)",
                       fontsize=10, pad=13)  # fmt: skip
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower right", ncols=3, frameon=False)
    axes[-1].set_xlabel("time step")
    return figure


def _draw_threshold(axis, layer):
    """Draw a line at a neuron's threshold, if it has a single one."""
    threshold = getattr(layer, "threshold", None)
    if torch.is_tensor(threshold) and threshold.numel() == 1:
        threshold = threshold.item()
    if isinstance(threshold, (int, float)):
        axis.axhline(threshold, color="gray", lw=0.8, ls="--", label="threshold")


def firing_rates(net, spikes, samples, length):
    """Draw the mean firing rate of layers of a network, and their share of silent neurons.

    Args:
        spikes: of each neuron `[*features]`, over all samples and steps, by layer.
        samples, length: the number of samples, and of steps in each.
    """
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    rate, silent = figure.subplots(1, 2)
    labels = layer_labels(net)
    names = [labels[name] for name in spikes]
    rates = [counts.double().mean().item() / samples / length for counts in spikes.values()]
    shares = [100 * (counts == 0).double().mean().item() for counts in spikes.values()]
    for axis, values, form, label in (
        (rate, rates, "%.3g", "spikes per neuron and step"), (silent, shares, "%.3g %%", "neurons without a spike (%)"),
    ):  # fmt: skip
        axis.bar_label(axis.bar(names, values, color=BLUE), fmt=form, fontsize=8)
        axis.set_ylabel(label)
        axis.margins(y=0.15)
        axis.tick_params("x", rotation=20)
    silent.set_ylim(0, 115)
    return figure


def gradients(net, norms):
    """Draw the norm of the loss's gradient of each layer, by name; synapse layers in another colour."""
    values = [norm.item() for norm in norms.values()]
    least = min((value for value in values if value > 0), default=1.0)
    lowest, most = least / 3, max(*values, least)  # zeros are drawn at the lowest
    colors = [ORANGE if isinstance(net.get_submodule(name), Synapse) else BLUE for name in norms]
    figure = Figure(figsize=(WIDTH, 3), layout="constrained")
    axis = figure.subplots()
    labels = layer_labels(net)
    bars = axis.bar([labels[name] for name in norms], np.maximum(values, lowest), color=colors)
    axis.bar_label(bars, [f"{value:.2g}" for value in values], fontsize=8)
    axis.set(yscale="log", ylim=(lowest, most * (most / lowest) ** 0.1), ylabel="norm of the gradient")
    axis.tick_params("x", rotation=20)
    for color, label in ((ORANGE, "filters"), (BLUE, "other layers")):
        axis.plot([], [], "s", color=color, label=label)
    figure.legend(loc="outside upper right", ncols=2, fontsize=8, frameon=False)
    return figure


def coefficients(before, after):
    """Draw histograms of each synapse layer's coefficients and time constants; a line marks the value at the start."""
    pairs = _synapses(before, after)
    columns = max(len(_quantities(layer)) for _, layer, _ in pairs)
    figure = Figure(figsize=(WIDTH, 1.7 * len(pairs) + 0.3), layout="constrained")
    layers = layer_labels(after)
    for row, (name, untrained, trained) in zip(figure.subplots(len(pairs), columns, squeeze=False), pairs):
        starts, quantities = _quantities(untrained), _quantities(trained)
        for axis, (label, start) in zip(row, starts.items()):
            values = quantities.get(label, start[:0])
            if not len(values):
                axis.set(xlabel=label + ": none is stable", yticks=[], xticks=[])
                continue
            low, high = np.percentile(values, [0.5, 99.5])
            axis.hist(np.clip(values, low, high), bins=50, color=BLUE)
            axis.axvline(start[0], color=ORANGE, lw=2)
            axis.set(xlabel=label, yticks=[])
            axis.tick_params("x", labelsize=7)
            axis.locator_params("x", nbins=5)
        row[0].set_ylabel(layers[name])
    return figure


def _quantities(synapse):
    """Return the coefficients of a synapse's filters and the time constants of their stable poles, by name."""
    named = {name: getattr(synapse, name).detach().flatten().cpu().numpy() for name in synapse.coefficients}
    poles = synapse.poles().flatten(1).cpu().double().numpy()
    labels = (
        "slower pole's tau (steps)",
        "faster pole's tau (steps)",
        *(f"pole {n}'s tau (steps)" for n in range(3, 9)),
    )
    stable = {label: pole[(pole > 0) & (pole < 1)] for label, pole in zip(labels, poles)}
    return named | {label: -1 / np.log(pole) for label, pole in stable.items() if len(pole)}


def confusion(labels, predictions, classes):
    """Draw how often samples of a class (rows) get an answer (columns); `classes` is what to call them, a list."""
    counts = torch.zeros(len(classes), len(classes), dtype=torch.long)
    counts.index_put_((labels, predictions), torch.ones_like(labels), accumulate=True)
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    figure = Figure(figsize=(WIDTH, 5), layout="constrained")
    axis = figure.subplots()
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
    rows = -(-len(answers) // MISTAKES_IN_A_ROW)
    figure = Figure(figsize=(WIDTH, 2.7 * rows), layout="constrained")
    axes = list(figure.subplots(rows, MISTAKES_IN_A_ROW, squeeze=False).flat)
    for axis in axes:
        axis.axis("off")
    for axis, x, (label, answer) in zip(axes, inputs.cpu().unbind(1), answers):
        axis.axis("on")
        picture(axis, x)
        axis.set_title(f"label {classes[label]},\nanswer {classes[answer]}", fontsize=9)
    return figure


def learning_curves(name, runs, key, published, labels):
    """Draw an experiment's runs over the epochs, and the published figures.

    Of runs with the same settings, train and dev are drawn; of a search, dev in a colour for each choice of settings.

    Args:
        runs: from `snn.report.read_run`, all with the same metric, the best first.
        key: the metric, such as "acc" or "loss".
        published: a `snn.report.Published`, or None.
        labels: how each run's settings differ from the others'; empty strings if they do not.
    """
    choices = list(dict.fromkeys(labels))
    search, named = len(choices) > 1, choices[:LABELLED]
    colors = dict(zip(named, colormaps["viridis"](np.linspace(0, 0.9, len(named)))))
    figure = Figure(figsize=(7, 4 + 0.2 * (len(named) - 1)), layout="constrained")
    axis = figure.subplots()
    for run, label in reversed(list(zip(runs, labels))):  # the best on top
        epochs = [entry["epoch"] for entry in run["metrics"]]
        color = colors.get(label, "lightgray") if search else ORANGE
        parts = {"dev": color} if search else {"train": GREEN, "dev": BLUE}
        for part, of_part in parts.items():
            values = [entry[f"{part}_{key}"] for entry in run["metrics"]]
            marker = "." if len(epochs) < 30 else None
            axis.plot(epochs, values, color=of_part, lw=1.5, marker=marker, label="" if search else part)
        if "test" in run["result"]:
            axis.plot(run["result"]["best_epoch"], run["result"]["test"], "*", ms=12, color=color,
                      label="test, at the best epoch on dev")  # fmt: skip
    if published and key == ("acc" if published.dev > 1 else "loss"):  # a loss is below 1, an accuracy far above
        for value, style, color, part in (published.dev, ":", BLUE, "dev"), (published.test, "--", ORANGE, "test"):
            axis.axhline(value, color=color, lw=1, ls=style)
            axis.plot(published.epoch, value, "x", color=color, label=f"published {part}, {value:.4g}")
    if key == "acc":
        axis.set_ylabel("dev accuracy (%)" if search else "accuracy (%)")
        floor = np.percentile([entry["dev_acc"] for run in runs for entry in run["metrics"]], 10)
        axis.set_ylim(max(0, 2 * floor - 100 if floor > 50 else 0), 100.2)
    else:
        axis.set_ylabel(f"dev {key}" if search else key, parse_math=False)
        if key == "loss":
            axis.set_yscale("log")
    axis.set_xlabel("epoch")
    axis.set_title(name, parse_math=False)
    axis.grid(alpha=0.3)
    handles, texts = axis.get_legend_handles_labels()
    if texts:
        unique = dict(zip(texts, handles))  # runs share them
        axis.legend(unique.values(), unique, fontsize=8)
    if search:
        lines = [Line2D([], [], color=color, label=_literal(label)) for label, color in colors.items()]
        others = f"; gray: {len(choices) - len(named)} others" if len(choices) > len(named) else ""
        figure.legend(handles=lines, title=f"dev, the best first{others}", fontsize=7, title_fontsize=8, frameon=False,
                      loc="outside lower left", alignment="left")  # fmt: skip
    return figure
