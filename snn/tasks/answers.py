"""What a network answers to samples: as a table, and compared with what is true."""

from pathlib import Path
from typing import NamedTuple

import torch

from snn.base.files import write_csv

EQUAL = 0.001  # scores that differ by less are equal: averages of counts are rounded


class Answers(NamedTuple):
    """The answers to samples, in their order."""

    scores: torch.Tensor  # [N, classes], the output spikes that count
    answers: torch.Tensor  # [N] int64, classes
    labels: torch.Tensor  # [N] int64, the true ones


def tied(scores):
    """Return whether several classes have the highest of scores `[N, classes]`, bool `[N]`."""
    return (scores > scores.amax(1, keepdim=True) - EQUAL).sum(1) > 1


def table(found, classes, known):
    """Return a row for each sample, a dict: its number, what is known of it, the answer, and how clear it is.

    Args:
        found: Answers.
        classes: their names.
        known: of each sample, a dict.
    """
    best = found.scores.sort(1, descending=True)[0]
    columns = found.answers, found.scores, best[:, 0] - best[:, :2][:, -1], tied(found.scores)
    return [
        {"sample": n, **columns, "answer": classes[answer]}
        | {f"score {name}": f"{score:.7g}" for name, score in zip(classes, scores)}
        | {"margin": f"{margin:.7g}", "tie": "yes" if tie else "no"}
        for n, (columns, answer, scores, margin, tie) in enumerate(zip(known, *(of.tolist() for of in columns)))
    ]


def confusion(found):
    """Return how often samples of a class (rows) get an answer (columns), `[classes, classes]`."""
    classes = found.scores.shape[1]
    counts = torch.zeros(classes, classes, dtype=torch.long)
    return counts.index_put_((found.labels, found.answers), torch.ones_like(found.labels), accumulate=True)


def write(found, classes, folder):
    """Write a test's Answers to a run's folder: predictions.csv, confusion.csv, and classes.csv.

    The last has each class's precision, recall, and support, its number of samples; where none has it, or is answered
    with it, there is no share.
    """
    known, counts = [{"true": classes[label]} for label in found.labels.tolist()], confusion(found)
    write_csv(Path(folder) / "predictions.csv", table(found, classes, known))
    rows = zip(classes, counts.tolist())
    by_answer = [{"true": name} | {f"answer {other}": n for other, n in zip(classes, row)} for name, row in rows]
    write_csv(Path(folder) / "confusion.csv", by_answer)
    sums = zip(classes, *(of.tolist() for of in (counts.diagonal(), counts.sum(0), counts.sum(1))))
    by_class = [
        {"class": name, "precision": _share(right, answered), "recall": _share(right, support), "support": support}
        for name, right, answered, support in sums
    ]
    write_csv(Path(folder) / "classes.csv", by_class)


def _share(part, whole):
    return f"{part / whole:.4f}" if whole else ""
