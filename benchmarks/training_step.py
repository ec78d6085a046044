"""Time and memory of a training step and of an evaluation step, interleaved in one process.

    python benchmarks/training_step.py                          all four networks, on the CPU
    python benchmarks/training_step.py --device cuda --repeat 20
    python benchmarks/training_step.py --network MLP --peers    also SpikingJelly, snnTorch and Norse, if installed

For each network: (a) the step-by-step formulation, (b) the plain reference kernels, (c) the fast kernels, and (d) the
limit: that network's matrix products and convolutions alone, forward and backward, in the faster memory format. A
training step is forward, backward and Adam. Prints a Markdown table; `--out F` writes F.md, F.json and a picture F.png.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import torch
from torch import nn

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.networks import CASES  # noqa: E402
from benchmarks.step_by_step import StepByStep  # noqa: E402
from snn.base.memory import keep_freed_memory  # noqa: E402
from snn.kernels import reference  # noqa: E402

WAYS = ("step by step", "reference", "fast", "limit")


def make_step(case, way, device, train=True):
    """Return a function that does one step of the network the given way, on random input."""
    torch.manual_seed(0)
    if way == "limit":
        return make_limit(case, device, train)
    net = case.make().to(device).train(train)
    x, loss = case.input().to(device), case.loss(device)
    if way == "step by step":
        net = StepByStep(net)
        x = x.permute(*range(1, x.dim()), 0)  # batch first, time last
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)
    on_reference = mock.patch("snn.kernels._kernels_on", lambda device_type: reference)

    def forward():
        if way == "step by step":
            y = net(x)
            return loss(y.permute(-1, *range(y.dim() - 1)))
        return loss(net(x)[0])

    def step():
        if train:
            optimizer.zero_grad()
            forward().backward()
            optimizer.step()
        else:
            with torch.no_grad():
                forward()

    def reference_step():
        with on_reference:
            step()

    return reference_step if way == "reference" else step


def make_limit(case, device, train):
    """Return the dense and convolution calls alone, each on its own input, in the faster of both memory formats."""
    net = case.make().to(device)
    inputs = {}
    products = [layer for layer in net if isinstance(layer, (nn.Linear, nn.Conv2d))]
    hooks = [
        layer.register_forward_pre_hook(lambda layer, args: inputs.update({layer: args[0].detach().clone()}))
        for layer in products
    ]
    with torch.no_grad():
        net(case.input().to(device))
    for hook in hooks:
        hook.remove()

    def step(memory_format):
        calls = []
        for layer in products:
            layer.to(memory_format=memory_format)
            x = inputs[layer]
            if x.dim() == 4:
                x = x.contiguous(memory_format=memory_format)
            x = x.requires_grad_(train)
            with torch.set_grad_enabled(train):
                calls.append((layer, x, torch.randn_like(layer(x))))

        def run():
            with torch.set_grad_enabled(train):
                for layer, x, grad in calls:
                    y = layer(x)
                    if train:
                        torch.autograd.grad(y, [x, *layer.parameters()], grad)

        return run

    formats = (torch.contiguous_format, torch.channels_last)
    if not any(isinstance(layer, nn.Conv2d) for layer in products):
        return step(torch.contiguous_format)
    times = []
    for memory_format in formats:
        times.append(min(time_in_turn([step(memory_format)], 3, device)[0]))
    return step(formats[times.index(min(times))])


def time_in_turn(steps, repeat, device):
    """Return a list of seconds for each step, timed `repeat` times, interleaved, after a warm-up."""
    for step in steps:
        step()
    seconds = [[] for _ in steps]
    for _ in range(repeat):
        for step, taken in zip(steps, seconds):
            synchronize(device)
            start = time.perf_counter()
            step()
            synchronize(device)
            taken.append(time.perf_counter() - start)
    return seconds


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def memory_of_a_step(name, way, device, train):
    """Return the MiB by which the peak of a new process rises over three steps."""
    command = [sys.executable, __file__, "--memory", name, way, device, str(int(train))]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_memory(name, way, device, train):
    case = CASES[name]
    make_step(case._replace(batch=1, length=2), way, device, train == "1")()  # libraries allocate on their first call
    step = make_step(case, way, device, train == "1")
    before = peak_memory(device)
    for _ in range(3):
        step()
    print(peak_memory(device) - before)


def peak_memory(device):
    """Return the peak so far in MiB: of torch's memory on CUDA, of the process on the CPU (Linux)."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def measure(name, device, repeat, train, peers):
    """Yield a row for each way: name, phase, way, milliseconds (quartiles), ratio to the limit, MiB."""
    case = CASES[name]
    ways = {way: make_step(case, way, device, train) for way in WAYS}
    if peers:
        from benchmarks import peers

        ways |= peers.make_steps(name, case, device, train)
    seconds = dict(zip(ways, time_in_turn(list(ways.values()), repeat, device)))
    for way, taken in seconds.items():
        yield {
            "network": name,
            "phase": "train" if train else "evaluate",
            "way": way,
            "ms": [1000 * q for q in statistics.quantiles(taken, n=4)],
            "of_limit": statistics.median(mine / limit for mine, limit in zip(taken, seconds["limit"])),
            "of_baseline": statistics.median(slow / mine for mine, slow in zip(taken, seconds["step by step"])),
            "mib": memory_of_a_step(name, way, device, train) if way in WAYS[:3] else None,
        }


def in_markdown(row):
    low, median, high = row["ms"]
    memory = f"{row['mib']:.0f}" if row["mib"] is not None else ""
    return (
        f"| {row['network']} | {row['phase']} | {row['way']} | {median:.1f} ({low:.1f} to {high:.1f}) "
        f"| {row['of_baseline']:.2f} | {row['of_limit']:.2f} | {memory} |"
    )


def draw(rows, path):
    """Draw a bar for each way, a panel for each network: milliseconds of a training step."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for row in rows if row["phase"] == "train"]
    names = list(dict.fromkeys(row["network"] for row in rows))
    figure, axes = plt.subplots(1, len(names), figsize=(3.2 * len(names), 3), layout="constrained", squeeze=False)
    for axis, name in zip(axes[0], names):
        mine = [row for row in rows if row["network"] == name][::-1]
        low, median, high = zip(*(row["ms"] for row in mine))
        error = [[m - q for m, q in zip(median, low)], [q - m for m, q in zip(median, high)]]
        colors = ["#d55e00" if row["way"] == "fast" else "silver" for row in mine]
        axis.barh([row["way"] for row in mine], median, xerr=error, color=colors)
        axis.set(title=name, xlabel="ms per training step")
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
    keep_freed_memory()  # as runs do; the same for all ways
    if args.memory:
        return print_memory(*args.memory)
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"{torch.get_num_threads()} threads"
    lines = [
        f"torch {torch.__version__}, {where}, {args.repeat} interleaved rounds, medians (quartiles)",
        "",
        "| Network | Phase | Way | ms | times as fast as step by step | times the limit | MiB above start |",
        "|---|---|---|---|---|---|---|",
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
