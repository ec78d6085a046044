"""Classification of every time step: the class with the highest potential at a step is the answer there."""

from snn.data import datasets
from snn.tasks.answers import confusion
from snn.tasks.classification import Classification


class StepClassification(Classification):
    """Targets are classes `[T, B]`, outputs potentials `[T, B, classes]` of a readout that does not spike.

    The loss is the mean cross-entropy over samples and steps, the score of a sample the share of its steps that are
    right. There is an answer to each step, all of the first sample, then of the next one.
    """

    counts = False

    def counted(self, y, targets):
        """Return each step of each sample as a sample of one step, `[1, B * T, classes]`, and its class `[B * T]`."""
        return y.transpose(0, 1).flatten(0, 1)[None], targets.t().flatten()

    def score(self, y, targets):
        return super().score(y, targets) / len(targets)

    def ties(self, y, targets):
        return 0  # potentials are not counts: none are equal

    def test_line(self, result):
        return f"test accuracy: {self.value(result):.2f} % of the steps of {result.total} records"

    def inspect(self, view):
        from snn.look import class_plots  # imports matplotlib, which takes a second

        result = view.test(self)
        classes = class_plots.class_labels(datasets.class_names(view.config, view.y.shape[2]))
        return result, {
            "steps": (
                lambda: self.picture(view)[1],
                "Test samples: the input over all steps, the class of each step, and the network's answer to it.",
            ),
            "confusion": (
                lambda: class_plots.confusion(confusion(result.answers), classes),
                "Steps of the test samples by class and answer.",
            ),
        }

    def picture(self, view):
        from snn.look import class_plots, step_plots

        classes = class_plots.class_labels(datasets.class_names(view.config, view.y.shape[2]))
        return "steps", step_plots.steps(view.x, view.targets, view.y, classes)
