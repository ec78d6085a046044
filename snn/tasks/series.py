"""Classification of time series of unequal lengths: output spikes count up to each series' own end."""

import copy

import torch
import torch.nn.functional as F

from snn.layers.encoders import ENCODERS
from snn.tasks.classification import Classification


class SeriesClassification(Classification):
    """Targets are `[2, B]`, the labels and the time steps at which the series end; outputs spikes `[T, B, classes]`.

    Attributes:
        rate_scale: the loss takes the spike rates, spikes by steps, times this; 0: spike counts.
    """

    reports, rate_scale = True, 0

    def of(self, config):
        task = copy.copy(self)
        task.rate_scale = config["hyperparameters"].get("rate_scale", 0)
        return task

    def loss(self, y, targets):
        if not self.rate_scale:
            return super().loss(y, targets)
        y, labels = self.counted(y, targets)
        return F.cross_entropy(self.rate_scale * y.sum(0) / targets[1][:, None], labels)

    def counted(self, y, targets):
        labels, ends = targets
        return y * _before(y, ends), labels

    def shown(self, x, targets):
        """Return the series without their padding: NaN, which is not drawn."""
        return x.masked_fill(~_before(x, targets[1]), float("nan"))

    def encoded(self, view):
        """Return the spikes of the encoder; None if values go into the first synapses."""
        first = next(iter(view.trace.spikes), "")
        return view.trace.spikes[first] if isinstance(view.net.get_submodule(first), ENCODERS) else None

    def is_better(self, entry, than):
        """Keep the last epoch: a dev set of a few series is too coarse to choose one, and its figure stays honest."""
        return entry["epoch"] > than["epoch"]

    def report(self, view, folder):
        from snn.tasks import early  # imports matplotlib, which takes a second

        return early.report(early.right_by_share(view.net, view.split, view.config, self), folder)


def _before(sequence, ends):
    """Return whether each step of a sequence `[T, B, *]` is before its end, `[T, B, 1]`."""
    return (torch.arange(len(sequence), device=ends.device)[:, None] < ends)[..., None]
