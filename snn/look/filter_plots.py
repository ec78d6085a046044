"""Pictures of a network's synapse filters before and after training."""

import math

import numpy as np
import torch
from matplotlib.figure import Figure

from snn.layers.synapses import is_filter
from snn.look.labels import layer_labels
from snn.look.plots import BLUE, ORANGE, WIDTH, color_legend, panels

STEPS, MOST_STEPS = 40, 500  # of an impulse response: as it takes to decay
WIDE = 100  # steps from which on their axis is logarithmic
LINES = 60  # filters drawn per layer
ALIKE = 4  # places at which poles that all start alike are
FARTHEST = 2  # distance of a pole from 0 that is drawn
STEPS_OF_TAU, WIDE_RATIO = "'s tau (steps)", 30  # on a logarithmic axis if so many times apart
POLES = ("slower pole", "faster pole", *(f"pole {n}" for n in range(3, 9)))


def synapses(before, after):
    """Return the synapse layers with filters of a network before and after training: (name, untrained, trained)."""
    named = before.named_modules()
    return [(name, layer, after.get_submodule(name)) for name, layer in named if is_filter(layer)]


def with_poles(before, after):
    """Return those of the synapse layers, as `synapses` does, that tell where their poles are."""
    return [found for found in synapses(before, after) if len(found[1].roots())]


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
    steps = max(map(_steps, (untrained, trained)))
    responses, before = _responses(trained, steps), _responses(untrained, steps)
    if lines is None:
        lines = np.linspace(0, responses.shape[1] - 1, min(LINES, responses.shape[1])).astype(int)
    alike = np.allclose(before, before[:, :1], atol=1e-6)  # all filters started as one
    if not alike:
        axis.plot(range(steps), before[:, lines], color=ORANGE, lw=0.6, alpha=0.5)
    axis.plot(range(steps), responses[:, lines], color=BLUE, lw=0.6, alpha=0.5)
    axis.plot([], [], color=BLUE, lw=1, label=f"trained, {len(lines)} of {responses.shape[1]}")
    axis.plot(*((range(steps), before[:, 0]) if alike else ([], [])), color=ORANGE, lw=2, label="before")
    calm = np.concatenate([responses[:, _are_stable(trained)], before[:, _are_stable(untrained)]], 1)
    if calm.shape[1] < responses.shape[1] + before.shape[1] and calm.size:  # the others grow out of the picture
        axis.set_ylim(min(1.1 * calm.min(), 0), 1.1 * calm.max() or 1)
    if steps > WIDE:
        axis.set_xscale("symlog", linthresh=2)
        axis.set_xlim(0, steps)
    axis.set_xlabel("steps after the spike")
    axis.legend(fontsize=7, loc="upper right")  # matplotlib would search long for the best place


def _steps(synapse):
    """Return for how many steps a layer's responses are drawn: twice the time constant of its slow filters."""
    times = _time_constant(_roots(synapse).flatten().numpy())
    slow = np.nanpercentile(times, 90) if np.isfinite(times).any() else 0
    return int(min(max(STEPS, 2 * slow), MOST_STEPS))


@torch.no_grad()
def _responses(synapse, steps):
    """Return the impulse responses `[steps, lines]` of a synapse layer."""
    x = torch.zeros(steps, 1, *synapse.shape, device=next(synapse.parameters()).device)
    x[0] = 1
    return synapse(x)[0].flatten(1).cpu().numpy()


def poles(before, after):
    """Draw the poles of each synapse layer's filters before and after training, in the upper half of the unit circle.

    On the right, the same ones by how fast they decay and turn, which tells slow filters apart.
    """
    pairs, labels = with_poles(before, after), layer_labels(after)
    figure, axes = panels(2 * len(pairs), 2, 3.6)
    for disc, times, (name, untrained, trained) in zip(axes[::2], axes[1::2], pairs):
        old, new = (_roots(layer).flatten().numpy() for layer in (untrained, trained))
        limit = min(1.05 * max(1.05, abs(old).max(), abs(new).max()), FARTHEST)
        half = np.exp(1j * np.linspace(0, math.pi, 200))
        disc.plot(half.real, half.imag, color="gray", lw=0.8)
        _draw_moves(disc, *((of.real, abs(of.imag)) for of in (old, new)))
        disc.set(aspect="equal", xlabel="real part", ylabel="imaginary part", xlim=(-limit, limit), ylim=(-0.05, limit))
        before_after = f"before: {_in_words(untrained)}\nafter: {_in_words(trained)}"
        disc.set_title(f"{labels[name]}\n{before_after}", fontsize=10)
        _draw_moves(times, *((_time_constant(of), abs(np.angle(of)) / (2 * math.pi)) for of in (old, new)))
        times.set(xscale="log", xlabel="time constant (steps)", ylabel="turns in a step (0.5: alternates)")
        times.set_yscale("symlog", linthresh=1e-3)
        times.set(xlim=(0.5, max(100, times.get_xlim()[1])), ylim=(-2e-4, 0.7))
        times.grid(alpha=0.3)
    color_legend(figure, {"before": ORANGE, "after": BLUE})
    return figure


