"""What a task is: a loss, and all that a run says and shows of its results."""


class Task:
    """What a network is trained for. A task of your own needs `loss`; it may do the rest otherwise too.

    Attributes:
        metric: what tells which of two epochs is better; it names the columns train_<metric> and dev_<metric>. If it is
            not the loss, `score` and `value` say what it is.
        highest_is_best: whether more of it is better.
    """

    metric = "loss"
    highest_is_best = False

    def loss(self, y, targets):
        """The mean loss over a batch's samples, a tensor, of the network's output `[T, B, *]` and the targets."""
        raise NotImplementedError

    def score(self, y, targets):
        """What is added up over all samples beside the loss, such as correct answers: a number or a tensor."""
        return 0

    def value(self, result):
        """The metric of a whole pass, from its `snn.run.loop.Result`."""
        return result.loss

    def text(self, value):
        """A value of the metric as text."""
        return f"{self.metric} {value:.5f}"

    def is_better(self, entry, than):
        """Whether an epoch is better than another, both as lines of metrics.csv."""
        mine, other = (line[f"dev_{self.metric}"] for line in (entry, than))
        return mine > other if self.highest_is_best else mine < other

    def columns(self, train, dev):
        """An epoch's results as columns of metrics.csv."""
        losses = {"train_loss": train.loss, "dev_loss": dev.loss}
        if self.metric == "loss":
            return losses
        return {f"train_{self.metric}": self.value(train), f"dev_{self.metric}": self.value(dev)} | losses

    def summary(self, result):
        """A pass in a few words, for an epoch's line and the progress bar."""
        loss = "" if self.metric == "loss" else f" (loss {result.loss:.4f})"
        return self.text(self.value(result)) + loss

    def test_line(self, result):
        """The last line of a test, for programs to read."""
        return f"test {self.metric}: {self.value(result):.5f}"

    reports = False  # whether --train and --test leave what `report` gives, not --inspect alone

    def inspect(self, view):
        """Test the network, for --inspect.

        Args:
            view: a `snn.look.inspection.View`.
        Returns (test Result, pictures): by its name, each picture's function without arguments and its caption.
        """
        return view.test(self), {}

    def report(self, view, folder):
        """Leave files in a run's folder and print what they say; gives pictures, as `inspect`. Here nothing."""
        return {}

    def picture(self, view):
        """(name, figure) for TensorBoard, of what the network does with one sample; None shows nothing."""
        from snn.look import plots  # imports matplotlib, which takes a second

        if not view.trace.spikes:
            return None
        return "spikes", plots.rasters({name: spikes[:, 0] for name, spikes in view.trace.spikes.items()})
