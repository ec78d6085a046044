"""Time and memory of a training step against the length, the batch size and the width of a network.

    python benchmarks/scaling.py --out results/tables/scaling.png    needs matplotlib

The network has two hidden layers and starts at 25 steps, batch size 32 and 256 neurons; one of the three grows at a
time. Prints a line for each size: milliseconds (median) and MiB of a new process above its start. The work is
proportional to length and batch size; the products grow with the square of the width.

    python benchmarks/scaling.py --long --out results/tables/long_sequences.png

measures sequences of 196 to 6,272 steps of an MLP 1-256-256-10 with batch size 64: as a whole, by `snn.chunked`, and
with torch.utils.checkpoint around each of its layers (filter, product and neuron). `--peers` adds SpikingJelly's
neurons, which have no synapse filters, whole and by its checkpoint in chunks. Memory is that of a new process; times
are medians of steps in turn in one process, and their ratio to the whole's, of each round (quartiles).
"""

import argparse
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

import snn  # noqa: E402
from benchmarks.networks import Case, mlp  # noqa: E402
from benchmarks.timing import time_in_turn  # noqa: E402
from benchmarks.training_step import make_step, peak_memory  # noqa: E402
from snn.base import process  # noqa: E402

START = {"length": 25, "batch": 32, "width": 256}
FACTORS = (1, 2, 4, 8, 16)
LONG = 196, 784, 3136, 6272
CHUNK = 256


def make_case(length, batch, width):
    return Case(partial(mlp, width, width, width, 10), batch, length, (width,))


def measure(sizes, device, repeat):
    """Return milliseconds and MiB, measured in this process."""
    make_step(make_case(2, 1, 16), "float32", device)()
    step = make_step(make_case(*sizes), "float32", device)
    before = peak_memory(device)
    seconds = time_in_turn([step], repeat, device)[0]
    return 1000 * statistics.median(seconds), peak_memory(device) - before


def by_layer(net, x):
    """Run each filter, product and neuron with torch's checkpoint around the three."""
    layers = list(net)
    for n in range(0, len(layers), 3):
        x = checkpoint(lambda x, part: part(x)[0], x, snn.Sequential(*layers[n : n + 3]), use_reentrant=False)
    return x, None


def ours(run):
    """Return a function of the length that returns the network and, from x, its output; `run` runs it on x."""

    def make(length):
        net = mlp(1, 256, 256, 10)
        for layer in list(net)[1::3]:
            layer.weight.data *= 4  # so that neurons spike
        return net, lambda x: run(net, x)[0]

    return make


def spikingjelly(in_chunks):
    """Return the same for SpikingJelly's neurons, without synapse filters, whose checkpoint runs chunks of CHUNK."""

    def make(length):
        from spikingjelly.activation_based import functional, layer, memopt, neuron

        net = torch.nn.Sequential(
            layer.Linear(1, 256), neuron.LIFNode(), layer.Linear(256, 256), neuron.LIFNode(),
            layer.Linear(256, 10), neuron.LIFNode(),
        )  # fmt: skip
        functional.set_step_mode(net, "m")
        run = memopt.checkpoint_module(net, chunks=-(-length // CHUNK)) if in_chunks else net

        def forward(x):
            functional.reset_net(net)
            return run(x)

        return net, forward

    return make


WAYS = {
    "as a whole": ours(lambda net, x: net(x)),
    f"chunks of {CHUNK}": ours(lambda net, x: snn.chunked(net, x, CHUNK)),
    "chunks, auto": ours(lambda net, x: snn.chunked(net, x, "auto")),
    "checkpoint by layer": ours(by_layer),
}
PEERS = {"SpikingJelly": spikingjelly(False), f"SpikingJelly, chunks of {CHUNK}": spikingjelly(True)}
COLORS = "dimgrey", "#0072b2", "#009e73", "#d55e00", "#cc79a7", "#e69f00"


def make_long_step(way, length):
    """Return a function that trains on 64 sequences of one line."""
    torch.manual_seed(0)
    net, forward = (WAYS | PEERS)[way](length)
    x, labels = torch.rand(length, 64, 1), torch.arange(64) % 10
    optimizer = torch.optim.Adam(net.parameters(), 1e-4, fused=True)

    def step():
        optimizer.zero_grad()
        F.cross_entropy(forward(x).sum(0), labels).backward()
        optimizer.step()

    return step


def long_memory(way, length):
    """Return the MiB that two steps take, above this process's start."""
    make_long_step(way, 8)()
    step = make_long_step(way, length)
    before = peak_memory("cpu")
    step()
    step()
    return peak_memory("cpu") - before


def measure_long(ways, lengths, repeat):
    """Print a row for each length and way; return the rows."""
    rows = []
    print("| Steps | Way | MiB | ms | times as long |\n|---|---|---|---|---|")
    for length in lengths:
        steps = [make_long_step(way, length) for way in ways]
        seconds = time_in_turn(steps, repeat, "cpu")
        for way, taken in zip(ways, seconds):
            run = subprocess.run(
                [sys.executable, __file__, "--one-way", way, str(length)], check=True, capture_output=True, text=True
            )
            ratios = [mine / whole for mine, whole in zip(taken, seconds[0])]
            low, middle, high = statistics.quantiles(ratios, n=4)
            rows.append((length, way, float(run.stdout), 1000 * statistics.median(taken)))
            of_whole = f"{middle:.2f} ({low:.2f} to {high:.2f})"
            print(f"| {length:,} | {way} | {rows[-1][2]:.0f} | {rows[-1][3]:.0f} | {of_whole} |", flush=True)
    return rows


def draw_long(rows, path):
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axis, column, name in zip(figure.subplots(1, 2), (2, 3), ("memory above start (MiB)", "time of a step (ms)")):
        for way, color in zip(dict.fromkeys(row[1] for row in rows), COLORS):
            of_way = [row for row in rows if row[1] == way]
            axis.loglog([row[0] for row in of_way], [row[column] for row in of_way], "o-", color=color, label=way)
        lengths = sorted({row[0] for row in rows})
        axis.set_xticks(lengths, [f"{length:,}" for length in lengths])
        axis.minorticks_off()
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set(xlabel="steps of a sequence", ylabel=name)
        axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    figure.savefig(path, dpi=110)


def draw(results, path):
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    time, memory = figure.subplots(1, 2)
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
    parser.add_argument("--long", action="store_true", help="long sequences, as a whole and in chunks")
    parser.add_argument("--lengths", nargs="+", type=int, default=LONG, metavar="T", help="for --long: other lengths")
    parser.add_argument("--peers", action="store_true", help="for --long: SpikingJelly too (pip install spikingjelly)")
    parser.add_argument("--one-way", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=3, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    process.tune()
    if args.one:
        print(*measure(args.one, args.device, args.repeat))
        return
    if args.one_way:
        print(long_memory(args.one_way[0], int(args.one_way[1])))
        return
    if args.long:
        rows = measure_long([*WAYS, *(PEERS if args.peers else ())], args.lengths, args.repeat)
        if args.out:
            draw_long(rows, args.out)
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