def _draw_moves(axis, old, new):
    """Draw points (x, y), each `[N]`, before and after training, and lines between those of some."""
    shown = np.linspace(0, len(new[0]) - 1, min(LINES, len(new[0]))).astype(int)
    axis.plot(*(np.stack(ends)[:, shown] for ends in zip(old, new)), color="gray", lw=0.6, alpha=0.6)
    for (x, y), color, size in ((old, ORANGE, 14), (new, BLUE, 7)):
        axis.scatter(x, y, s=size, color=color, alpha=min(1, max(0.05, 300 / len(x))), linewidths=0, zorder=2)
    places = np.unique(np.round(np.stack(old, 1), 6), axis=0)
    if len(places) <= ALIKE:  # the others are on these, and those after training in front of them
        axis.scatter(*places.T, s=60, facecolors="none", edgecolors=ORANGE, linewidths=1.5, zorder=3)


def _time_constant(roots):
    """Return the time constants of poles `[N]` in steps; NaN, which is not drawn, where they are 0 or do not decay."""
    distances = abs(roots)
    stable = (distances > 0) & (distances < 1)
    return np.where(stable, -1 / np.log(np.where(stable, distances, 0.5)), math.nan)


def _in_words(synapse):
    """Return a synapse layer's longest time constant, the share of filters that ring, and how many are unstable."""
    roots = _roots(synapse)
    longest = np.nanmax(_time_constant(roots.flatten().numpy()), initial=0)
    ring = (roots.imag != 0).any(0).double().mean()
    longest = f"{longest:,.0f}" if longest >= 1000 else f"{longest:.3g}"
    words = f"time constants up to {longest} steps, {ring:.0%} of the filters ring"
    return f"{words}, {unstable:,} unstable" if (unstable := synapse.unstable()) else words


def _are_stable(synapse):
    """Return whether a synapse layer's filters decay, bool `[N]`."""
    return (synapse.poles().flatten(1) < 1).all(0).cpu().numpy()


def _roots(synapse):
    """Return the poles of a synapse layer's filters, `[order, N]`."""
    return synapse.roots().flatten(1).cpu().to(torch.complex128)


def coefficients(before, after):
    """Draw histograms of each synapse layer's coefficients and time constants, and in orange those before training."""
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
            alike = (start == start[0]).all()
            shown = values if alike else np.concatenate([start, values])
            low, high = np.percentile(shown, [0.5, 99.5])
            if is_wide := quantity.endswith(STEPS_OF_TAU) and high > WIDE_RATIO * low:
                bins = np.geomspace(low, high, 51)
                axis.set_xscale("log")
            else:
                bins = np.histogram_bin_edges(shown, 50, (low, high))
            axis.hist(np.clip(values, low, high), bins, color=BLUE)
            if alike:
                axis.axvline(start[0], color=ORANGE, lw=2)
            else:
                axis.hist(np.clip(start, low, high), bins, color=ORANGE, histtype="step", lw=1.5)
            axis.set(xlabel=quantity, yticks=[])
            axis.tick_params("x", labelsize=7)
            if not is_wide:
                axis.locator_params("x", nbins=5)
        row[0].set_ylabel(labels[name])
    color_legend(figure, {"before": ORANGE, "after": BLUE})
    return figure


def _quantities(synapse):
    """Return the coefficients of a synapse's filters and the time constants of their stable poles, by name."""
    named = {name: getattr(synapse, name).detach().flatten().cpu().numpy() for name in synapse.coefficients}
    of_poles = synapse.poles().flatten(1).cpu().double().numpy()
    for name, distances in zip(POLES if len(of_poles) > 1 else ("pole",), of_poles):
        times = _time_constant(distances)
        if np.isfinite(times).any():
            named[f"{name}{STEPS_OF_TAU}"] = times[np.isfinite(times)]
    return named
