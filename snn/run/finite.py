"""Losses and gradients that no step can take: a run stops before they reach its weights, and says where they began."""

import math

import torch
from torch.nn.utils import get_total_norm

from snn.layers.layer import hooked

LARGEST = 1e19  # a gradient's element: Adam's average of squares is finite below, and would stay infinite for ever


class NotFinite(Exception):
    """A batch's loss is not finite, or its gradient not below LARGEST; `batch` is what was passed to `note`."""

    def __init__(self, batch):
        self.batch = batch


class FiniteWatch:
    """Makes a fused optimizer skip a batch that raises NotFinite, and all after it, until the run stops.

    It stops a batch later, since checking at once would make the CPU wait for the GPU.

    Args:
        shared: whether ranks share the gradients; then only these count, since they are the same on all ranks.
    """

    def __init__(self, optimizer, shared=False):
        self.optimizer, self.shared = optimizer, shared
        self.failed = self.arrived = self.on_host = self.batch = None

    def guard(self, loss):
        """Let the optimizer change nothing from now on if the loss is not finite or a gradient not below LARGEST.

        Gradients must exist, clipped if they will be: what is clipped is used, however large it was. All of it runs on
        the device. Returns 1 if this or an earlier batch failed, else 0.
        """
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        failed = ~(_largest_gradient(parameters) < LARGEST)  # also nan
        if not self.shared:
            failed |= ~torch.isfinite(loss.detach())
        if self.failed is None:
            self.failed = torch.zeros((), device=failed.device)
        self.failed.masked_fill_(failed, 1)
        self.optimizer.found_inf = self.failed  # where it is 1, fused optimizers change nothing
        return self.failed

    def note(self, batch):
        """Check the batch noted before; then note this one, whose step was taken. Raises NotFinite."""
        self.check()
        self.on_host, self.batch = self.failed.to("cpu", non_blocking=True, copy=True), batch
        if self.failed.is_cuda:
            self.arrived = torch.cuda.Event()
            self.arrived.record()

    def check(self):
        """Raise NotFinite if the batch noted last failed."""
        if self.arrived:
            self.arrived.synchronize()
        if self.on_host:
            raise NotFinite(self.batch)


def _largest_gradient(parameters):
    return get_total_norm([p.grad for p in parameters if p.grad is not None], math.inf)


def where_not_finite(net, loss, x, targets, state, run=None):
    """Return what became non-finite, or a gradient too large, first in a failed batch, in the order of computation.

    Args:
        loss: from the network's output and the targets to the loss.
        x, targets, state: the batch `[T, B, *]`, its targets, and the state it began with.
        run: `net`, or what runs it in chunks.
    """
    spoilt = set()  # layers with an output that is not finite

    def check(name, _, __, output):
        output = output[0] if isinstance(output, tuple) else output
        if not output.isfinite().all():
            spoilt.add(name)

    net.zero_grad()
    with hooked(dict(net.named_children()), check):
        value = loss((run or net)(x, state)[0], targets)
    if not all(x[t : t + 1].isfinite().all() for t in range(x.shape[0])):
        return "the input"
    for name, layer in net.named_children():
        weights = all(parameter.isfinite().all() for parameter in layer.parameters())
        if not weights or name in spoilt:
            what = "output" if weights else "coefficients or weights"
            return f"the {what} of layer {name} ({type(layer).__name__})"
    if not value.isfinite():
        return "the loss"
    value.backward()
    for name, layer in reversed(list(net.named_children())):
        largest = _largest_gradient(layer.parameters()).item()
        if not largest < LARGEST:
            size = f": {largest:.1e} is too large for a step" if math.isfinite(largest) else ""
            return f"the gradient of layer {name} ({type(layer).__name__}){size}"
    return "an unknown place, since a second pass over the batch is finite"
