"""Run by torchrun for test_distributed.py, and called by it: write what a rank or process sees to a file.

Arguments: a file that does not exist yet; on several ranks its name gets the rank's number.
"""

import sys
import time

import torch
from small import CONFIG
from torch import nn

import snn
from snn import config
from snn.base import ranks
from snn.data.events import EventSplit
from snn.data.frames import bin_or
from snn.data.images import ImageSplit, copy
from snn.layers.chunks import in_chunks
from snn.run.passes import Pass
from snn.run.step import evaluate_step, forward
from snn.tasks.classification import Classification

# 23 samples in batches of 11 leave one in the last batch: the second of two ranks has none of it.
SAMPLES, BATCH = 23, 11


def image_case():
    torch.manual_seed(0)
    net = snn.Sequential(
        snn.DualExpIIR((1, 28, 28), 4, 1), nn.Conv2d(1, 3, 3), snn.SpikingNeuron(4), nn.Flatten(),
        snn.FirstOrderLowPass(3 * 26 * 26, 4), nn.Linear(3 * 26 * 26, 10), snn.SpikingNeuron(4),
    )  # fmt: skip
    images = torch.randint(256, (SAMPLES, 28, 28), dtype=torch.uint8)
    images[:, 0, 0] = torch.arange(SAMPLES)  # the pixel identifies the sample
    return net, ImageSplit(images, torch.randint(10, (SAMPLES,)), lambda batch, _: copy(batch, 6), (1, 28, 28))


def event_case():
    torch.manual_seed(1)
    net = snn.Sequential(nn.Flatten(), snn.FirstOrderLowPass(72, 4), nn.Linear(72, 11), snn.SpikingNeuron(4))
    events, shape = 300, (2, 6, 6)
    offsets = torch.arange(SAMPLES + 1) * events
    step = torch.randint(5, (SAMPLES * events,), dtype=torch.int32)
    place = torch.randint(72, (SAMPLES * events,), dtype=torch.int16)
    split = EventSplit(
        step, place, offsets.numpy(), torch.randint(11, (SAMPLES,)).numpy(), list(range(SAMPLES)),
        lambda *columns: bin_or(*columns, length=5, shape=shape),
    )  # fmt: skip
    return net, split


def main(path):
    seen = {}
    with ranks.started():
        for name, case, chunk in (("images", image_case, 0), ("events", event_case, 0), ("chunks", image_case, 4)):
            overrides = [f"hyperparameters.batch_size={BATCH}", f"hyperparameters.chunk={chunk}"]
            settings = config.resolve(CONFIG, overrides=overrides)
            net, split = case()
            parallel = ranks.parallel(in_chunks(net, settings["hyperparameters"]))
            gradients, samples = [], []

            task, generator = Classification(), torch.Generator().manual_seed(ranks.own_seed(5))
            train = Pass(split, task, settings, generator, "train", shuffle=True)
            parallel.train()
            for batch in train:
                net.zero_grad()
                loss, sums, end = forward(parallel, task, settings, batch.x, batch.targets)
                (loss * batch.share).backward()
                gradients.append({name: p.grad.clone() for name, p in net.named_parameters()})
                samples.append(batch.x[0].flatten(1).clone())
                train.add(batch, sums, end)
            dev = Pass(split, task, settings, generator, "dev")
            net.eval()
            with torch.no_grad():
                for batch in dev:
                    dev.add(batch, *evaluate_step(net, task, settings, batch.x, batch.targets))
            train, dev = train.result(), dev.result()
            spikes = {name: value.tolist() for name, value in dev.spikes.items()}
            seen[name] = {
                "gradients": gradients, "samples": samples, "train": [*train[:3]], "dev": [*dev[:3]], "spikes": spikes,
                "noise": torch.rand(4, generator=generator),
            }  # fmt: skip
        buffer = torch.tensor([float(ranks.rank())])
        ranks.broadcast([buffer])
        seen["shared"] = buffer
        torch.save(seen, f"{path}{ranks.rank()}")
    for _ in range(3):
        time.sleep(0.3 * ranks.rank())  # so the first rank may meet what the other has left from before
        with ranks.started():
            assert ranks.largest(ranks.rank()) == ranks.ranks() - 1


if __name__ == "__main__":
    main(sys.argv[1])
