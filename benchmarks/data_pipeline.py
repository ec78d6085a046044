"""Share of the data in a training epoch of snn_mlp_1: batches alone against whole training steps.

    python benchmarks/data_pipeline.py

Uses random images instead of MNIST: the cost is the same. Prints milliseconds per batch of 64 (medians over blocks) and
the share of the step, for copy and Poisson encoding.
"""

import statistics
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import snn_mlp_1  # noqa: E402
from benchmarks.networks import random_images  # noqa: E402
from benchmarks.timing import time_in_turn  # noqa: E402
from snn import config  # noqa: E402
from snn.base import process  # noqa: E402
from snn.data import images  # noqa: E402
from snn.run.optimizers import make_optimizer  # noqa: E402

BATCHES, ROUNDS = 48, 7


def measure(encoding):
    """Return median seconds per batch of (the data alone, a whole training step), measured interleaved."""
    settings = config.resolve(
        ROOT / "configs" / "snn_mlp_1.yaml", overrides=[f"encoding={encoding}", "dataset.name=digits"]
    )
    split = images.load(settings, torch.device("cpu"), (784,))[0]["train"]
    batch_size = settings["hyperparameters"]["batch_size"]
    split = random_images(split, BATCHES * batch_size)
    net = snn_mlp_1.network(settings)
    optimizer = make_optimizer(settings, net)
    generator = torch.Generator().manual_seed(0)

    def data_only():
        for _ in split.batches(batch_size, generator, shuffle=True):
            pass

    def training_epoch():
        for x, labels in split.batches(batch_size, generator, shuffle=True):
            optimizer.zero_grad()
            F.cross_entropy(net(x)[0].sum(0), labels).backward()
            optimizer.step()

    taken = time_in_turn([data_only, training_epoch], ROUNDS, "cpu")
    return [statistics.median(seconds) / BATCHES for seconds in taken]


def main():
    process.tune()  # as runs do
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {ROUNDS} interleaved rounds of {BATCHES}")
    for encoding in ("copy", "poisson"):
        data, step = measure(encoding)
        print(f"{encoding}: data {1000 * data:.2f} ms of {1000 * step:.1f} ms per batch, {100 * data / step:.1f} %")


if __name__ == "__main__":
    main()
