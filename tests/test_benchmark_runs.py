"""Tables of runs, as the benchmarks make them."""

import time
from functools import partial
from pathlib import Path
from unittest.mock import create_autospec

import pytest
from small import make_trainer

from benchmarks import long_training
from benchmarks.runs import complete
from snn.look.board import Board


def train(number, folder):
    """Leave a file; the first run fails."""
    Path(folder, str(number)).touch()
    time.sleep(0.1)
    if number == 0:
        raise RuntimeError("run 0 failed")
    return {"number": number, "square": number**2}


def test_the_board_is_written_as_in_a_training(tmp_path):
    trainer, writer = make_trainer(tmp_path), create_autospec(Board, instance=True)
    long_training.seconds_of_board(trainer, writer, 1)
    writer.write.assert_called_once()


def test_only_missing_runs_are_made(tmp_path):
    file, ran = tmp_path / "runs.csv", tmp_path / "ran"
    ran.mkdir()
    file.write_text("number,square\n2,from before\n")
    rows = complete(file, ("number",), [(3,), (2,), (1,)], partial(train, folder=ran), lambda row: row["number"], 1)
    assert sorted(path.name for path in ran.iterdir()) == ["1", "3"]
    assert [row["square"] for row in rows] == ["1", "from before", "9"]
    assert file.read_text().split() == ["number,square", "1,1", "2,from", "before", "3,9"]


def test_a_run_that_fails_is_told_before_the_others_are_made(tmp_path):
    wanted = [(number,) for number in range(20)]
    with pytest.raises(RuntimeError, match="run 0 failed"):
        complete(tmp_path / "runs.csv", ("number",), wanted, partial(train, folder=tmp_path), str, 1)
    assert len(list(tmp_path.iterdir())) < 10
