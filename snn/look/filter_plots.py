"""Pictures of a network's synapse filters before and after training."""

import numpy as np
import torch
from matplotlib.figure import Figure

from snn.layers.synapses import Synapse
from snn.look.labels import layer_labels
from snn.look.plots import BLUE, ORANGE, WIDTH, panels

STEPS = 40  # of an impulse response
LINES = 60  # trained filters drawn per layer
POLES = ("slower pole", "faster pole", *(f"pole {n}" for n in range(3, 9)))


def synapses(before, after):
    """Return the synapse layers of a network before and after training: (name, untrained, trained)."""
    named = before.named_modules()
    return [(name, layer, after.get_submodule(name)) for name, layer in named if isinstance(layer, Synapse)]


def impulse_responses(before, after):
    """Draw each synapse layer's response to a single spike, in a network before and after training."""
    pairs, labels = synapses(before, after), layer_labels(after)
    figure, axes = panels(len(pairs), min(len(pairs), 4), 3)
    for axis, (name, untrained, trained) in zip(axes, pairs):
        draw_responses(axis, untrained, trained)
        axis.set_title(labels[name], fontsize=10)
        axis.set_ylabel("psp")
    return figure


def draw_responses(axis, untrained, trained, lines=None):
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


def coefficients(before, after):
    """Draw histograms of each synapse layer's coefficients and time constants; a line marks the value at the start."""
    pairs, labels = synapses(before, after), layer_labels(after)
    columns = max(len(_quantities(layer)) for _, layer, _ in pairs)
    figure = Figure(figsize=(WIDTH, 1.7 * len(pairs) + 0.3), layout="constrained")
    for row, (name, untrained, trained) in zip(figure.subplots(len(pairs), columns, squeeze=False), pairs):
        quantities = _quantities(trained)
        for axis, (quantity, start) in zip(row, _quantities(untrained).items()):
            values = quantities.get(quantity, start[:0])
            if not len(values):
                axis.set(xlabel=f"{quantity}: none is stable", yticks=[], xticks=[])
                continue
            low, high = np.percentile(values, [0.5, 99.5])
            axis.hist(np.clip(values, low, high), bins=50, color=BLUE)
            axis.axvline(start[0], color=ORANGE, lw=2)
            axis.set(xlabel=quantity, yticks=[])
            axis.tick_params("x", labelsize=7)
            axis.locator_params("x", nbins=5)
        row[0].set_ylabel(labels[name])
    return figure


def _quantities(synapse):
    """Return the coefficients of a synapse's filters and the time constants of their stable poles, by name."""
    named = {name: getattr(synapse, name).detach().flatten().cpu().numpy() for name in synapse.coefficients}
    for name, distances in zip(POLES, synapse.poles().flatten(1).cpu().double().numpy()):
        stable = distances[(distances > 0) & (distances < 1)]
        if len(stable):
            named[f"{name}'s tau (steps)"] = -1 / np.log(stable)
    return named
