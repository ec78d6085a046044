"""Answers out of a trained network: in Python, a step at a time, and in files."""

import torch

from snn import experiments
from snn.base.errors import UserError
from snn.base.files import check_replaces, check_writable, user_path, write_csv
from snn.base.output import quiet
from snn.checkpoint.trained import load_trained
from snn.data import datasets, unlabelled
from snn.layers.layer import check_goes_on
from snn.look import drive
from snn.run.step import evaluate
from snn.run.train import find_device
from snn.tasks import answers
from snn.tasks.default import task_for


class Predictor:
    """A trained network with all that lies between samples and answers: `names, scores = snn.Predictor(path)(X)`.

    The checkpoint alone says how samples become the network's input, and what classes are called.

    Args:
        path: of a checkpoint, or weights that ship, as `snn.load` takes it; or a network that `snn.load` returned.
        network: as for `snn.load`.
        task: what it was trained for, a `snn.tasks.base.Task`; None: its experiment's, or else as its data needs.
        device: auto, cpu, cuda or cuda:1.
    Raises UserError (`snn.UserError`) as `snn.load` does, and for a network that does not classify.
    """

    def __init__(self, path, network=None, task=None, device="auto"):
        net = path if isinstance(path, torch.nn.Module) else load_trained(path, network)
        if not hasattr(net, "config"):
            raise UserError(f"Predictor: this {type(net).__name__} has no config: pass what snn.load returned")
        self.config, self.device = net.config, find_device(device)
        self.net, name = net.to(self.device).eval(), self.config["experiment_name"]
        script = None if task or network else experiments.find(name.removesuffix("-demo"))
        task = task or getattr(script, "task", None) or task_for(self.config)
        if not task.classifies:
            raise UserError(f"{name} has no classes to answer with, so there is nothing to predict")
        self.task, self.samples = task.of(self.config), unlabelled.of(self.config, getattr(net, "input_shape", None))

    def __call__(self, X):
        """Return the answers to N samples: a list of names of classes, and scores `[N, classes]` on the CPU.

        The scores are the output spikes that count; ties are decided as the config says (`ties`).

        Args:
            X: series `[N, C, T]`, `[N, T]` or a list of `[C, T_i]`, raw, NaN where a value is missing; images
                `[N, 28, 28]`, integers from 0 to 255 or numbers from 0 to 1; or a list of recordings, each `[E, 4]`
                integers: microseconds, x, y, polarity.
        Raises UserError for anything else.
        """
        with quiet():
            found = self.answers(X)
        classes = self.classes(found.scores)
        return [classes[n] for n in found.answers.tolist()], found.scores

    def answers(self, X, where="X"):
        """Return the `snn.tasks.answers.Answers` to samples, which errors call `where`."""
        split = self.samples.split(X, self.device, where)
        return evaluate(self.net, split, self.config, self.task).answers._replace(labels=None)

    def classes(self, scores):
        """Return the names of the classes of scores `[N, classes]`, a list."""
        return datasets.class_names(self.config, scores.shape[1])

    def stream(self):
        """Return a function for one sample that comes a step at a time: `name, scores = stream(values)`.

        Each call returns the answer so far, and its scores `[classes]`; after the last step they are those of the whole
        sample, up to rounding. A step is a value of each channel of a series, raw, NaN if it is missing; or a frame of
        the network's input shape, from 0 to 1 (images also from 0 to 255): an image or a pixel, or a bin's events.

        It raises UserError for anything else, and ValueError if the network needs all steps at once.
        """
        for method in ("counted", "answers"):
            if not getattr(getattr(self.task, method, None), "__module__", "").startswith("snn."):
                name = type(self.task).__name__
                raise UserError(f"a stream counts as Classification does, and {name} has another {method}()")
        net, config, encode = self.net, self.config, self.samples.steps(self.device)
        kept = None, 0, 0, 0  # after the last complete step: the state, output spikes, what drove the neurons, steps

        @torch.no_grad()
        def stream(values):
            nonlocal kept
            (x, is_complete), (state, counts, driven, steps) = encode(values), kept
            y, state, of_output = drive.run(net, config, x, state)
            check_goes_on(net, state)
            first = max(self.task.first - steps, 0)
            counts = counts + y[first:].sum(0)
            driven = None if of_output is None else driven + of_output[first:].sum(0)
            if is_complete:
                kept = state, counts, driven, steps + len(y)
            decided = counts + drive.less_than_a_spike(driven) if config["ties"] == "potential" else counts
            return self.classes(counts)[decided[0].argmax()], counts[0].cpu()

        return stream


def write(predictor, path, out, others=()):
    """Write the answers to the samples in a file to a CSV file; return what was written, as a line.

    Raises UserError for a file that can't be read or does not fit, and if `out` can't be written, is that file, or is
    one of `others`, the paths of what was read before it.
    """
    path, out = user_path(path), user_path(out)
    check_writable(out)
    X = predictor.samples.read(path)
    replaced = check_replaces(out, [path, *others])
    found = predictor.answers(X, path)
    write_csv(out, answers.table(found, predictor.classes(found.scores), predictor.task.counts))
    return f"{out}: answers to {len(X)} samples{', in place of what was there' if replaced else ''}"
