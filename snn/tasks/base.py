"""A task: its loss, and how a run reports its results."""

import math

BELOW = 0.99  # times the loss of silence: a loss above that shows no learning


class Task:
    """What a network is trained for. Your own task needs `loss` and may override the rest.

    Attributes:
        metric: decides which of two epochs is better; names the columns train_<metric> and dev_<metric>. If it is not
            the loss, `score` and `value` define it.
        highest_is_best: whether higher is better.
        reports: whether --train and --test call `report` too, not only --inspect.
        classifies: whether there is an answer to each sample, as `answers` says; a test writes it to a run's folder.
        counts: whether the scores of these answers are numbers of spikes, which may be equal.
        better: what the line of an epoch says that `is_better` than those before.
    """

    metric = "loss"
    highest_is_best = False
    reports = False
    classifies = counts = False
    better = "best so far"

    def of(self, config):
        """Return the task as a config's keys define it; here they define none of it."""
        return self

    def loss(self, y, targets):
        """Return the mean loss over a batch's samples, a tensor, for the network's output `[T, B, *]` and targets."""
        raise NotImplementedError(f"{type(self).__name__} needs a loss(y, targets)")

    def score(self, y, targets):
        """Return what to sum over all samples besides the loss, such as correct answers: a number or a tensor."""
        return 0

    def ties(self, y, targets):
        """Return how many answers are undecided by the output: a number or a tensor."""
        return 0

    def settled(self, y, drive, targets):
        """Return an output whose ties are decided by `drive` (`snn.look.drive`), of its shape or None, for `score`."""
        return y

    def answers(self, y, settled, targets):
        """Return the `snn.tasks.answers.Answers` to a batch, by its output and that of `settled`."""
        raise NotImplementedError

    def value(self, result):
        """Return the metric of a whole pass, from its `snn.run.passes.Result`."""
        return result.loss

    def text(self, value):
        """Return a value of the metric as text."""
        return f"{self.metric} {value:.5f}"

    def is_better(self, entry, than):
        """Whether an epoch is better than another; both are rows of metrics.csv."""
        mine, other = (line[f"dev_{self.metric}"] for line in (entry, than))
        return mine > other if self.highest_is_best else mine < other

    def learns(self, entry, silence, samples):
        """Whether an epoch, a row of metrics.csv, is better on dev than a network without an output spike.

        Args:
            silence: the loss of such a network.
            samples: number of those in dev.
        """
        loss = entry.get("dev_loss")
        return loss is None or not 0 < silence < math.inf or loss < BELOW * silence

    def columns(self, train, dev):
        """Return an epoch's results as columns of metrics.csv, numbers."""
        losses = {"train_loss": train.loss, "dev_loss": dev.loss}
        if self.metric == "loss":
            return losses
        return {f"train_{self.metric}": self.value(train), f"dev_{self.metric}": self.value(dev)} | losses

    def summary(self, result):
        """Return a short text about a pass, for an epoch's line and the progress bar."""
        loss = "" if self.metric == "loss" else f" (loss {result.loss:.4f})"
        return self.text(self.value(result)) + loss

    def test_line(self, result):
        """Return the last line of a test, for programs to read."""
        return f"test {self.metric}: {self.value(result):.5f}"

    def inspect(self, view):
        """Test the network, for --inspect.

        Args:
            view: a `snn.look.inspection.View`.
        Returns (test Result, pictures): by name, a function without arguments that makes the figure, and a caption.
        """
        return view.test(self), {}

    def report(self, view, folder):
        """Write files to a run's folder and print a summary; return pictures, as `inspect` does. Here nothing."""
        return {}

    def picture(self, view):
        """Return (name, figure) for TensorBoard, of the network at work on one sample; None shows nothing."""
        from snn.look import layer_plots  # imports matplotlib, which takes a second

        if not view.trace.spikes:
            return None
        sample = {name: spikes[:, 0] for name, spikes in view.trace.spikes.items()}
        return "spikes", layer_plots.rasters(view.net, sample)
