"""Time and memory of a training step and of an evaluation step, interleaved in one process.

    python benchmarks/training_step.py                          all networks, on the CPU
    python benchmarks/training_step.py --device cuda --repeat 20
    python benchmarks/training_step.py --network MLP --peers    also SpikingJelly, snnTorch and Norse, if installed

For each network: the step-by-step formulation, the plain reference kernels, the fast kernels in float32 and with
`precision: bf16`, and the limit: that network's products alone, each on the best that `best_products.py` finds, in
these precisions. On CUDA there is tf32 too, each precision also as a CUDA graph, and larger batches. A training step is
forward, backward and Adam. `--peers` measures the other libraries as they are, and compiled by torch.compile where that
works; compiling takes minutes. Prints a Markdown table; `--out F` writes F.md, F.json and a picture F.png.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path
from unittest import mock

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import best_products  # noqa: E402
from benchmarks.networks import CASES, case_on  # noqa: E402
from benchmarks.step_by_step import StepByStep  # noqa: E402
from benchmarks.timing import time_in_turn  # noqa: E402
from snn.base import process  # noqa: E402
from snn.kernels import reference  # noqa: E402
from snn.kernels.products import cpu_has_bf16, matrix_products  # noqa: E402
from snn.run.graph import StepGraph  # noqa: E402

PRECISIONS = {"cpu": ("float32", "bf16")[: 1 + cpu_has_bf16()], "cuda": ("float32", "tf32", "bf16")}
COLORS = {"float32": "#d55e00", "tf32": "#cc79a7", "bf16": "#e69f00", "products": "dimgrey"}


def ways_on(device):
    precisions = PRECISIONS[device]
    graphs = [f"{precision}, graph" for precision in precisions] if device == "cuda" else []
    return ["step by step", "reference", *precisions, *graphs]


def precision_of(way):
    """Return the precision of a way's products."""
    return next((name for name in ("tf32", "bf16") if name in way.split(", ")), "float32")


def make_step(case, way, device, train=True):
    """Return a function that does one step of the network the given way, on random input."""
    torch.manual_seed(0)
    net = case.make().to(device).train(train)
    x, loss = case.input(), case.loss(device)
    x = x[:1].to(device).expand_as(x) if case.repeats else x.to(device)
    if way == "step by step":
        net = StepByStep(net)
        x = x.permute(*range(1, x.dim()), 0)  # batch first, time last
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)
    on_reference = mock.patch("snn.kernels._kernels_on", lambda device_type: reference)

    def step(x, *_):
        with matrix_products(precision_of(way), torch.device(device)), torch.set_grad_enabled(train):
            if train:
                optimizer.zero_grad()
            y = net(x)
            value = loss(y.permute(-1, *range(y.dim() - 1)) if way == "step by step" else y[0])
            if train:
                value.backward()
                optimizer.step()
        return value.detach()

    if way.endswith("graph"):
        graph = StepGraph(step, net, optimizer, case.batch)
        return lambda: graph(x, x[0])

    def reference_step():
        with on_reference:
            step(x)

    return reference_step if way == "reference" else lambda: step(x)


def memory_of_a_step(name, way, device, train):
    """Return the MiB by which the peak rises over three steps: of torch on CUDA, of a new process on the CPU."""
    if device == "cuda":
        return peak_rise(name, way, device, train)
    command = [sys.executable, __file__, "--memory", name, way, device, str(int(train))]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_rise(name, way, device, train):
    case = case_on(device, name)
    make_step(case._replace(batch=1, length=2), way, device, train)()  # libraries allocate on their first call
    step = make_step(case, way, device, train)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = peak_memory(device)
    for _ in range(3):
        step()
    return peak_memory(device) - before


