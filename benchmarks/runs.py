"""Whole runs of experiments, quietly and in temporary folders; tables of runs, which can be stopped; seeds drawn."""

import argparse
import contextlib
import csv
import io
import json
import os
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch

from snn.base.files import write_csv
from snn.run.cli import main

ROOT = Path(__file__).parents[1]
SEEDS = range(1, 6)
FILTERS = {  # what is compared of synapse filters: overrides of an experiment's config
    "trained": [],
    "fixed": ["hyperparameters.train_coefficients=false"],
    "first order": ["hyperparameters.synapse_type=first_order"],
    "real poles only": ["hyperparameters.filters.rotating=0"],
    "none": ["hyperparameters.synapse_type=none"],
}
SHOWN = 40  # letters of a value that is printed; longer ones are curves


@contextlib.contextmanager
def in_temporary_folder():
    """Make a temporary folder the current one in the block; yield its path. It is deleted after the block."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def run(experiment, network, words, task=None):
    """Train and test an experiment with these words of the command line, without checkpoints.

    Returns its result.json as a dict, with the `seconds` of all epochs, and the rows of each CSV file in its run
    folder, by name such as "metrics".
    """
    with in_temporary_folder() as folder, contextlib.redirect_stdout(io.StringIO()):
        try:
            with contextlib.redirect_stderr(io.StringIO()) as complaints:
                main(experiment, network, task, argv=["--train", "--set", "save_checkpoint=false", *words])
        except SystemExit:
            raise RuntimeError(complaints.getvalue()) from None
        (left,) = (folder / "runs" / experiment).iterdir()
        tables = {file.stem: list(csv.DictReader(file.read_text().splitlines())) for file in left.glob("*.csv")}
        result = json.loads((left / "result.json").read_text())
        return result | {"seconds": sum(float(row["seconds"]) for row in tables["metrics"])}, tables


def label(variant):
    """Return what tables and pictures call networks with such filters."""
    return "no filters" if variant == "none" else f"filters, {variant}"


def as_words(overrides):
    """Return overrides `key=value` as words of the command line."""
    return [word for override in overrides for word in ("--set", override)]


def mean_and_deviation(values, digits=1):
    """Return the mean of figures as text, with their standard deviation if there are several."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if values[1:] else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def command_line(description):
    """Return the parser of a benchmark of whole runs, with the options that all of these have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, a thread each")
    parser.add_argument("--out", type=Path, default=ROOT / "results/tables", help="folder for what is written")
    return parser


def complete(file, columns, wanted, train, order, jobs):
    """Do the runs that a CSV file lacks, each in a process with one thread; return all its rows, as strings.

    Args:
        file: the CSV file, which is written after every run; it may not be there yet.
        columns: names of those columns that tell runs apart.
        wanted: the runs, in the order in which to do them: a tuple of values of these columns for each.
        train: does a run; from these values to its row, a dict. A function of a module, or a partial of one.
        order: from a row to what the file's rows are sorted by.
        jobs: how many runs at a time.
    """
    rows = list(csv.DictReader(file.read_text().splitlines())) if file.exists() else []
    done = {tuple(row[column] for column in columns) for row in rows}
    missing = [which for which in wanted if tuple(map(str, which)) not in done]
    with ProcessPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for future in as_completed([pool.submit(train, *which) for which in missing]):
                row = {key: str(value) for key, value in future.result().items()}
                print(", ".join(f"{key} {value}" for key, value in row.items() if len(value) <= SHOWN), flush=True)
                rows = sorted([*rows, row], key=order)
                write_csv(file, rows)
        except BaseException:  # a run that fails, or Ctrl-C, is not told after hours of other runs
            pool.shutdown(cancel_futures=True)
            raise
    return rows


def draw_seeds(axis, x, curves, color, alpha, **options):
    """Draw the mean of curves, one for each seed, and a band from the lowest to the highest."""
    points = list(zip(*curves))
    axis.plot(x, [statistics.mean(values) for values in points], color=color, **options)
    axis.fill_between(x, *([limit(v) for v in points] for limit in (min, max)), color=color, alpha=alpha, lw=0)
