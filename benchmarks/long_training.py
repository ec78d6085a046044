"""Cost of saving and monitoring runs, and speed of a run shared by two processes.

    python benchmarks/long_training.py              on the CPU
    python benchmarks/long_training.py --device cuda --repeat 9
    python benchmarks/long_training.py --experiment snn_conv_1_mnist --precision bf16 --batches 4 --repeat 3

Trains snn_mlp_1, or another experiment on MNIST, on random images. Prints medians with their range of:
- a checkpoint and the TensorBoard files, against an epoch of 50,000 training and 10,000 dev images;
- that epoch against its steps alone, which repeat one batch without augmentation, counts or checks;
- a training step with the check for non-finite values, and a dev batch with spikes counted, against those without,
  interleaved;
- on the CPU, images per second of one process with one and with two threads, and of two ranks with one thread each,
  each in new processes.
"""

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.networks import random_images  # noqa: E402
from snn import config  # noqa: E402
from snn.base import process, ranks  # noqa: E402
from snn.data import images  # noqa: E402
from snn.kernels.products import matrix_products  # noqa: E402
from snn.layers.layer import output_name  # noqa: E402
from snn.look import board, health  # noqa: E402
from snn.run.finite import FiniteWatch  # noqa: E402
from snn.run.passes import Result  # noqa: E402
from snn.run.trainer import Trainer  # noqa: E402
from snn.tasks.classification import Classification  # noqa: E402


def make_trainer(device, experiment, precision, batches):
    """Return an experiment's Trainer whose splits are this many batches of random images."""
    process.tune()
    overrides = ["dataset.name=digits", "cuda_graph=never", f"precision={precision}"]
    settings = config.resolve(ROOT / f"configs/{experiment}.yaml", overrides=overrides)
    net = importlib.import_module(experiment).network(settings).to(device)
    split = images.load(settings, torch.device(device), net.input_shape)[0]["train"]
    count = batches * settings["hyperparameters"]["batch_size"]
    torch.manual_seed(0)  # the same data for all ranks
    split = random_images(split, count, device)
    return Trainer(net, {"train": split, "dev": split}, settings, Classification())


def seconds_of_pass(trainer, name):
    """Return the seconds of a pass, until the device has finished."""
    start = time.perf_counter()
    whole, train = trainer.pass_over(name), name == "train"
    trainer.parallel.train(train)
    with torch.set_grad_enabled(train):
        for batch in whole:
            done = trainer._train(batch) if train else trainer.evaluate_step(batch.x, batch.targets, batch.state)
            whole.add(batch, *done)
    whole.result()
    trainer.passes.clear()
    return time.perf_counter() - start


