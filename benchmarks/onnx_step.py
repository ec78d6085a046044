"""One time step of networks that ship, one sample, one thread: in ONNX Runtime and by `net.step`.

    pip install onnx onnxscript onnxruntime
    python benchmarks/onnx_step.py

Prints a row of a Markdown table for each network: microseconds of a step, the median of interleaved rounds of 100
steps, with quartiles.
"""

import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import snn  # noqa: E402
from benchmarks.timing import time_in_turn  # noqa: E402

NETWORKS = "snn_mlp_1", "snn_conv_1_mnist", "time_series"
STEPS = 100


def in_onnx_runtime(net):
    """Return a function that runs steps of a network, and the shape of its input `[batch, *features]`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        snn.export_onnx(net, f"{folder}/step.onnx")
        session = onnxruntime.InferenceSession(f"{folder}/step.onnx", options, providers=["CPUExecutionProvider"])
    sizes = {i.name: [1 if size == "batch" else size for size in i.shape] for i in session.get_inputs()}
    states = {name: np.zeros(size, np.float32) for name, size in sizes.items()}
    x = states.pop("x") + np.float32(0.5)

    def steps():
        for _ in range(STEPS):
            _, *new = session.run(None, {"x": x, **states})
            states.update(zip(states, new))

    return steps, x.shape


def in_torch(net, shape):
    x = torch.full(shape, 0.5)

    @torch.no_grad()
    def steps():
        state = None
        for _ in range(STEPS):
            _, state = net.step(x, state)

    return steps


def main():
    torch.set_num_threads(1)
    print("| Network | ONNX Runtime (us) | net.step (us) |\n|---|---|---|")
    for name in NETWORKS:
        net = snn.load(name)
        steps, shape = in_onnx_runtime(net)
        cells = []
        for seconds in time_in_turn([steps, in_torch(net, shape)], 15, "cpu"):
            low, middle, high = (1e6 / STEPS * value for value in statistics.quantiles(seconds, n=4))
            cells.append(f"{middle:.0f} ({low:.0f} to {high:.0f})")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
