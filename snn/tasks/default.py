"""The task of networks for a dataset, where no other is given."""

from snn.data import datasets, ecg, patterns, series
from snn.tasks.association import Association
from snn.tasks.classification import Classification
from snn.tasks.series import SeriesClassification
from snn.tasks.steps import StepClassification

TASKS = {series: SeriesClassification, ecg: StepClassification, patterns: Association}


def task_for(config, dataset=None):
    """Return the task that the targets of the config's dataset are for; `dataset` is in place of that."""
    return TASKS.get(datasets.kind(dataset or datasets.module_of(config["dataset"]["name"])), Classification)()
