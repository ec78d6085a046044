"""Classification of time series of unequal lengths: output spikes count up to each series' own end."""

import torch

from snn.layers.encoders import ENCODERS
from snn.tasks.classification import Classification


class SeriesClassification(Classification):
    """Targets are `[2, B]`, the labels and the time steps at which the series end; outputs spikes `[T, B, classes]`."""

    reports = True
    better = ""  # as each epoch is

    def counted(self, y, targets):
        labels, ends = targets
        return y * _before(y, ends), labels

    def steps(self, y, targets):
        return targets[1][:, None]

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
