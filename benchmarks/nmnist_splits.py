"""N-MNIST from 900 recordings: five splits of 1,050 into 900 for training, 100 for dev and 50 for the test.

    python benchmarks/nmnist_splits.py --root data/N-MNIST

The recordings are those of <root>/Train and <root>/Test, unpacked, together. Trains configs/recipes/nmnist_900.yaml on
each split, seed 2, two runs at a time, a thread each. Writes nmnist_splits.csv, a row for each run, to results/tables/.
Runs that are in the CSV are not repeated, so it can be stopped.
"""

import random
import sys
import tempfile
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.runs import command_line, complete, mean_and_deviation, run  # noqa: E402
from snn_conv_1_nmnist import network  # noqa: E402

RECIPE = ROOT / "configs/recipes/nmnist_900.yaml"
SPLITS = range(1, 6)
RECORDINGS, TEST = 1050, 50  # of all, and of the test set; the recipe takes 100 for dev


def link_split(split, files, folder):
    """Link the recordings into a folder in the form of N-MNIST, with another 50 of them as the test set."""
    order = random.Random(split).sample(files, RECORDINGS)
    for number, file in enumerate(order):
        link = (
            folder / ("Test" if number < TEST else "Train") / file.parent.name / f"{file.parents[1].name}_{file.name}"
        )
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)


def train(split, files):
    """Train once; return the row of the CSV."""
    with tempfile.TemporaryDirectory() as folder:
        link_split(split, files, Path(folder))
        words = ["--config_file", str(RECIPE), "--set", f"dataset.root={folder}"]
        result, tables = run("snn_conv_1_nmnist", network, words)
    metrics = tables["metrics"]
    return {
        "split": split,
        "best_epoch": result["best_epoch"],
        "dev": round(float(metrics[result["best_epoch"]]["dev_acc"]), 2),
        "test": round(result["test"], 2),
        "seconds": round(result["seconds"]),
        "on": result["on"],
    }


def main():
    parser = command_line(__doc__)
    parser.add_argument("--root", type=Path, default=ROOT / "data/N-MNIST", help="folder with Train and Test, unpacked")
    args = parser.parse_args()
    files = sorted(args.root.resolve().glob("T*/[0-9]/*.bin"))
    if len(files) < RECORDINGS:
        few = f"{len(files)} recordings T*/<digit>/*.bin in it, and {RECORDINGS} are needed: set --root to a folder"
        parser.exit(2, f"error: {args.root}: {few} with more, unpacked\n")
    wanted = [(split,) for split in SPLITS]
    of_split = partial(train, files=files)
    rows = complete(args.out / "nmnist_splits.csv", ("split",), wanted, of_split, lambda row: row["split"], args.jobs)
    for part in ("dev", "test"):
        values = [float(row[part]) for row in rows]
        print(f"{part}: {mean_and_deviation(values)} %")


if __name__ == "__main__":
    main()
