"""Time and memory of a training step against the length, the batch size and the width of a network.

    python benchmarks/scaling.py --out results/tables/scaling.png    needs matplotlib

The network has two hidden layers and starts at 25 steps, batch size 32 and 256 neurons; one of the three grows at a
time. Prints a line for each size: milliseconds (median) and MiB of a new process above its start. The work is
proportional to length and batch size; the products grow with the square of the width.
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import snn  # noqa: E402
from benchmarks.networks import Case  # noqa: E402
from benchmarks.timing import time_in_turn  # noqa: E402
from benchmarks.training_step import make_step, peak_memory  # noqa: E402
from snn.base import process  # noqa: E402

START = {"length": 25, "batch": 32, "width": 256}
FACTORS = (1, 2, 4, 8, 16)


def make_case(length, batch, width):
    def make():
        return snn.Sequential(
            snn.DualExpIIR(width, 4, 1), snn.Linear(width, width), snn.SpikingNeuron(4),
            snn.DualExpIIR(width, 4, 1), snn.Linear(width, width), snn.SpikingNeuron(4),
            snn.DualExpIIR(width, 4, 1), snn.Linear(width, 10), snn.SpikingNeuron(4),
        )  # fmt: skip

    return Case(make, batch, length, (width,))


def measure(sizes, device, repeat):
    """Return milliseconds and MiB, measured in this process."""
    make_step(make_case(2, 1, 16), "float32", device)()
    step = make_step(make_case(*sizes), "float32", device)
    before = peak_memory(device)
    seconds = time_in_turn([step], repeat, device)[0]
    return 1000 * statistics.median(seconds), peak_memory(device) - before


def draw(results, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (time, memory) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for (name, rows), color in zip(results.items(), ("#0072b2", "#d55e00", "#009e73")):
        label = f"{name}, from {START[name]}"
        for axis, column in ((time, 0), (memory, 1)):
            axis.loglog(FACTORS, [row[column] for row in rows], "o-", color=color, label=label, base=2)
    for axis, name, unit, column in ((time, "time", "ms", 0), (memory, "memory above start", "MiB", 1)):
        first = results["length"][0][column]
        axis.loglog(FACTORS, [first * f for f in FACTORS], "--", color="grey", label="in proportion", base=2)
        axis.set(title=f"{name} of a training step", xlabel="times as large", ylabel=unit)
        axis.set_xticks(FACTORS, [str(f) for f in FACTORS])
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    time.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--repeat", type=int, default=9, help="steps (default 9)")
    parser.add_argument("--out", metavar="F", help="draw a picture")
    parser.add_argument("--one", nargs=3, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    process.tune()
    if args.one:
        print(*measure(args.one, args.device, args.repeat))
        return
    results = {}
    for name in START:
        results[name] = []
        for factor in FACTORS:
            sizes = [size * factor if size_name == name else size for size_name, size in START.items()]
            command = [sys.executable, __file__, "--device", args.device, "--repeat", str(args.repeat), "--one"]
            run = subprocess.run([*command, *map(str, sizes)], check=True, capture_output=True, text=True)
            milliseconds, mebibytes = map(float, run.stdout.split())
            results[name].append((milliseconds, mebibytes))
            print(f"{name} {START[name] * factor}: {milliseconds:.1f} ms, {mebibytes:.0f} MiB", flush=True)
    if args.out:
        draw(results, args.out)


if __name__ == "__main__":
    main()
