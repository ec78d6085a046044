"""Bandwidth of the loops over time, as a share of what copying memory reaches.

    python benchmarks/loops.py                   the largest layer of the MNIST CNN, a layer of the MLP, two long ones
    python benchmarks/loops.py --threads 1       on one thread
    python benchmarks/loops.py --device cuda     on a GPU, each loop ten times in a CUDA graph

A loop's bytes count each value of a sequence that it must read or write once: a synapse's forward reads x and writes
psp, and its backward reads two sequences and writes one. Copying a sequence of the same size and precision, as torch
does it, counts the reading and the writing. Each round copies and runs all loops in turn. Prints a Markdown table of
medians (quartiles), and of the share of that round's copy; `--out F` writes it too.
"""

import argparse
import math
import statistics
import sys
from importlib import import_module
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.timing import time_in_turn  # noqa: E402
from snn.base import process  # noqa: E402
from snn.kernels import surrogates  # noqa: E402

LONG = {"sequence": (784, 64, 256), "ECG": (1301, 64, 80)}
SHAPES = {
    "cpu": {"MNIST CNN": (25, 8, 50176), "MLP": (25, 64, 500)} | LONG,
    "cuda": {"MNIST CNN": (25, 64, 50176), "MLP": (25, 64, 500)} | LONG,
}
IN_A_GRAPH = 10  # runs: a launch takes as long as a small loop
NEURON = 0.78, 0.0, 1.0  # decay of the reset, of the potential, threshold


def make_loops(shape, dtype, device):
    """Return by name how many sequences each loop reads or writes, and a function that runs it; copying first."""
    torch.manual_seed(0)
    loops = import_module(f"snn.kernels.{device}")
    _, batch, features = shape
    x, grad = (torch.randn(shape, device=device).to(dtype) for _ in range(2))
    y, above, grad_x = (torch.empty_like(x) for _ in range(3))
    start, ends = loops.zero_states(4, features), torch.zeros(4, batch, features, device=device)
    two = loops.zero_states(2, features)
    coefficients = torch.tensor([1.1, -0.3, 0.4], device=device)[:, None].repeat(1, features)
    surrogate, no_dropout = surrogates.Gaussian(), (0, loops.NO_SEEDS)
    loops.neuron_iir_forward(x, start, *NEURON, True, coefficients, no_dropout, y)
    above.copy_(x - 1)
    return {
        "copy": (2, lambda: grad_x.copy_(x)),
        "synapse forward": (2, lambda: loops.dual_exp_iir_forward(x, two, coefficients, y)),
        "synapse backward": (
            3, lambda: loops.dual_exp_iir_backward(grad, ends[:2], None, y, two, coefficients, grad_x)
        ),
        "neuron forward": (3, lambda: loops.neuron_forward(x, two, *NEURON, True, y)),
        "neuron backward": (
            3, lambda: loops.neuron_backward(grad, ends[:2], above, *NEURON[:2], surrogate, grad_x)
        ),
        "both forward": (
            3, lambda: loops.neuron_iir_forward(x, start, *NEURON, True, coefficients, no_dropout, y)
        ),
        "both backward": (
            4,
            lambda: loops.neuron_iir_backward(
                grad, ends, above, y, start, coefficients, *NEURON[:2], surrogate, True, no_dropout, grad_x
            ),
        ),
    }  # fmt: skip


def repeated(function):
    """Return a function that runs another IN_A_GRAPH times as one CUDA graph."""
    function()  # compiles it
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(IN_A_GRAPH):
            function()
    return graph.replay


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: as torch has")
    parser.add_argument("--repeat", type=int, default=25, help="rounds (default 25)")
    parser.add_argument("--out", metavar="F", help="write the table to F")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    process.tune()
    on_cuda = args.device == "cuda"
    where = torch.cuda.get_device_name() if on_cuda else f"{args.threads} threads"
    lines = [
        f"torch {torch.__version__}, {where}, {args.repeat} rounds, medians (quartiles)",
        "",
        "| Size [T, B, N] | Precision | Loop | GB/s | share of copying |",
        "|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for network, shape in SHAPES[args.device].items():
        for dtype in (torch.float32, torch.bfloat16):
            loops = make_loops(shape, dtype, args.device)
            runs = [repeated(loop) if on_cuda else loop for _, loop in loops.values()]
            moved = math.prod(shape) * dtype.itemsize * (IN_A_GRAPH if on_cuda else 1)
            seconds = time_in_turn(runs, args.repeat, args.device)
            speeds = {
                name: [sequences * moved / s / 1e9 for s in taken]
                for (name, (sequences, _)), taken in zip(loops.items(), seconds)
            }
            for name, of_loop in speeds.items():
                low, median, high = statistics.quantiles(of_loop, n=4)
                share = statistics.median(mine / copying for mine, copying in zip(of_loop, speeds["copy"]))
                lines.append(
                    f"| {network} {list(shape)} | {str(dtype)[6:]} | {name} | {median:.0f} ({low:.0f} to {high:.0f}) "
                    f"| {share:.2f} |"
                )
                print(lines[-1], flush=True)
    if args.out:
        Path(args.out).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
