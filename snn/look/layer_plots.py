"""Pictures of a network's layers at work: spikes, states, rates, gradients."""

import itertools

import numpy as np
from matplotlib.figure import Figure

from snn.layers.layer import output_name, state_names
from snn.layers.synapses import Synapse
from snn.look.labels import layer_labels
from snn.look.plots import BLUE, GREEN, ORANGE, WIDTH, color_legend, draw_neuron, draw_raster, panels, typical_neuron

COLORS = BLUE, GREEN, "black", "tab:purple", "tab:brown", "tab:pink"  # of states; spikes are orange


def rasters(net, spikes):
    """Draw spikes `[T, *features]` of layers of a network, by name; of a large layer, those of its busiest neurons."""
    labels = layer_labels(net)
    figure, axes = panels(len(spikes), min(len(spikes), 4), 3)
    for axis, (name, of_layer) in zip(axes, spikes.items()):
        draw_raster(axis, labels[name], of_layer)
    return figure


def neurons(net, trace):
    """Draw every state of a neuron of each layer, such as potential and reset, its threshold and its spikes.

    Args:
        net: the network that the trace is of.
        trace: by quantity, such as `spikes`, `v` and `reset`, each by layer, `[T, *features]`.
    """
    labels, count = layer_labels(net), len(trace["spikes"])
    figure = Figure(figsize=(WIDTH, 1.8 * count + 0.4), layout="constrained")
    axes = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    own = {name: _with_states(net, name) for name in trace["spikes"]}
    known = dict.fromkeys(state for layer in own.values() for state in state_names(net.get_submodule(layer)))
    colors = dict(zip(known, itertools.cycle(COLORS)))
    for axis, (name, spikes) in zip(axes, trace["spikes"].items()):
        layer, spikes = net.get_submodule(own[name]), spikes.flatten(1)
        neuron = typical_neuron(spikes)
        states = {state: trace[state][own[name]].flatten(1) for state in state_names(layer)}
        states = {state: of[:, neuron % of.shape[1]] for state, of in states.items()}  # two lines of Delta share one
        draw_neuron(axis, layer, states, spikes[:, neuron], colors)
        title = f"{labels[name]}, neuron {neuron}: {int(spikes[:, neuron].sum())} spikes (orange)"
        axis.set_title(title, fontsize=10, pad=13)
        axis.grid(alpha=0.3)
    entries = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels())}
    figure.legend(entries.values(), entries, fontsize=8, loc="outside lower right", ncols=3, frameon=False)
    axes[-1].set_xlabel("time step")
    return figure


def _with_states(net, name):
    """Return the name of the layer that has the states of a layer of neurons: itself, or neurons within it."""
    within = net.get_submodule(name).named_modules(prefix=name)
    return next((name for name, part in within if output_name(part) == "spikes" and state_names(part)), name)


def firing_rates(net, spikes, samples, length):
    """Draw the mean firing rate of layers of a network, and their share of silent neurons.

    Args:
        spikes: of each neuron `[*features]`, over all samples and steps, by layer.
        samples, length: the number of samples, and of steps in each.
    """
    labels = layer_labels(net)
    names = [labels[name] for name in spikes]
    rates = [counts.double().mean().item() / samples / length for counts in spikes.values()]
    shares = [100 * (counts == 0).double().mean().item() for counts in spikes.values()]
    figure, (rate, silent) = panels(2, 2, 2.9)
    for axis, values, form in (rate, rates, "%.3g"), (silent, shares, "%.3g %%"):
        axis.bar_label(axis.bar(names, values, color=BLUE), fmt=form, fontsize=8)
        axis.margins(y=0.15)
        axis.tick_params("x", rotation=20)
    rate.set(ylabel="spikes per neuron and step", ylim=(0, None if any(rates) else 1))
    silent.set(ylabel="neurons without a spike (%)", ylim=(0, 115))
    return figure


def gradients(net, norms):
    """Draw the norm of the loss's gradient of each layer, by name; synapse layers in another colour."""
    labels, values = layer_labels(net), [norm.item() for norm in norms.values()]
    least = min((value for value in values if value > 0), default=1.0)
    lowest, most = least / 3, max(*values, least)  # zeros are drawn at the lowest
    colors = [ORANGE if isinstance(net.get_submodule(name), Synapse) else BLUE for name in norms]
    figure, (axis,) = panels(1, 1, 3)
    bars = axis.bar([labels[name] for name in norms], np.maximum(values, lowest), color=colors)
    axis.bar_label(bars, [f"{value:.2g}" for value in values], fontsize=8)
    axis.set(yscale="log", ylim=(lowest, most * (most / lowest) ** 0.1), ylabel="norm of the gradient")
    axis.tick_params("x", rotation=20)
    color_legend(figure, {"filters": ORANGE, "other layers": BLUE})
    return figure
