"""A whole run of an experiment, quietly and in a temporary folder, for the benchmarks that train."""

import contextlib
import csv
import io
import json
import os
import tempfile
from pathlib import Path

from snn.run.cli import main


def run(experiment, network, words, task=None):
    """Train and test an experiment with these words of the command line, without checkpoints.

    Returns its result.json as a dict, and the rows of each CSV file in its run folder, by name such as "metrics".
    """
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.chdir(folder)
        try:
            with contextlib.redirect_stderr(io.StringIO()) as complaints:
                main(experiment, network, task, argv=["--train", "--set", "save_checkpoint=false", *words])
        except SystemExit:
            raise RuntimeError(complaints.getvalue()) from None
        finally:
            os.chdir(before)
        (left,) = Path(folder, "runs", experiment).iterdir()
        tables = {file.stem: list(csv.DictReader(file.read_text().splitlines())) for file in left.glob("*.csv")}
        return json.loads((left / "result.json").read_text()), tables
