"""Losses and gradients that no step can take: a run stops before they reach its weights, and says where they began."""

import torch
from torch.nn.utils import get_total_norm

from snn.layers.layer import hooked

# A gradient's norm: float32 holds no square above. Adam's average of these would stay infinite, and clipping, which
# divides by the norm, would make 0 of all.
LARGEST = 1e19


class NotFinite(Exception):
    """A batch's loss is not finite, or its gradient's norm not below LARGEST; `batch` is what `note` got."""

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
        self.norm = None  # of the last gradient, before it is clipped
        self.failed = self.arrived = self.on_host = self.batch = None

    def guard(self, loss):
        """Let the optimizer change nothing from now on if the loss is not finite or the gradient not below LARGEST.

        Gradients must exist, not clipped yet. All of it runs on the device. Returns 1 if this or an earlier batch
        failed, else 0.
        """
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.norm = _gradient_norm(parameters)
        failed = ~(self.norm < LARGEST)  # also nan
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


def _gradient_norm(parameters):
    return get_total_norm([p.grad for p in parameters if p.grad is not None])


def where_not_finite(net, loss, x, targets, state, run=None):
    """Return what became non-finite or too large first in a failed batch, in the order of computation.

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
        y = (run or net)(x, state)[0]
        value = loss(y, targets)
    if not all(x[t : t + 1].isfinite().all() for t in range(x.shape[0])):
        return "the input"
    for name, layer in net.named_children():
        weights = all(parameter.isfinite().all() for parameter in layer.parameters())
        if not weights or name in spoilt:
            what = "output" if weights else "coefficients or weights"
            return f"the {what} of layer {name} ({type(layer).__name__})"
    if not value.isfinite():
        missing = torch.is_tensor(targets) and not targets.isfinite().all()  # nan may be what a loss leaves out
        return "the targets" if missing and not loss(torch.zeros_like(y), targets).isfinite() else "the loss"
    value.backward()
    for name, layer in reversed(list(net.named_children())):
        if not _gradient_norm(layer.parameters()) < LARGEST:
            return f"the gradient of layer {name} ({type(layer).__name__})"
    return "an unknown place, since a second pass over the batch is finite"
