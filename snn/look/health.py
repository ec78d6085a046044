"""What shows how a network does: spikes of each layer, norms of its gradients."""

from contextlib import contextmanager

import torch
from torch.nn.utils import get_total_norm

from snn.layers.layer import hooked, output_name


@contextmanager
def spikes_counted(net, counts):
    """In each call of `net`, add every neuron's spikes, summed over time and batch, to `counts`, by layer name."""

    def add(name, _, __, output):
        spikes = torch.zeros_like(output[0][0], dtype=torch.float32)  # bfloat16 counts only to 256
        for of_step in output[0]:  # torch's sum over steps and samples is 40 times slower, channels last
            spikes += of_step
        counts[name] = counts.get(name, 0) + spikes.sum(0)

    with hooked({name: layer for name, layer in net.named_modules() if output_name(layer) == "spikes"}, add):
        yield


def gradient_norms(gradients):
    """Return the norm of each layer's gradients, by the layer's name; `gradients` are by the parameters' names."""
    by_layer = {}
    for name, gradient in gradients.items():
        by_layer.setdefault(name.rpartition(".")[0], []).append(gradient)
    return {layer: get_total_norm(of_layer) for layer, of_layer in by_layer.items()}
