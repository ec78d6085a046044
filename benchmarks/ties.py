"""Ties of spike counts on dev: how many there are, and how often each rule for them is right.

    python benchmarks/ties.py snn_mlp_1 time_series --root data             weights that ship
    python benchmarks/ties.py checkpoint/*/best.pt --experiment time_series --root data/time_series    or your own

Prints a row of a Markdown table for each checkpoint of a classification, all in one process.
"""

import argparse
import contextlib
import io
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import snn  # noqa: E402
from snn import config  # noqa: E402
from snn.checkpoint.trained import network_of  # noqa: E402
from snn.data import datasets  # noqa: E402
from snn.run.step import evaluate  # noqa: E402
from snn.tasks.default import task_for  # noqa: E402


def results(path, experiment, root):
    """Return the name of a checkpoint's experiment, its seed, its task, and its Result on dev by each rule."""
    net = snn.load(path, experiment and network_of(experiment, path))
    settings, device = net.config, torch.device("cpu")
    if root:
        settings["dataset"]["root"] = root
    for kept in (ROOT / "results" / str(path)).glob("*/config.yaml"):  # of weights that ship: their dev, not another
        settings["dataset"]["dev_size"] = config.read(kept)["dataset"]["dev_size"]
    with contextlib.redirect_stdout(io.StringIO()):
        dev = datasets.load(settings, device, net.input_shape)[0]["dev"]
    task = task_for(settings).of(settings)
    of_rules = [evaluate(net, dev, settings | {"ties": rule}, task) for rule in ("first", "potential")]
    data = settings["dataset"]["name"]
    return f"{settings['experiment_name'].removesuffix('-demo')}, {data}", settings["pytorch_seed"], task, of_rules


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", help="paths, or names of weights that ship")
    parser.add_argument("--experiment", help="whose network it is, for runs under a name of their own")
    parser.add_argument("--root", help="dataset.root")
    args = parser.parse_args()
    print("| Experiment, data | Seed | Dev | Ties | The first (%) | By potential (%) |\n|---|---|---|---|---|---|")
    for path in args.checkpoints:
        name, seed, task, (first, potential) = results(path, args.experiment, args.root)
        figures = " | ".join(f"{task.value(result):.2f}" for result in (first, potential))
        print(f"| {name} | {seed} | {first.total:,} | {first.ties} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
