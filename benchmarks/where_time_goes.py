"""Where the time of a training step goes: products, loops over time, pooling, optimizer, and the rest.

    python benchmarks/where_time_goes.py --out results/tables/where_time_goes     on one thread and on all

Profiles the fast kernels in float32 and in bf16 by torch.profiler, whose own cost counts as the rest. Prints a Markdown
table of milliseconds, medians over steps; `--out F` writes F.md and a picture F.png.
"""

import argparse
import statistics
import sys
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.networks import CASES  # noqa: E402
from benchmarks.training_step import make_step  # noqa: E402
from snn.base import process  # noqa: E402

PARTS = {  # by the start of a name in the profile
    "products": (
        "aten::mkldnn_convolution",
        "aten::convolution_backward",
        "mkldnn::_linear",
        "aten::mm",
        "aten::addmm",
    ),
    "loops": ("_NeuronAndIIR", "_SpikingNeuron", "_DualExp", "_FirstOrder", "_Dropout"),
    "pooling": ("aten::max_pool2d",),
    "optimizer": ("aten::_fused_adam", "Optimizer."),
    "rest": ("",),  # casts and copies between layouts, sums, allocation, Python
}
COLORS = dict(zip(PARTS, ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "silver")))


def milliseconds(step, repeat):
    """Return the median time of each of PARTS over steps."""
    for _ in range(3):
        step()
    taken = {part: [] for part in PARTS}
    for _ in range(repeat):
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            step()
        sums = dict.fromkeys(PARTS, 0)
        for event in profiled.key_averages():
            part = next(part for part, starts in PARTS.items() if event.key.startswith(starts))
            sums[part] += event.self_cpu_time_total / 1000
        for part, time in sums.items():
            taken[part].append(time)
    return {part: statistics.median(times) for part, times in taken.items()}


def draw(rows, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    networks = list(dict.fromkeys(network for network, *_ in rows))
    figure, axes = plt.subplots(1, len(networks), figsize=(3.2 * len(networks), 2.6), layout="constrained", sharey=True)
    for axis, network in zip(axes, networks):
        mine = [row for row in rows if row[0] == network][::-1]
        left = [0] * len(mine)
        for part, color in COLORS.items():
            widths = [times[part] for *_, times in mine]
            axis.barh([f"{way}, {threads} thread{'s' * (threads > 1)}" for _, way, threads, _ in mine], widths,
                      left=left, color=color, label=part)  # fmt: skip
            left = [a + b for a, b in zip(left, widths)]
        axis.set(title=network, xlabel="ms per training step")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(PARTS), frameon=False)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=9, help="steps (default 9)")
    parser.add_argument("--out", metavar="F", help="write F.md and F.png")
    args = parser.parse_args()
    process.tune()
    all_threads, rows = torch.get_num_threads(), []
    lines = [
        f"torch {torch.__version__}, medians of {args.repeat} profiled steps, in milliseconds",
        "",
        f"| Network | Precision | Threads | {' | '.join(PARTS)} | loops' share |",
        "|---|---|---|" + "---|" * (len(PARTS) + 1),
    ]
    print("\n".join(lines))
    for network, case in CASES.items():
        for way in ("float32", "bf16"):
            step = make_step(case, way, "cpu")
            for threads in sorted({all_threads, 1}, reverse=True):
                torch.set_num_threads(threads)
                times = milliseconds(step, args.repeat)
                rows.append((network, way, threads, times))
                values = " | ".join(f"{time:.1f}" for time in times.values())
                share = times["loops"] / sum(times.values())
                lines.append(f"| {network} | {way} | {threads} | {values} | {share:.0%} |")
                print(lines[-1], flush=True)
            torch.set_num_threads(all_threads)
    if args.out:
        Path(args.out).with_suffix(".md").write_text("\n".join(lines) + "\n")
        draw(rows, Path(args.out).with_suffix(".png"))


if __name__ == "__main__":
    main()
