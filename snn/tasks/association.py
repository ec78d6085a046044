"""Association: the network completes spike patterns; mean squared error of its filtered output."""

import torch.nn.functional as F

from snn.data import patterns
from snn.tasks.base import Task


class Association(Task):
    """Targets and outputs are filtered spikes `[T, B, N]`; the loss is the only metric."""

    reports = True

    def loss(self, y, targets):
        return F.mse_loss(y, targets)

    def report(self, view, folder):
        from snn.tasks import recall

        lines = recall.report(view.net, view.split, view.config, folder)
        return recall.pictures(view.net, view.untrained, view.split, view.config, lines)

    def picture(self, view):
        from snn.look import recall_plots  # imports matplotlib, which takes a second

        which = [n % len(view.split.patterns) for n in view.places]
        target = patterns.delayed(view.split.patterns[which], view.config["dataset"]["delay"]).transpose(0, 1)
        return "recall", recall_plots.recall(view.x, target, list(view.trace.spikes.values())[-1])
