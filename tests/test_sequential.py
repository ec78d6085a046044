"""MNIST in time: the order of its pixels, what keeps it, and networks that learn it."""

import pytest
import torch
from scripts import ROOT

import sequential_mnist
import snn
from snn import config
from snn.base.errors import UserError
from snn.data import datasets, digits, images
from snn.tasks.classification import Classification

CPU = torch.device("cpu")
TINY = {"hyperparameters.length": 49, "hyperparameters.epoch": 1, "precision": "float32"}


def resolved(script="sequential_mnist", *overrides):
    overrides = ["dataset.name=digits", *overrides]
    return datasets.measured(config.resolve(ROOT / f"configs/{script}.yaml", overrides=overrides, warn=lambda _: None))


def batch_of(settings, count=5, shape=None):
    """Return the first test images `[count, 28, 28]`, from 0 to 1, and what a network gets of them."""
    split = images.load(settings, CPU, shape)[0]["test"]
    return split.images[:count] / 255, next(split.batches(count, None))[0]


@pytest.mark.parametrize("shape", [None, (1,)])
def test_pixels_come_row_by_row(shape):
    whole, x = batch_of(resolved(), shape=shape)
    assert x.shape == (784, 5, 1) and torch.equal(x[:, :, 0].T.reshape(5, 28, 28), whole)
    assert x[28, 3, 0] == whole[3, 1, 0]


def test_fewer_steps_shrink_the_image():
    whole, x = batch_of(resolved("sequential_mnist", "hyperparameters.length=49"))
    assert torch.allclose(x[8, :, 0], whole[:, 4:8, 4:8].mean((1, 2)))  # second row of 7, second pixel of 4 x 4


def test_permuted_pixels_are_the_same_ones_in_one_order():
    settings = resolved("sequential_mnist_permuted")
    order = settings["measured"]["order"]
    _, x = batch_of(settings)
    assert sorted(order) == list(range(784)) and order != sorted(order)
    assert torch.equal(x, batch_of(resolved())[1][order])
    assert "measured" not in resolved()


def test_the_order_is_the_same_in_every_process_and_with_every_seed():
    """Also on other days: that of the weights that ship, which were trained with seed 2."""
    shipped = torch.load(ROOT / "weights/sequential_mnist_permuted.pt", weights_only=True)["config"]["measured"]
    assert resolved("sequential_mnist_permuted", "pytorch_seed=7")["measured"] == shipped


@pytest.mark.parametrize("length", [50, 841])
@pytest.mark.parametrize("encoding", ["pixels", "permuted"])
def test_steps_that_are_no_square_of_pixels_are_refused(length, encoding):
    overrides = f"hyperparameters.length={length}", f"encoding={encoding}"
    with pytest.raises(UserError, match=f"length: {length} is not allowed with encoding {encoding}"):
        resolved("sequential_mnist", *overrides)


def test_parameters():
    net = sequential_mnist.network(resolved())
    assert sum(parameter.numel() for parameter in net.parameters()) == 86_730


def test_only_the_last_steps_count():
    task = Classification().of({"hyperparameters": {"length": 8, "readout": 0.25, "rate_scale": 3}})
    y = torch.rand(8, 5, 10).round()
    labels = torch.arange(5)
    torch.testing.assert_close(task.loss(y, labels), torch.nn.functional.cross_entropy(3 * y[6:].mean(0), labels))
    assert torch.equal(task.answers(y, y, labels).scores, y[6:].sum(0))
    last = Classification().of({"hyperparameters": {"length": 8, "readout": 1e-20}})
    assert torch.equal(last.answers(y, y, labels).scores, y[7])
    assert Classification().of({"hyperparameters": {"length": 8}}).first == 0


