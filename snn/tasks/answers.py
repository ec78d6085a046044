"""What a network answers to samples: as a table, and compared with what is true."""

from pathlib import Path
from typing import NamedTuple

import torch

from snn.base.files import write_csv
from snn.base.output import say

EQUAL = 0.001  # scores that differ by less are equal: averages of counts are rounded
PRINTED = 12  # classes at most, for which precision and recall are printed


class Answers(NamedTuple):
    """The answers to samples, in their order."""

    scores: torch.Tensor  # [N, classes], the output spikes that count
    answers: torch.Tensor  # [N] int64, classes
    labels: torch.Tensor  # [N] int64, the true ones


def tied(scores):
    """Return whether several classes have the highest of scores `[N, classes]`, bool `[N]`."""
    return (scores > scores.amax(1, keepdim=True) - EQUAL).sum(1) > 1


def table(found, classes, known):
    """Return a row for each sample, a dict: what is known of it, the answer, and how clear it is.

    Args:
        found: Answers.
        classes: their names.
        known: of each sample, the columns that come first, a dict.
    """
    best = found.scores.sort(1, descending=True)[0]
    margins, ties = best[:, 0] - best[:, :2][:, -1], tied(found.scores)
    values = zip(known, *(column.tolist() for column in (found.answers, found.scores, margins, ties)))
    return [
        {"sample": n, **columns, "answer": classes[answer]}
        | {f"score {name}": f"{score:.7g}" for name, score in zip(classes, scores)}
        | {"margin": f"{margin:.7g}", "tie": "yes" if tie else "no"}
        for n, (columns, answer, scores, margin, tie) in enumerate(values)
    ]


def confusion(found):
    """Return how often samples of a class (rows) get an answer (columns), `[classes, classes]`."""
    classes = found.scores.shape[1]
    counts = torch.zeros(classes, classes, dtype=torch.long)
    return counts.index_put_((found.labels, found.answers), torch.ones_like(found.labels), accumulate=True)


def write(found, classes, folder):
    """Write a test's Answers to a run's folder, and print precision and recall if there are few classes.

    predictions.csv has a row for each sample; classes.csv has precision, recall and support, the number of samples,
    of each class, empty where there is no such answer or sample; confusion.csv has how often samples of a class (rows)
    get an answer (columns).
    """
    folder, counts = Path(folder), confusion(found)
    write_csv(folder / "predictions.csv", table(found, classes, [{"true": classes[n]} for n in found.labels.tolist()]))
    by_class = [
        {"class": name, "precision": _share(right, answers), "recall": _share(right, support), "support": support}
        for name, right, answers, support in zip(
            classes, counts.diagonal().tolist(), counts.sum(0).tolist(), counts.sum(1).tolist()
        )
    ]
    write_csv(folder / "classes.csv", by_class)
    rows, answered = zip(classes, counts.tolist()), [f"answer {name}" for name in classes]
    write_csv(folder / "confusion.csv", [{"true": name} | dict(zip(answered, row)) for name, row in rows])
    if len(classes) <= PRINTED:
        width = max(map(len, ("class", *classes)))
        say(f"{'class':{width}}  precision  recall  samples")
        for row in by_class:
            say("{class:{width}}  {precision:>9}  {recall:>6}  {support:7}".format(width=width, **row))


def _share(part, whole):
    return f"{part / whole:.4f}" if whole else ""
