"""Time and memory of a training step (forward, backward, Adam), against the step-by-step formulation, in turn.

    python benchmarks/training_step.py            MLP, batch 64, and CNN, batch 8; T = 25
    python benchmarks/training_step.py --repeat 20

Prints, for each network, the median of a step in milliseconds with its quartiles, the ratio of the pairs, and how much
memory a process's peak rises above what it had before the first step.
"""

import argparse
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import snn_conv_1_mnist  # noqa: E402
import snn_mlp_1  # noqa: E402
from benchmarks.step_by_step import StepByStep  # noqa: E402
from snn import config  # noqa: E402

LENGTH = 25
NETWORKS = {"MLP": (snn_mlp_1, 64, (784,)), "CNN": (snn_conv_1_mnist, 8, (1, 28, 28))}
WAYS = ("step by step", "snn")


def make_step(name, way):
    """A function that does one training step on random images."""
    script, batch_size, shape = NETWORKS[name]
    torch.manual_seed(0)
    net = script.network(config.resolve(ROOT / "configs" / f"{script.__name__}.yaml"))
    run = StepByStep(net) if way == "step by step" else net
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    images, labels = torch.rand(batch_size, *shape), torch.randint(10, (batch_size,))

    def step():
        if way == "step by step":
            counts = run(images[..., None].expand(*images.shape, LENGTH)).sum(-1)
        else:
            counts = run(images.expand(LENGTH, *images.shape))[0].sum(0)
        optimizer.zero_grad()
        F.cross_entropy(counts, labels).backward()
        optimizer.step()

    return step


def time_in_turn(steps, repeat):
    """Seconds of each step, `repeat` times in turn after a warm-up: a list for each."""
    for step in steps:
        step()
    seconds = [[] for _ in steps]
    for _ in range(repeat):
        for step, taken in zip(steps, seconds):
            start = time.perf_counter()
            step()
            taken.append(time.perf_counter() - start)
    return seconds


def memory_of_a_step(name, way):
    """MiB that the peak of a fresh process rises over three training steps."""
    command = [sys.executable, __file__, "--memory", name, way]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_memory(name, way):
    step = make_step(name, way)
    before = peak_memory()
    for _ in range(3):
        step()
    print(peak_memory() - before)


def peak_memory():
    """This process's peak so far in MiB (Linux)."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=15, help="pairs of steps (default 15)")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        return print_memory(*args.memory)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, T = {LENGTH}, {args.repeat} pairs")
    for name, (_, batch_size, _) in NETWORKS.items():
        seconds = time_in_turn([make_step(name, way) for way in WAYS], args.repeat)
        for way, taken in zip(WAYS, seconds):
            low, median, high = (1000 * q for q in statistics.quantiles(taken, n=4))
            print(
                f"{name}, batch {batch_size}, {way:>12}: {median:7.1f} ms ({low:.1f} to {high:.1f}), "
                f"peak memory +{memory_of_a_step(name, way):.0f} MiB"
            )
        low, median, high = statistics.quantiles([slow / fast for slow, fast in zip(*seconds)], n=4)
        print(f"{name}: {median:.2f} times as fast (quartiles {low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
