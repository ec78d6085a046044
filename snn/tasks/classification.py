"""Classification by spike counts: softmax cross-entropy of the counts; the class with the most spikes is the answer."""

import torch
import torch.nn.functional as F

from snn.tasks.base import Task

MISTAKES = 10  # shown at most


class Classification(Task):
    """Targets are labels `[B]`, outputs spikes `[T, B, classes]`."""

    metric = "acc"
    highest_is_best = True

    def loss(self, y, targets):
        return F.cross_entropy(y.sum(0), targets)

    def score(self, y, targets):
        """Return how many answers are correct."""
        return (y.sum(0).argmax(1) == targets).sum()

    def value(self, result):
        """Return the accuracy in percent."""
        return 100 * result.score / max(result.total, 1)

    def text(self, value):
        return f"{value:.2f} %"

    def test_line(self, result):
        return f"test accuracy: {self.value(result):.2f} % ({result.score:.0f}/{result.total})"

    def inspect(self, view):
        from snn.look import plots  # imports matplotlib, which takes a second

        answered = _Answers(self)
        result = view.test(answered)
        labels, answers, margins = (torch.cat(values) for values in answered.found)
        x, y, label = view.x, view.y, int(view.targets[0])
        spikes = {name: of_layer[:, 0] for name, of_layer in view.trace.spikes.items()}
        pictures = {
            "overview": (
                lambda: plots.overview(view.untrained, view.net, x[:, 0], y[:, 0], label, spikes),
                "A test sample's path through the network.",
            ),
            "samples": (
                lambda: plots.samples(x, y, view.targets),
                "Test samples: the input over all steps, the encoded spikes or values of its busiest lines, and how "
                "often each output neuron spikes; the class with the most spikes is the answer (blue if right, orange "
                "if wrong).",
            ),
            "confusion": (lambda: plots.confusion(labels, answers), "Test samples by class and answer."),
        }
        if x.dim() == 5 and x.shape[2] == 2:
            pictures["events"] = (
                lambda: plots.event_windows(x[:, 0]),
                "Events of the first sample, in consecutive time windows: brighter, darker.",
            )
        wrong = [n for n in margins.argsort().tolist() if answers[n] != labels[n]][:MISTAKES]
        if wrong:
            pictures["mistakes"] = (
                lambda: plots.mistakes(view.samples(wrong)[0], [(labels[n], answers[n]) for n in wrong]),
                "The worst mistakes: those where the right class has the fewest spikes relative to the answer.",
            )
        return result, pictures


class _Answers(Classification):
    """A task that also keeps each sample's label, answer, and the output spikes of the label less the answer's."""

    def __init__(self, task):
        self.task, self.found = task, ([], [], [])
        self.loss, self.summary = task.loss, task.summary

    def score(self, y, targets):
        counts = y.sum(0)
        most, answers = counts.max(1)
        margins = counts.gather(1, targets[:, None])[:, 0] - most
        for kept, values in zip(self.found, (targets, answers, margins)):
            kept.append(values.cpu())
        return self.task.score(y, targets)
