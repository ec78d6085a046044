"""Recurrent neurons: their loop on the CPU, the same layers a step at a time, and as many products in one.

    python benchmarks/recurrent.py                all sizes, on as many threads as torch has
    python benchmarks/recurrent.py --threads 1

Forward and backward of `snn.Recurrent(SpikingNeuron, DualExpIIR)` in float32. The products are three of all steps
together, which recurrence itself rules out: what came back, its gradient, and that of the weights. Prints a Markdown
table of medians (quartiles) of interleaved rounds, and the medians of the loop's time over that of each other way.
"""

import statistics
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import snn  # noqa: E402
from benchmarks.timing import arguments, time_in_turn  # noqa: E402

SIZES = {"ECG": (1301, 16, 28), "pixels in time": (784, 32, 256), "wide": (300, 16, 512), "one sample": (784, 1, 256)}


def ways(length, batch, size):
    """Return what is timed, functions by name."""
    torch.manual_seed(0)
    layer = snn.Recurrent(snn.SpikingNeuron(tau_m=4), snn.DualExpIIR(size, 4, 1))
    x, grad = 3 * torch.rand(length, batch, size), torch.rand(length, batch, size)
    x.requires_grad_()
    flat, weight = grad.flatten(0, 1), layer.back.weight.detach()

    def both_ways(run):
        y, _ = run(x)
        y.backward(grad)

    return {
        "loop": lambda: both_ways(layer),
        "step by step": lambda: both_ways(super(snn.Recurrent, layer).forward),
        "products": lambda: (flat @ weight.t(), flat @ weight, flat.t() @ flat),
    }


def main():
    args = arguments(__doc__, repeat=9)
    print(f"torch {torch.__version__}, {args.threads} threads, {args.repeat} rounds, medians (quartiles) in ms\n")
    print("| Size [T, B, N] | Loop | Step by step | Products | Loop by steps | Loop by products |")
    print("|---|---|---|---|---|---|")
    for name, size in SIZES.items():
        seconds = time_in_turn(list(ways(*size).values()), args.repeat, "cpu")
        cells = []
        for taken in seconds:
            low, median, high = (1000 * value for value in statistics.quantiles(taken, n=4))
            cells.append(f"{median:.1f} ({low:.1f} to {high:.1f})")
        cells += [f"{statistics.median(map(lambda a, b: a / b, seconds[0], other)):.3f}" for other in seconds[1:]]
        print(f"| {name} {list(size)} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
