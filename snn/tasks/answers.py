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
    labels: torch.Tensor | None  # [N] int64, the true ones; None if they are unknown


def tied(scores):
    """Return whether several classes have the highest of scores `[N, classes]`, bool `[N]`."""
    return (scores > scores.amax(1, keepdim=True) - EQUAL).sum(1) > 1


def table(found, classes, counts=True):
    """Return a row for each sample of Answers, a dict: its number, the answer, and how clear it is.

    Only scores that are `counts` of spikes tie.
    """
    rows, ties = [], (tied(found.scores) & counts).tolist()
    for n, (answer, scores) in enumerate(zip(found.answers.tolist(), found.scores.tolist())):
        *_, second, best = [0, *sorted(scores)]
        true = {} if found.labels is None else {"true": classes[found.labels[n]]}
        by_class = {f"score {name}": f"{score:.7g}" for name, score in zip(classes, scores)}
        clear = {"margin": f"{best - second:.7g}", "tie": "yes" if ties[n] else "no"}
        rows.append({"sample": n} | true | {"answer": classes[answer]} | by_class | clear)
    return rows


def confusion(found):
    """Return how often samples of a class (rows) get an answer (columns), `[classes, classes]`."""
    classes = found.scores.shape[1]
    counts = torch.zeros(classes, classes, dtype=torch.long)
    return counts.index_put_((found.labels, found.answers), torch.ones_like(found.labels), accumulate=True)


def write(found, classes, folder, counts=True):
    """Write a test's Answers to a run's folder: predictions.csv, as `table` says, confusion.csv, and classes.csv.

    The last has each class's precision, recall, and support, its number of samples; where none has it, or is answered
    with it, there is no share.
    """
    write_csv(Path(folder) / "predictions.csv", table(found, classes, counts))
    counts, by_answer, by_class = confusion(found), [], []
    for n, name in enumerate(classes):
        right, answered, support = counts[n, n].item(), counts[:, n].sum().item(), counts[n].sum().item()
        by_answer.append({"true": name} | {f"answer {other}": k for other, k in zip(classes, counts[n].tolist())})
        by_class.append({
            "class": name,
            "precision": f"{right / answered:.4f}" if answered else "",
            "recall": f"{right / support:.4f}" if support else "",
            "support": support,
        })  # fmt: skip
    write_csv(Path(folder) / "confusion.csv", by_answer)
    write_csv(Path(folder) / "classes.csv", by_class)
