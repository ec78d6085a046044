"""What shows how a network does: spikes of each layer, norms of its gradients, its filters."""

import math
from contextlib import contextmanager

import torch
from torch.nn.utils import get_total_norm

from snn.base.errors import UserError
from snn.layers.layer import hidden_layers, hooked, spiking_layers
from snn.layers.synapses import is_filter


@contextmanager
def spikes_counted(net):
    """In the block, each call of `net` adds all spikes, summed over time and batch, to the yielded dict, by layer.

    Shape: `[*features]`.
    """
    counts = {}

    def add(name, _, __, output):
        if output[0].is_cuda:
            spikes = output[0].sum(0, dtype=torch.float32)
        else:
            spikes = torch.zeros_like(output[0][0], dtype=torch.float32)  # bfloat16 counts only to 256
            for of_step in output[0]:  # torch's sum over steps and samples is 40 times slower, channels last
                spikes += of_step
        _add(counts, name, spikes.sum(0))

    with hooked(spiking_layers(net), add):
        yield counts


def _add(counts, name, spikes):
    """Add a call's spikes to those of a layer; raise UserError if they are of other neurons."""
    if name in counts and counts[name].shape != spikes.shape:
        shapes = " and on ".join(str(list(of.shape)) for of in (counts[name], spikes))
        raise UserError(f"layer {name} runs on {shapes}: give each of its places a layer of its own")
    counts[name] = counts.get(name, 0) + spikes


@contextmanager
def hidden_spikes(net):
    """In the block, each call of `net` adds its hidden layers' spikes, summed over time, to the yielded dict, by layer.

    Shape: `[B, *features]`, with gradients.
    """
    counts = {}

    def add(name, _, __, output):
        _add(counts, name, output[0].sum(0, dtype=torch.float32))

    with hooked(hidden_layers(net), add):
        yield counts


def gradient_norms(gradients):
    """Return the norm of each layer's gradients, by the layer's name; `gradients` are by the parameters' names."""
    by_layer = {}
    for name, gradient in gradients.items():
        by_layer.setdefault(name.rpartition(".")[0], []).append(gradient)
    return {layer: get_total_norm(of_layer) for layer, of_layer in by_layer.items()}


def filters_in(net):
    """Return a text on the filters of a network: how many, their time constants in steps, and how many ring.

    Those whose order is unknown are left out; empty if there are no others.
    """
    synapses = [layer for layer in net.modules() if is_filter(layer)]
    poles = [layer.poles().flatten(1).cpu() for layer in synapses]
    slowest = torch.cat([torch.empty(0), *(of_layer[0] for of_layer in poles if len(of_layer))])
    if not len(slowest):
        return ""
    tau = torch.where(slowest < 1, -1 / slowest.log(), math.inf)
    roots = (layer.roots() for layer, of_layer in zip(synapses, poles) if len(of_layer))
    ring = sum(int((of_layer.imag != 0).any(0).sum()) for of_layer in roots if of_layer.is_complex())
    spread = " to ".join(dict.fromkeys(f"{value:.3g}" for value in (tau.min(), tau.max())))
    return f"{len(tau):,} filters with time constants of {spread} steps" + (f", {ring:,} ring" if ring else "")
