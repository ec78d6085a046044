"""Cost of event recordings: reading their formats, and binning them against a training step.

    python benchmarks/event_data.py [--device cuda]

Reads synthetic files in memory or in a temporary folder, on one core, from the warm page cache. Bins random events, as
many as a real recording has (N-MNIST 4,100; a gesture 300,000, a high estimate), in the experiments' bins. Prints
medians over rounds; binning and step are interleaved.
"""

import argparse
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import snn_conv_1_gesture  # noqa: E402
import snn_conv_1_nmnist  # noqa: E402
from benchmarks.timing import time_in_turn  # noqa: E402
from snn import config  # noqa: E402
from snn.base import process  # noqa: E402
from snn.data import aedat, camera, events, gesture, nmnist, simulated_nmnist  # noqa: E402
from snn.data.frames import bin_max, bin_or  # noqa: E402
from snn.run.optimizers import make_optimizer  # noqa: E402

ROUNDS = 7
# experiment: its script, its reader, events and microseconds per recording, batch of the benchmark
CASES = {
    "snn_conv_1_nmnist": (snn_conv_1_nmnist, nmnist, 4_100, 300_000, 8),
    "snn_conv_1_gesture": (snn_conv_1_gesture, gesture, 300_000, 6_000_000, 2),
    "snn_conv_1_gesture_max": (snn_conv_1_gesture, gesture, 300_000, 6_000_000, 2),
}


def random_events(count, duration, size):
    time_, x, y = (torch.from_numpy(np.random.randint(0, limit, count)) for limit in (duration, size, size))
    return camera.Events(time_.sort()[0], x, y, x % 2)


def seconds(function):
    return statistics.median(time_in_turn([function], ROUNDS, "cpu")[0])


def measure_reading():
    count = 4_000_000
    file = aedat.encode(random_events(count, 2**30, 128))
    taken = seconds(lambda: aedat.decode(file, ""))
    print(f"AEDAT 3.1, packets of {aedat.PACKET}: {count / taken / 1e6:.0f} million events per second")
    with tempfile.TemporaryDirectory() as root:
        recordings = 2000
        data = simulated_nmnist.encode(random_events(4_100, 300_000, 34))
        for part in ("Train", "Test"):
            (Path(root) / part / "0").mkdir(parents=True)
            for n in range(recordings // 2):
                (Path(root) / part / "0" / f"{n:05d}.bin").write_bytes(data)
        taken = seconds(lambda: [0 for _ in nmnist.recordings(root)[1]])
        print(f"N-MNIST folder, {len(data) / 1e3:.1f} kB each: {recordings / taken:.0f} recordings per second")


def measure_binning(name, device):
    script, dataset, count, duration, batch_size = CASES[name]
    settings = config.resolve(ROOT / "configs" / f"{name}.yaml")
    length = settings["hyperparameters"]["length"]
    one = [random_events(count, duration, dataset.SHAPE[1]) for _ in range(4 * batch_size)]
    place = torch.cat([(e.polarity * dataset.SHAPE[1] + e.x) * dataset.SHAPE[1] + e.y for e in one]).short().to(device)
    bin_events = bin_max if settings["encoding"] == "max" else bin_or
    width = dataset.bin_widths(np.array([duration - 1]), length, settings["encoding"])[0]
    step = torch.cat([e.time for e in one]).div_(int(width), rounding_mode="floor").clamp_(max=length - 1)
    split = events.EventSplit(
        step.int().to(device),
        place,
        np.arange(len(one) + 1) * count,
        np.arange(len(one)) % 10,
        range(len(one)),
        partial(bin_events, length=length, shape=dataset.SHAPE),
    )
    net = script.network(settings).to(device)
    optimizer = make_optimizer(settings, net)
    generator = torch.Generator(device).manual_seed(0)

    def data_only():
        *_, (x, _) = split.batches(batch_size, generator, shuffle=True)
        x.sum().item()  # waits for the device

    def training_epoch():
        for x, labels in split.batches(batch_size, generator, shuffle=True):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x)[0].sum(0), labels)
            loss.backward()
            optimizer.step()
        loss.item()

    taken = time_in_turn([data_only, training_epoch], ROUNDS, device.type)
    data, step = (1000 * statistics.median(seconds) / 4 for seconds in taken)
    shares = sorted(100 * a / b for a, b in zip(*taken))
    print(
        f"{name}, batch {batch_size}, T {length}: data {data:.1f} ms of {step:.0f} ms per batch, "
        f"{shares[ROUNDS // 2]:.1f} % ({shares[1]:.1f} to {shares[-2]:.1f})"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    device = torch.device(parser.parse_args().device)
    process.tune()
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, medians of {ROUNDS} rounds")
    measure_reading()
    for name in CASES:
        measure_binning(name, device)


if __name__ == "__main__":
    main()
