"""A table of trainings beside the published figures, and their learning curves.

python -m snn.report runs/                       prints the table; table.md and the curves go to runs/
python -m snn.report runs/ more/ --out results   of several folders, to another one
"""

import argparse
import csv
import json
import sys
from pathlib import Path

import yaml

from snn import plots
from snn.errors import UserError
from snn.files import written_beside

# Dev and test figures of the epoch that was best on dev, from the paper's public code after 100 epochs: accuracy in
# percent, for the associative memory the loss. In the order of the table.
PUBLISHED = {
    "snn_mlp_1": (98.58, 98.94),
    "snn_mlp_1_non_zero": (98.49, 98.86),
    "snn_mlp_1_poisson_input": (98.63, 98.93),
    "snn_mlp_2": (98.66, 98.96),
    "snn_mlp_2_poisson_input": (98.75, 98.98),
    "snn_conv_1_mnist": (99.47, 99.59),
    "snn_conv_1_mnist_poisson_input": (99.48, 99.52),
    "snn_conv_1_nmnist": (98.71, 98.56),
    "snn_conv_1_gesture": (85.16, 66.32),
    "snn_conv_1_gesture_30": (85.94, 68.75),
    "snn_conv_1_gesture_max": (75.78, 70.49),
    "associative_memory": (0.00369, 0.0042),
}
COLUMNS = ("Run", "Epochs", "Best epoch", "Train", "Dev", "Test", "Published dev / test", "Time", "Seed", "Version")


def read_run(folder):
    """What a training's folder says, as a dict.

    Keys: folder, config, metrics (a dict of numbers for each epoch), result (as result.json, empty if the training has
    not ended).
    Raises UserError for files that are broken.
    """
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text())
        with open(folder / "metrics.csv") as file:
            metrics = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
        done = folder / "result.json"
        result = json.loads(done.read_text()) if done.exists() else {}
        run = {"folder": folder, "config": config, "metrics": metrics, "result": result}
        row(run), result.get("best_epoch")  # all that is read of it is there
    except (OSError, ValueError, TypeError, LookupError, AttributeError, csv.Error, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder} holds no readable run ({reason}): move it away or give other folders") from None
    return run


def row(run):
    """A line of the table: a dict by COLUMNS."""
    metrics, result = run["metrics"], run["result"]
    counted = "dev_acc" in metrics[0]
    best = max(metrics, key=lambda e: e["dev_acc"]) if counted else min(metrics, key=lambda e: e["dev_loss"])
    train, dev = (best["train_acc"], best["dev_acc"]) if counted else (best["train_loss"], best["dev_loss"])
    name = run["config"]["experiment_name"]
    published = PUBLISHED.get(name)
    seconds = sum(entry["seconds"] for entry in metrics)

    def figure(value):
        return "not run" if value is None else f"{value:.2f} %" if counted else f"{value:.5f}"

    return {
        "Run": f"{name} {run['folder'].name}",
        "Epochs": f"{len(metrics)} of {run['config']['hyperparameters']['epoch']}",
        "Best epoch": f"{best['epoch']:.0f}",
        "Train": figure(train), "Dev": figure(dev), "Test": figure(result.get("test")),
        "Published dev / test": " / ".join(map(figure, published)) if published else "",
        "Time": f"{seconds / 3600:.1f} h" if seconds > 3600 else f"{seconds / 60:.0f} min",
        "Seed": str(run["config"]["pytorch_seed"]), "Version": result.get("version", ""),
    }  # fmt: skip


def table(runs):
    """The runs as a Markdown table, in the order of PUBLISHED, then by time; below it the experiments without one."""
    order = list(PUBLISHED)

    def place(run):
        name = run["config"]["experiment_name"]
        return order.index(name) if name in order else len(order), name, run["folder"].name

    lines = [COLUMNS, ["---"] * len(COLUMNS), *(row(run).values() for run in sorted(runs, key=place))]
    names = {run["config"]["experiment_name"] for run in runs}
    missing = ", ".join(f"`{name}`" for name in PUBLISHED if name not in names)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + (f"\nNot run: {missing}.\n" if missing else "")


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m snn.report", formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__
    )
    parser.add_argument("folders", nargs="+", type=Path, help="run folders, or folders that hold some at any depth")
    parser.add_argument("--out", type=Path, help="where table.md and the curves go; the first folder if left out")
    args = parser.parse_args(argv)
    try:
        found = sorted({file.parent for folder in args.folders for file in folder.rglob("metrics.csv")})
        runs = [read_run(folder) for folder in found]
        if not runs:
            raise UserError(f"no run in {', '.join(map(str, args.folders))}: train first, or name the folder runs/")
        out = args.out or args.folders[0]
        text = table(runs)
        print(text, end="")
        with written_beside(out / "table.md") as file:
            file.write(text.encode())
        by_name = {}
        for run in runs:
            by_name.setdefault(run["config"]["experiment_name"], []).append(run)
        for name, of_name in by_name.items():
            with written_beside(out / f"{name}.png") as file:
                plots.learning_curves(name, of_name, PUBLISHED.get(name)).savefig(file, format="png", dpi=100)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{out / 'table.md'} and {len(by_name)} pictures of learning curves written", file=sys.stderr)


if __name__ == "__main__":
    main()
