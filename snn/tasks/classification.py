"""Classification by spike counts: softmax cross-entropy of the counts; the class with the most spikes is the answer."""

import copy
import math
from functools import partial

import torch
import torch.nn.functional as F

from snn.base.errors import UserValueError
from snn.data import datasets
from snn.look.drive import less_than_a_spike
from snn.tasks.answers import Answers, confusion, tied
from snn.tasks.base import Task

MISTAKES = 10  # shown at most
DEVIATIONS = 3  # by which an accuracy is above chance
FAR = 10  # times the loss of silence: more is no learning, whatever the accuracy


class Classification(Task):
    """Targets are labels `[B]`, outputs spikes `[T, B, classes]`.

    Attributes:
        first: the first step whose output counts, from 0.
        rate_scale: the loss takes the spike rates, spikes by steps, times this; 0: spike counts.
    """

    metric = "acc"
    highest_is_best = True
    classifies = True
    counts = True
    first = rate_scale = 0

    def of(self, config):
        task, p = copy.copy(self), config["hyperparameters"]
        task.rate_scale = p.get("rate_scale", 0) or self.rate_scale
        if (readout := p.get("readout", 1)) < 1:
            counting = math.ceil(round(p["length"] * readout, 6))  # 25 * 0.28 is a bit more than 7
            task.first = p["length"] - max(1, counting)
        return task

    def counted(self, y, targets):
        """Return the output spikes that count, `[T, B, classes]`, and the labels `[B]`."""
        return y[self.first :], targets

    def steps(self, y, targets):
        """Return over how many steps the spikes that count are counted: a number, or a tensor `[B, 1]`."""
        return len(y) - self.first

    def shown(self, x, targets):
        """Return the input `[T, B, *features]` as pictures show it."""
        return x

    def encoded(self, view):
        """Return the spikes or values that a view's input is encoded in, `[T, B, *features]`; None if they are it."""
        is_copy = (view.x == view.x[:1]).all()  # at every step
        is_drawn = view.x.dim() == 3 and view.x.shape[2] != 784  # over time, as the input
        return None if is_copy or is_drawn else view.x

    def loss(self, y, targets):
        counted, labels = self.counted(y, targets)
        scores = counted.sum(0)
        scores = self.rate_scale * scores / self.steps(y, targets) if self.rate_scale else scores
        try:
            return F.cross_entropy(scores, labels)
        except IndexError as error:  # on the CPU; CUDA ends the process
            raise UserValueError(
                f"labels go from {labels.min()} to {labels.max()}, and the network has {scores.shape[1]} outputs: it "
                "needs one for each class, and labels count from 0"
            ) from error

    def score(self, y, targets):
        """Return how many answers are correct."""
        _, answers, labels = self.answers(y, y, targets)
        return (answers == labels).sum()

    def ties(self, y, targets):
        """Return how many answers are among several classes with the most spikes."""
        return tied(self.counted(y, targets)[0].sum(0)).sum()

    def settled(self, y, drive, targets):
        """Return the output with less than a spike more, in the first step that counts, for classes driven more."""
        driven = None if drive is None else self.counted(drive, targets)[0].sum(0)
        return torch.cat([y[: self.first], y[self.first :][:1] + less_than_a_spike(driven), y[self.first + 1 :]])

    def answers(self, y, settled, targets):
        scores, labels = self.counted(y, targets)
        return Answers(scores.sum(0), self.counted(settled, targets)[0].sum(0).argmax(1), labels)

    def value(self, result):
        """Return the accuracy in percent."""
        return 100 * result.score / max(result.total, 1)

    def learns(self, entry, silence, samples):
        """Whether the loss or the accuracy shows learning: few wrong answers with many spikes may cost a lot."""
        if super().learns(entry, silence, samples):
            return True
        chance = math.exp(-silence)  # the loss of silence is the logarithm of the number of classes
        above = entry.get("dev_acc", 0) / 100 - chance > DEVIATIONS * math.sqrt(chance * (1 - chance) / samples)
        return above and entry["dev_loss"] < FAR * silence

    def text(self, value):
        return f"{value:.2f} %"

    def test_line(self, result):
        return f"test accuracy: {self.value(result):.2f} % ({result.score:.0f}/{result.total})"

    def inspect(self, view):
        from snn.look import class_plots  # imports matplotlib, which takes a second

        result = view.test(self)
        scores, answers, labels = result.answers
        x, encoded = self.shown(view.x, view.targets), self.encoded(view)
        counts, answered, of_samples = (of[view.places] for of in (scores, answers, labels))
        classes = class_plots.class_labels(datasets.class_names(view.config, scores.shape[1]))
        spikes = {name: of_layer[:, 0] for name, of_layer in view.trace.spikes.items()}
        path = x[:, 0], counts[0], int(of_samples[0]), int(answered[0]), spikes, classes
        pictures = {
            "samples": (
                lambda: class_plots.samples(x, encoded, counts, of_samples, answered, classes),
                "Test samples: the input over all steps; its busiest lines, where it is encoded in spikes or other "
                "values; and how often each output neuron spikes in the steps that count: the class with the most "
                "spikes is the answer (blue if right, orange if wrong).",
            ),
            "confusion": (
                lambda: class_plots.confusion(confusion(result.answers), classes),
                "Test samples by class and answer.",
            ),
        }
        if class_plots.synapses(view.net, view.net):
            overview = partial(class_plots.overview, view.untrained, view.net, *path)
            caption = "A test sample's path through the network; of its hidden layers, the first three."
            pictures = {"overview": (overview, caption)} | pictures
        if x.dim() == 5 and x.shape[2] == 2:
            pictures["events"] = (
                lambda: class_plots.event_windows(x[:, 0]),
                "Events of the first sample, in consecutive time windows: brighter, darker.",
            )
        gaps = scores.gather(1, torch.stack([labels, answers], 1)).diff(dim=1)[:, 0]
        wrong = [n for n in gaps.argsort(descending=True, stable=True).tolist() if answers[n] != labels[n]][:MISTAKES]
        if wrong:
            found = [(labels[n], answers[n]) for n in wrong]
            pictures["mistakes"] = (
                lambda: class_plots.mistakes(self.shown(*view.samples(wrong)), found, classes),
                "The worst mistakes: those where the right class has the fewest spikes relative to the answer.",
            )
        return result, pictures
