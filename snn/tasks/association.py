"""Association: the network completes spike patterns; mean squared error of its filtered output."""

import torch.nn.functional as F

from snn.tasks.base import Task


class Association(Task):
    """Targets and outputs are filtered spikes `[T, B, N]`; the loss is the only metric."""

    reports = True

    def loss(self, y, targets):
        return F.mse_loss(y, targets)

    def report(self, view, folder):
        from snn.tasks import recall  # imports matplotlib, which takes a second

        return recall.report(view, folder)

    def picture(self, view):
        from snn.look import recall_plots
        from snn.tasks import recall

        if not hasattr(view.split, "patterns") or not view.trace.spikes:
            return super().picture(view)
        which = [n % len(view.split.patterns) for n in view.places]
        target = recall.delayed(view.split, view.config)[:, which]
        return "recall", recall_plots.recall(view.x, target, recall.output_spikes(view.trace))
