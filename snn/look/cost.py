"""What a network computes: spikes, multiply-adds and non-zero values, layer by layer."""

from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from snn.layers.layer import hooked, spiking_layers
from snn.look.labels import layer_labels

FORMATS = {"parameters": "{:,}", "spikes": "{:,.1f}", "rate": "{:.4f}", "multiply_adds": "{:,.0f}", "nonzero": "{:.1%}"}


class Cost(list):
    """Rows, a dict for each layer; prints as a table."""

    def __str__(self):
        values = [["" if v is None else FORMATS.get(key, "{}").format(v) for key, v in row.items()] for row in self]
        cells = [list(row) for row in self[:1]] + values
        widths = [max(map(len, column)) for column in zip(*cells)]
        return "\n".join("  ".join(map(str.rjust, row, widths)) for row in cells)


@torch.no_grad()
def cost(net, x):
    """Run a network on x `[T, B, *features]`, and return what each of its layers computes: `print(snn.cost(net, x))`.

    Layers are the modules that run and compute something themselves. Returns a list of dicts; None is none, or unknown:

        layer, kind: its name in `net.named_modules()`, and what pictures call it.
        parameters: their number.
        spikes, rate: of a sample, over all neurons and steps; spikes per neuron and step.
        multiply_adds: of a step of a sample, zeros included: those of matrix products and convolutions, also in layers
            of one's own, and those that a layer declares as `multiply_adds`.
        nonzero: share of the values that enter it that are not 0; where a product is behind a synapse, of its psp.

    Raises ValueError for an input without steps or samples.
    """
    if x.dim() < 2 or not x.shape[0] * x.shape[1]:
        raise ValueError(f"cost takes [T, B, *features] with at least one step and sample, got {list(x.shape)}")
    layers = {name: layer for name, layer in net.named_modules() if "parametrizations" not in name.split(".")}
    labels, neurons, seen = layer_labels(net), spiking_layers(net), {}

    def add(name, _, arguments, output):
        x, y = (value[0] if isinstance(value, tuple) and value else value for value in (arguments, output))
        x, y = (value if torch.is_tensor(value) else torch.empty(0) for value in (x, y))
        spikes = y.sum(dtype=torch.float64).item() if name in neurons else 0
        numbers = x.numel(), x.count_nonzero().item(), y.numel(), spikes
        seen[name] = [sum(pair) for pair in zip(numbers, seen.get(name, (0, 0, 0, 0)))]

    with hooked(layers, add), _plain_attention(), FlopCounterMode(display=False) as counter:
        net(x)
    flops, parameters = counter.get_flop_counts(), dict.fromkeys(seen, 0)
    products = parameters | {"": counter.get_total_flops() / 2}
    for name, parameter in net.named_parameters():
        parameters[_around(name, seen)] += parameter.numel()
    for name in filter(None, seen):
        counted = sum(flops.get(f"{type(net).__name__}.{name}", {}).values()) / 2  # also in the layers within it
        products[name] += counted
        products[_around(name, seen)] -= counted
    rows = Cost()
    for name in filter(seen.get, layers):
        entering, not_zero, leaving, spikes = seen[name]
        multiply_adds = products[name] + getattr(layers[name], "multiply_adds", 0) * leaving
        if parameters[name] or multiply_adds or name in neurons or not list(layers[name].children()):
            rows.append({
                "layer": name, "kind": labels[name], "parameters": parameters[name],
                "spikes": spikes / x.shape[1] if name in neurons else None,
                "rate": spikes / max(leaving, 1) if name in neurons else None,
                "multiply_adds": multiply_adds / x.shape[0] / x.shape[1] or None,
                "nonzero": not_zero / entering if entering else None,
            })  # fmt: skip
    return rows


@contextmanager
def _plain_attention():
    """Let attention run as products, which the counter knows on every device."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _around(name, seen):
    """Return the innermost of the layers seen that a layer or parameter of this name is in."""
    return max((other for other in seen if name.startswith(f"{other}.")), key=len, default="")
