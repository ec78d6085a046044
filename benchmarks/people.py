"""New people: recordings of people who are not in the training set, told apart whole, and by windows of them.

    python benchmarks/people.py watch.npz --labels exercise --groups subject

The file is an .npz as docs/data.md has it; results/ has the seven exercises that seglearn.load_watch() returns, X in
values and ends, y in exercise, and subject. Folds leave people out in turn, with three seeds each. Settings are those
of configs/time_series.yaml; a network is trained on all the other people (`dataset.refit`). Whole recordings are one
answer each. Windows are of four seconds at 50 Hz, half overlapping; a recording's answer is then that of all its
windows' output spikes. Writes people.csv, a row for each run, to results/tables/, and from it people.md. Runs that are
in the CSV are not repeated, so it can be stopped; another file needs another --out.
"""

import statistics
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import snn  # noqa: E402
from benchmarks.runs import command_line, complete, in_temporary_folder, mean_and_deviation  # noqa: E402
from snn.base.files import write_text  # noqa: E402
from snn.data import series, series_files  # noqa: E402

WINDOW = 200  # steps
FOLDS, SEEDS = 5, range(1, 4)


def windows(values):
    """Return windows `[C, WINDOW]` of a recording `[steps, C]`, half overlapping."""
    starts = range(0, max(len(values) - WINDOW, 0) + 1, WINDOW // 2)
    return [values[start : start + WINDOW].T for start in starts]


def train(kind, fold, seed, file, labels, groups):
    """Train on the people of other folds, and test; return the row of the CSV."""
    start, given = time.monotonic(), series_files.read(file, labels, groups)
    in_test = np.isin(given.groups, sorted(set(given.groups))[fold::FOLDS])
    parts = []
    for places in (np.flatnonzero(~in_test), np.flatnonzero(in_test)):
        cut = [windows(given.values[n]) if kind == "windows" else [given.values[n].T] for n in places]
        of_recording = np.repeat(np.arange(len(places)), [len(of) for of in cut])
        parts.append((sum(cut, []), given.labels[places], of_recording))
    (x, y, whose), (x_test, y_test, whose_test) = parts
    data = series.from_arrays(x, y[whose], x_test, y_test[whose_test])
    settings = {"experiment_name": "people", "pytorch_seed": seed, "save_checkpoint": False, "dataset": {"refit": True}}
    settings["device"] = "cpu"
    with in_temporary_folder():
        run = snn.train("time_series", settings, dataset=data)
    classes = [int(name) for name in run.config["measured"]["classes"]]
    counts = torch.zeros(len(y_test), len(classes)).index_add_(0, torch.from_numpy(whose_test), rates(run, data))
    right = np.array(classes)[counts.argmax(1).numpy()] == y_test
    return {
        "kind": kind, "fold": fold, "seed": seed, "by window": round(100 * run.test.score / run.test.total, 2),
        "by recording": round(100 * right.mean(), 2), "seconds": round(time.monotonic() - start, 1),
    }  # fmt: skip


@torch.no_grad()
def rates(run, data):
    """Return the share of steps at which each output neuron spikes, for each test series, `[N, classes]`."""
    test = data.load(run.config, torch.device("cpu"), None)[0]["test"]
    found = []
    for x, (_, ends) in test.batches_of(torch.arange(len(test)).split(64), torch.Generator()):
        before_end = torch.arange(len(x))[:, None] < ends
        found.append((run.net(x)[0] * before_end[..., None]).sum(0) / ends[:, None])
    return torch.cat(found)


def table(rows):
    """Return the results as a Markdown table: mean over folds and seeds, and the deviation of the folds' means."""
    lines = [
        f"People who are not in training: {FOLDS} folds, {len(SEEDS)} seeds; accuracy in percent, mean ± standard",
        "deviation of the folds. Made by `python benchmarks/people.py F`.", "",
        "| Trained on | One answer each | By recording |", "|---|---|---|",
    ]  # fmt: skip
    for kind in ("recordings", "windows"):
        cells = []
        for column in ("by window", "by recording"):
            of_folds = [
                statistics.mean(float(row[column]) for row in rows if (row["kind"], row["fold"]) == (kind, str(fold)))
                for fold in range(FOLDS)
            ]
            cells.append(mean_and_deviation(of_folds))
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main():
    parser = command_line(__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--labels", default="labels", help="the array with each recording's label")
    parser.add_argument("--groups", default="groups", help="the array with each recording's person")
    args = parser.parse_args()
    wanted = [(kind, fold, seed) for seed in SEEDS for kind in ("windows", "recordings") for fold in range(FOLDS)]
    job = partial(train, file=args.file.resolve(), labels=args.labels, groups=args.groups)
    file, columns = args.out.resolve() / "people.csv", ("kind", "fold", "seed")
    rows = complete(file, columns, wanted, job, lambda row: [row[column] for column in columns], args.jobs)
    write_text(file.with_suffix(".md"), table(rows))


if __name__ == "__main__":
    main()