def test_the_order_is_kept(run, monkeypatch):
    """By a checkpoint, and from there by --test, --resume, snn.load and a Predictor, however it is drawn now."""
    script, tiny = "sequential_mnist_permuted", TINY | {"dataset.train_size": 24}
    lines = run(script, "--train", settings=tiny)
    assert run.status == 0, run.err
    order = run.checkpoint(script)["config"]["measured"]["order"]

    monkeypatch.setattr(images, "measure", lambda config: {"order": list(range(49))})
    assert run(script, "--test", settings=tiny)[-1] == lines[-1], run.err
    run(script, "--train", "--resume", settings=tiny | {"hyperparameters.epoch": 2})
    assert run.status == 0, run.err
    assert run.checkpoint(script)["config"]["measured"]["order"] == order

    best = run.folder / f"checkpoint/{script}/best.pt"
    net = snn.load(best)
    assert net.config["measured"]["order"] == order
    pictures = digits.read()[1][0][:4].numpy()
    predictor = snn.Predictor(best, device="cpu")
    names, scores = predictor(pictures)
    x = images.pixels(torch.from_numpy(pictures)[:, None] / 255, torch.tensor(order))
    y, _ = net(x)
    assert torch.equal(scores, y[36:].sum(0)) and scores.max() <= 13

    stream = predictor.stream()
    for pixel in x[:, 2, 0].numpy():
        name, so_far = stream(pixel)
    assert name == names[2] and torch.equal(so_far, scores[2])


def test_another_length_than_that_of_the_order_is_refused(run):
    script, tiny = "sequential_mnist_permuted", TINY | {"dataset.train_size": 8}
    run(script, "--train", settings=tiny)
    run(script, "--test", settings=tiny | {"hyperparameters.length": 64})
    assert run.status == 2 and "length: 64 is not allowed: the network was trained with 49 pixels" in run.err
    run(script, "--test", settings=tiny | {"encoding": "pixels"})  # asked for: in rows
    assert run.status == 0, run.err
    image = torch.arange(784.0).view(1, 1, 28, 28)
    settings = resolved(script, "encoding=pixels", "hyperparameters.length=784")
    settings["measured"] = {"order": [*range(784)][::-1]}
    assert images.encoder(settings, image.device)(image, None)[:3, 0, 0].tolist() == [0, 1, 2]
    saved = torch.load(run.folder / f"checkpoint/{script}/best.pt", weights_only=True)
    saved["config"]["measured"]["order"][0] = 48
    torch.save(saved, run.folder / "broken.pt")
    run(script, "--test", "--checkpoint", "broken.pt", settings=tiny)
    assert run.status == 2 and "measured.order" in run.err and "permutation" in run.err


def test_it_learns(run):
    settings = {
        "hyperparameters.length": 16, "dataset.train_size": 400, "dataset.test_size": 100, "dataset.dev_size": 100,
        "hyperparameters.epoch": 6, "hyperparameters.batch_size": 16, "precision": "float32",
        "scheduler.CosineAnnealingWarmRestarts.T_0": 6,
    }  # fmt: skip
    lines = run("sequential_mnist", "--train", settings=settings)
    assert run.status == 0, run.err
    assert float(lines[-1].split()[2]) > 40  # 10 by chance


def test_the_potential_decides_also_where_only_the_last_steps_count():
    """Two classes with as many spikes in these, the second driven more there, though less before."""
    task = Classification().of({"hyperparameters": {"length": 4, "readout": 0.5}})
    y, drive = torch.zeros(4, 1, 2), torch.tensor([[5.0, 0], [5, 0], [1, 2], [1, 2]])[:, None]
    y[2:] = 1
    targets = torch.tensor([1])
    assert task.answers(y, y, targets).answers.tolist() == [0]
    found = task.answers(y, task.settled(y, drive, targets), targets)
    assert found.answers.tolist() == [1] and found.scores.tolist() == [[2, 2]]


def test_a_task_of_one_config_is_not_that_of_the_next():
    """A script's is one object for all runs in a process, as of a search."""
    task = Classification()
    task.of({"hyperparameters": {"length": 8, "readout": 0.25, "rate_scale": 3}})
    again = task.of({"hyperparameters": {"length": 8}})
    assert (again.first, again.rate_scale, task.first, task.rate_scale) == (0, 0, 0, 0)