def seconds_of_steps(trainer, name):
    """Return the seconds of as many training steps, or evaluations, of one batch."""
    split, batch_size = trainer.splits["train"], trainer.config["hyperparameters"]["batch_size"]
    x, targets = next(split.batches(batch_size, trainer.generator, shuffle=False))
    trainer.net.train(name == "train")
    start = time.perf_counter()
    for _ in range(len(split) // batch_size):
        with torch.set_grad_enabled(name == "train"), matrix_products(trainer.config["precision"], x.device):
            loss = trainer.task.loss(trainer.net(x)[0], targets)
        if name == "train":
            trainer.optimizer.zero_grad()
            loss.backward()
            trainer.optimizer.step()
    return time.perf_counter() - start


def seconds_of_checkpoint(trainer):
    start = time.perf_counter()
    trainer._save(is_best=True)  # last.pt and best.pt
    return time.perf_counter() - start


def seconds_of_board(trainer, writer, epoch):
    """Return the seconds of TensorBoard's output after an epoch; every tenth has histograms and a picture."""
    neurons = (name for name, layer in trainer.net.named_modules() if output_name(layer) == "spikes")
    dev = Result(0.0, 0, 1, {name: torch.ones(500) for name in neurons})
    length = trainer.config["hyperparameters"]["length"]
    entry, norm = {"epoch": epoch, "seconds": 1.0}, torch.tensor(1.0)
    start = time.perf_counter()
    writer.write(entry, 1, dev, length, trainer.net, trainer.config, trainer._picture, norm)
    return time.perf_counter() - start


def in_turn(repeat, **functions):
    """Call the functions interleaved; return the seconds that each returns, by name."""
    taken = {name: [] for name in functions}
    for _ in range(repeat + 1):
        for name, function in functions.items():
            taken[name].append(function())
    return {name: seconds[1:] for name, seconds in taken.items()}  # the first calls warm up


def text(values, digits=2, unit=""):
    """Return median and range as a string."""
    return f"{statistics.median(values):.{digits}f}{unit} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def costs(trainer, repeat):
    trainer.history.append({"epoch": 0, "dev_acc": 0.0})
    trainer.best_model = trainer.net.state_dict()

    def unwatched():
        with mock.patch.multiple(FiniteWatch, guard=lambda *_: None, note=lambda *_: None):
            return seconds_of_pass(trainer, "train")

    def uncounted():
        with mock.patch.object(health, "spikes_counted", lambda _: nullcontext({})):
            return seconds_of_pass(trainer, "dev")

    with tempfile.TemporaryDirectory() as folder, board.Board(folder, 0) as writer:
        trainer.folder = Path(folder, "checkpoint")
        taken = in_turn(
            repeat, train=lambda: seconds_of_pass(trainer, "train"), unwatched=unwatched,
            dev=lambda: seconds_of_pass(trainer, "dev"), uncounted=uncounted,
            train_steps=lambda: seconds_of_steps(trainer, "train"), dev_steps=lambda: seconds_of_steps(trainer, "dev"),
            checkpoint=lambda: seconds_of_checkpoint(trainer), board=lambda: seconds_of_board(trainer, writer, 1),
            pictures=lambda: seconds_of_board(trainer, writer, board.EPOCHS_BETWEEN_PICTURES),
        )  # fmt: skip
        size = (trainer.folder / "last.pt").stat().st_size
    train, dev = (statistics.median(taken[name]) / len(trainer.splits[name]) for name in ("train", "dev"))
    epoch = 50_000 * train + 10_000 * dev
    print(f"a training epoch of 60,000 images: {epoch:.1f} s")
    of_steps = [
        (5 * a + b) / (5 * c + d)
        for a, b, c, d in zip(*(taken[name] for name in ("train", "dev", "train_steps", "dev_steps")))
    ]
    print(f"of its steps alone: {text(of_steps)} times")
    print(f"last.pt and best.pt, {size / 1e6:.1f} MB each: {text(taken['checkpoint'], 3, ' s')}, "
          f"{100 * statistics.median(taken['checkpoint']) / epoch:.2f} % of it")  # fmt: skip
    plain, pictures = (statistics.median(taken[name]) for name in ("board", "pictures"))
    mean = plain + (pictures - plain) / board.EPOCHS_BETWEEN_PICTURES
    print(f"TensorBoard: {text(taken['board'], 3, ' s')}, every tenth epoch {text(taken['pictures'], 3, ' s')}, "
          f"{100 * mean / epoch:.2f} % of an epoch")  # fmt: skip
    for with_it, without, what in (("train", "unwatched", "the watch"), ("dev", "uncounted", "counting spikes")):
        share = [100 * (a / b - 1) for a, b in zip(taken[with_it], taken[without])]
        print(f"{what} adds {text(share, 1, ' %')} to a {with_it} pass")


def worker(*of_trainer):
    """Print the images per second of this process, or of all ranks."""
    with ranks.started():
        trainer = make_trainer(*of_trainer)
        seconds_of_pass(trainer, "train")
        seconds = statistics.median(seconds_of_pass(trainer, "train") for _ in range(3))
        print(len(trainer.splits["train"]) / seconds, flush=True)


def images_per_second(threads, ranks, words):
    command = [sys.executable]
    if ranks > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    result = subprocess.run([*command, __file__, "--worker", *words], env=environment, capture_output=True, text=True)
    return float(result.stdout)


def main():
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--experiment", default="snn_mlp_1")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--batches", type=int, default=60, help="of a pass (default 60)")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--ranks", action="store_true", help="measure only the two ranks")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    of_trainer = args.device, args.experiment, args.precision, args.batches
    if args.worker:
        worker(*of_trainer)
        return
    print(f"torch {torch.__version__}, {args.device}, {torch.get_num_threads()} threads, medians of {args.repeat}")
    if not args.ranks:
        costs(make_trainer(*of_trainer), args.repeat)
    if args.device == "cpu":
        words = sys.argv[1:]
        rates = in_turn(
            args.repeat, one=lambda: images_per_second(1, 1, words), two=lambda: images_per_second(2, 1, words),
            ranks=lambda: images_per_second(1, 2, words),
        )  # fmt: skip
        print(f"one process, one thread: {text(rates['one'], 0)} images/s; two threads: {text(rates['two'], 0)}")
        ratio = [ranks / two for ranks, two in zip(rates["ranks"], rates["two"])]
        print(f"two ranks, one thread each: {text(rates['ranks'], 0)}, {text(ratio)} of the process with two threads")


if __name__ == "__main__":
    main()