def peak_memory(device):
    """Return the peak so far in MiB: of torch's memory on CUDA, of the process on the CPU (Linux)."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def measure(name, device, repeat, train, peers):
    """Yield a row for each way: name, phase, way, milliseconds (quartiles), ratios, GFLOP/s of products, MiB."""
    case, ways = case_on(device, name), ways_on(device)
    steps, work = {way: make_step(case, way, device, train) for way in ways}, {}
    for precision in PRECISIONS[device]:
        limit = f"products, {precision}"
        steps[limit], work[limit] = best_products.make(case, device, precision, train)
    if peers:
        from benchmarks import peers

        steps |= peers.make_steps(name, case, device, train)
    seconds = dict(zip(steps, time_in_turn(list(steps.values()), repeat, device)))

    def ratio(one, other):
        return statistics.median(a / b for a, b in zip(seconds[one], seconds[other]))

    for way in steps:
        yield {
            "network": name,
            "phase": "train" if train else "evaluate",
            "way": way,
            "ms": [1000 * q for q in statistics.quantiles(seconds[way], n=4)],
            "of_baseline": ratio("step by step", way),
            "of_limit": ratio(way, f"products, {precision_of(way)}"),
            "gflops": work[way] / statistics.median(seconds[way]) if way in work else None,
            "mib": memory_of_a_step(name, way, device, train) if way in ways else None,
        }


def in_markdown(row):
    low, median, high = row["ms"]
    gflops, memory = (f"{row[key]:.0f}" if row[key] is not None else "" for key in ("gflops", "mib"))
    return (
        f"| {row['network']} | {row['phase']} | {row['way']} | {median:.1f} ({low:.1f} to {high:.1f}) "
        f"| {row['of_baseline']:.2f} | {row['of_limit']:.2f} | {gflops} | {memory} |"
    )


def draw(rows, path):
    """Draw a bar for each way, a panel for each network: milliseconds of a training step."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for row in rows if row["phase"] == "train"]
    names = list(dict.fromkeys(row["network"] for row in rows))
    by_name = [[row for row in rows if row["network"] == name][::-1] for name in names]
    figure, axes = plt.subplots(
        len(names), figsize=(9, 0.2 * len(rows) + 0.6 * len(names)), layout="constrained", squeeze=False,
        height_ratios=[len(mine) + 1 for mine in by_name],
    )  # fmt: skip
    for axis, name, mine in zip(axes[:, 0], names, by_name):
        low, median, high = zip(*(row["ms"] for row in mine))
        error = [[m - q for m, q in zip(median, low)], [q - m for m, q in zip(median, high)]]
        bars = axis.barh(
            [row["way"] for row in mine],
            median,
            xerr=error,
            color=[COLORS.get(row["way"].split(",")[0], "silver") for row in mine],
        )
        axis.bar_label(bars, fmt="%.0f", padding=8)
        axis.set(title=f"{name}: ms per training step", xlim=(0, 1.1 * max(high)))
        axis.tick_params(axis="x", labelbottom=False, bottom=False)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", choices=CASES, help="only this one (repeatable)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--repeat", type=int, default=9, help="rounds (default 9)")
    parser.add_argument("--peers", action="store_true", help="also measure other libraries, if installed")
    parser.add_argument("--out", metavar="F", help="write F.md, F.json and F.png")
    parser.add_argument("--memory", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    process.tune()  # as runs do; the same for all ways
    if args.memory:
        name, way, device, train = args.memory
        return print(peak_rise(name, way, device, train == "1"))
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"{torch.get_num_threads()} threads"
    peaks = {precision: best_products.peak(args.device, precision) for precision in PRECISIONS[args.device]}
    lines = [
        f"torch {torch.__version__}, {where}, {args.repeat} interleaved rounds, medians (quartiles). Largest products:",
        ", ".join(f"{peak:.0f} GFLOP/s in {precision}" for precision, peak in peaks.items()) + ".",
        "",
        "| Network | Phase | Way | ms | step by step / this | this / its products | GFLOP/s | MiB above start |",
        "|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    rows = []
    for name in args.network or CASES:
        for train in (True, False):
            for row in measure(name, args.device, args.repeat, train, args.peers):
                rows.append(row)
                lines.append(in_markdown(row))
                print(lines[-1], flush=True)
    if args.out:
        Path(args.out).with_suffix(".md").write_text("\n".join(lines) + "\n")
        Path(args.out).with_suffix(".json").write_text(json.dumps(rows, indent=1))
        draw(rows, Path(args.out).with_suffix(".png"))


if __name__ == "__main__":
    main()
