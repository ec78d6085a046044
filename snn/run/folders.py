"""What a run writes to disk, except its checkpoints' content."""

import json
import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy
import torch

from snn.base import yamls
from snn.base.errors import UserError, not_written
from snn.base.files import shipped, write_csv, write_text
from snn.base.keys import file_name
from snn.base.owner import owned

SUFFIXES = ["", *(f"_{n}" for n in range(2, 1000))]  # of folders made within the same second


def new_run_folder(experiment):
    """Make a new folder runs/<experiment>/<time> and return it."""
    start, parent = time.strftime("%Y-%m-%d_%H-%M-%S"), Path("runs", experiment)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for suffix in SUFFIXES:
            folder = parent / (start + suffix)
            with suppress(FileExistsError):
                folder.mkdir()
                return folder
    except OSError as error:
        raise not_written(parent, error) from None
    raise UserError(f"the run folder {folder} already exists: try again in a second")


def own_run_folder(saved, experiment):
    """Return the run folder that a checkpoint names if it is one of its experiment's in runs/; else None."""
    *parents, name = str(saved).split(os.sep)
    try:
        folder = Path("runs", experiment, file_name(name))
    except ValueError:
        return None
    return folder if parents == ["runs", experiment] and not folder.is_symlink() else None


def owned_by_a_run(folder):
    """Own a folder of checkpoints in the block, as `snn.base.owner.owned` does."""
    return owned(folder, "or set another experiment_name (--set experiment_name=NAME)")


def move_aside(folder):
    """Keep an older run's checkpoints: append the time of the last one to their folder's name."""
    files = list(folder.glob("*.pt"))
    if files:
        newest = max(file.lstat().st_mtime for file in files)
        when = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(newest))
        names = (f"{folder.name}_{when}{suffix}" for suffix in SUFFIXES)
        aside = next(path for path in map(folder.with_name, names) if not os.path.lexists(path))
        try:
            folder.rename(aside)
        except OSError as error:
            raise UserError(f"{folder} can't be moved to {aside}: {error.strerror}; move it away") from None
        print(f"the checkpoints of an older run are now in {aside}", file=sys.stderr)


def write_config(folder, config):
    """Write config.yaml, without what was measured of the dataset: as a config of another dataset it would be wrong."""
    config = {name: value for name, value in config.items() if name != "measured"}
    write_text(folder / "config.yaml", yamls.dump(config, sort_keys=False))


def write_metrics(folder, history):
    """Write metrics.csv: a row for each epoch, a dict in `history`."""
    rows = [
        {key: float(f"{value:.8g}") if isinstance(value, float) else value for key, value in entry.items()}
        for entry in history
    ]
    write_csv(folder / "metrics.csv", rows)


def write_result(folder, experiment, splits, device, ranks, best_epoch, task, result):
    """Write result.json: what `snn.report` needs besides the metrics; `result` is that of the task's test, or None."""
    threads = torch.get_num_threads()
    cpu = f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    shared = f", {ranks} ranks" if ranks > 1 else ""
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    values = {
        "experiment": experiment,
        "best_epoch": best_epoch,
        "metric": task.metric,
        "highest_is_best": task.highest_is_best,
        **({"test": task.value(result), "test_ties": result.ties} if result else {}),
        "samples": {name: len(split) // split.repeats for name, split in splits.items()},
        "on": f"torch {torch.__version__}, {hardware}{shared}",
        "commit": _commit(),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
    }
    write_text(folder / "result.json", json.dumps(values, indent=2) + "\n")


def _commit():
    """Return the project's commit, with + if files differ from it; empty where it is not a clone."""
    project = shipped("configs").parent
    if not (project / ".git").exists():  # an installation, which may lie in another project's clone
        return ""
    words = ["git", "-C", str(project), "describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git here, or not for this user
        return ""
