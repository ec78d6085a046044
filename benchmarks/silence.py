"""What silence costs: lines that were active and fall silent leave numbers that some processors are slow with.

    python benchmarks/silence.py                               trains snn_mlp_1's demo, then takes made-up input
    python benchmarks/silence.py --mnist data --epochs 2       trains on MNIST instead of the demo

Prints the seconds of each epoch of snn_mlp_1, and the fastest of the last three epochs over that of the first three (of
fewer than six, of the halves); then, for each number of time steps, the milliseconds of a training step of a
4-256-256-5 network, batch 16, whose input falls silent after 50 steps, and their ratio to those of one whose input
stays active; medians of interleaved steps, with quartiles.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.networks import mlp  # noqa: E402
from benchmarks.timing import time_in_turn  # noqa: E402
from snn.base import process  # noqa: E402

ACTIVE = 50  # steps
BATCH = 16


def seconds_of_epochs(words):
    """Train snn_mlp_1 in a new folder; return the seconds of each epoch."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "snn_mlp_1.py"), *words]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (file,) = Path(folder).glob("runs/*/*/metrics.csv")
        return [float(row["seconds"]) for row in csv.DictReader(file.read_text().splitlines())]


def make_step(length, silent):
    net = mlp(4, 256, 256, 5)
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    x = 3 * torch.randn(length, BATCH, 4)
    if silent:
        x[ACTIVE:] = 0
    labels = torch.randint(5, (BATCH,))

    def step():
        optimizer.zero_grad()
        F.cross_entropy(net(x)[0].sum(0), labels).backward()
        optimizer.step()

    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", metavar="ROOT", help="folder that holds MNIST/raw; without it, the demo trains")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--repeat", type=int, default=9, help="steps of each kind (default 9)")
    args = parser.parse_args()
    process.tune()  # as runs do
    data = ["--train", "--set", f"dataset.root={Path(args.mnist).resolve()}"] if args.mnist else ["--demo"]
    seconds = seconds_of_epochs([*data, "--device", "cpu", "--set", f"hyperparameters.epoch={args.epochs}"])
    print("seconds of each epoch: " + ", ".join(f"{value:.2f}" for value in seconds))
    if few := min(3, len(seconds) // 2):
        print(f"the last against the first: {min(seconds[-few:]) / min(seconds[:few]):.2f}")
    print("steps   silent (ms)   for each step (us)   against active")
    for length in (250, 1000, 5000):
        taken = time_in_turn([make_step(length, silent) for silent in (True, False)], args.repeat, "cpu")
        milliseconds = 1000 * statistics.median(taken[0])
        low, middle, high = statistics.quantiles([a / b for a, b in zip(*taken)], n=4)
        per_step = 1000 * milliseconds / length
        print(f"{length:5} {milliseconds:13.1f} {per_step:20.0f}   {middle:.2f} ({low:.2f} to {high:.2f})", flush=True)


if __name__ == "__main__":
    main()
