"""QTDB and a class at every step: the data, the loss and the score, the readout, pictures, and a short training."""

import csv
import re

import numpy as np
import pytest
import torch
from PIL import Image
from scripts import ROOT, write_bomb

from snn import config
from snn.base.errors import UserError
from snn.data import ecg as data
from snn.experiments import ecg
from snn.layers.start import initialize
from snn.look import filter_plots
from snn.tasks.steps import StepClassification

CONFIG = ROOT / "configs/ecg.yaml"
TASK = StepClassification()


def records(n, steps=30, seed=0):
    """Return records whose class is that of the line that spiked last: spikes `[n, steps, 4]`, classes `[n, steps]`."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, 4, (n, steps // 5)).repeat(5, 1).astype(np.int8)
    return np.eye(4, dtype=np.int8)[y], y


def write(path, **arrays):
    (x, y), (test_x, test_y) = records(20), records(6, seed=1)
    np.savez(path, **{"train_x": x, "train_y": y, "test_x": test_x, "test_y": test_y} | arrays)


def resolved(*overrides):
    return config.resolve(CONFIG, overrides=overrides)


def load(*overrides):
    return data.load(resolved(*overrides), torch.device("cpu"), None)


def test_the_loss_and_the_score_are_of_every_step():
    y = torch.zeros(2, 3, 6)  # [T, B, classes]
    y[0, 0, 4], y[1, 0, 2], y[:, 1, 1] = 2, 1, 3
    targets = torch.tensor([[4, 1, 0], [3, 1, 5]])
    right, flat = y.exp().sum(2).log(), y.gather(2, targets[..., None])[..., 0]
    assert TASK.loss(y, targets).item() == pytest.approx((right - flat).mean().item())
    assert TASK.score(y, targets).item() == 0.5 + 1 + 0.5  # of three samples; the third answers 0
    found = TASK.answers(y, y, targets)
    assert found.labels.tolist() == [4, 3, 1, 1, 0, 5] and found.answers.tolist() == [4, 2, 1, 1, 0, 0]
    assert TASK.ties(y, targets) == 0


def test_what_ships():
    splits, name = load()
    assert name == "qtdb" and {part: len(split) for part, split in splits.items()} == {
        "train": 556, "dev": 62, "test": 141
    }  # fmt: skip
    x, y = splits["dev"].batch(torch.tensor([3, 0]), None)
    assert x.shape == (1301, 2, 4) and y.shape == (1301, 2) and splits["dev"].length == 1301
    assert torch.equal(y[:, 1], splits["dev"].y[0].long()) and y.unique().tolist() == [0, 1, 2, 3, 4, 5]


def test_dev_is_drawn_with_the_seed(folder, capsys):
    write("own.npz")
    load("dataset.file=own.npz", "hyperparameters.length=30")
    assert not capsys.readouterr().err
    load("dataset.file=own.npz", "hyperparameters.length=20")
    assert "length: 20, but records of own.npz have 30 steps, and all of them run" in capsys.readouterr().err
    one, same, other = (load("dataset.file=own.npz", f"pytorch_seed={seed}")[0] for seed in (2, 2, 3))
    assert [len(split) for split in (one["train"], one["dev"], one["test"])] == [18, 2, 6]
    assert torch.equal(one["dev"].x, same["dev"].x) and not torch.equal(one["dev"].y, other["dev"].y)
    everything = torch.cat([one["train"].y, one["dev"].y]).tolist()
    assert sorted(everything) == sorted(records(20)[1].tolist())
    sizes = load("dataset.file=own.npz", *(f"dataset.{part}_size=3" for part in ("train", "dev", "test")))[0]
    assert [len(split) for split in sizes.values()] == [3, 3, 3]
    with pytest.raises(UserError, match="20 of 20 training records for dev leave none to train on"):
        load("dataset.file=own.npz", "dataset.dev_size=20")


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"test_x": np.zeros((6, 30, 3), np.int8)}, r"x is \[6, 30, 3\] and y \[6, 30\], not \[N, T, 4\] and \[N, T\]"),
        ({"train_y": np.zeros((20, 31), np.int8)}, r"x is \[20, 30, 4\] and y \[20, 31\]"),
        ({"train_y": np.full((20, 30), 6)}, "it has classes other than 0 to 5"),
        ({"train_x": np.zeros((20, 30, 4))}, "it holds other numbers than small integers"),
        ({"train_x": np.full((20, 30, 4), np.iinfo(np.int64).min)}, "it holds other numbers than small integers"),
        ({"train_x": np.full((20, 30, 4), 300)}, "it holds other numbers than small integers"),
        ({"test_y": np.array([None])}, "allow_pickle"),
        ({"test_x": np.zeros((0, 30, 4), np.int8), "test_y": np.zeros((0, 30), np.int8)}, r"x is \[0, 30, 4\]"),
    ],
)
def test_a_bad_file_is_one_line(folder, arrays, message):
    write("bad.npz", **arrays)
    with pytest.raises(UserError, match=rf"^bad.npz can't be read \(.*{message}.*\): .*README.md says what it holds$"):
        load("dataset.file=bad.npz")


def test_what_lacks_an_array_or_holds_a_bomb_is_one_line_too(folder):
    x, y = records(6)
    np.savez("bad.npz", train_x=x, train_y=y, test_x=x)
    with pytest.raises(UserError, match=r"bad.npz .*it has no array 'test_y'; it has test_x, train_x, train_y"):
        load("dataset.file=bad.npz")
    write_bomb(folder / "bad.npz", "train_x.npy")
    with pytest.raises(UserError, match=r"bad.npz .*it has 268,435,457 bytes, and at most 268,435,456 are read"):
        load("dataset.file=bad.npz")


def test_a_part_of_the_test_set_is_from_all_of_it(folder):
    whole, part = (load(f"dataset.test_size={size}")[0]["test"] for size in (0, 9))
    places = [(whole.x == x).all((1, 2)).nonzero().item() for x in part.x]
    assert places == sorted(set(places)) and places[-1] > 40


def test_a_missing_file_and_one_of_another_kind_are_one_line_too(folder):
    (folder / "text.npz").write_text("text")
    for name, message in (("absent.npz", "No such file"), ("text.npz", "File is not a zip file")):
        with pytest.raises(UserError, match=rf"^{name} can't be read \(.*{message}"):
            load(f"dataset.file={name}")


def test_the_readout_is_a_potential_and_the_network_is_small():
    torch.manual_seed(0)
    net, x = ecg.network(resolved()), torch.zeros(9, 2, 4)
    initialize(net, resolved()["hyperparameters"])
    assert sum(parameter.numel() for parameter in net.parameters()) <= 1800
    x[3] = 5
    y, state = net(x)
    assert y.shape == (9, 2, 6) and len(y.unique()) > 12  # no spikes
    torch.testing.assert_close(net(x[5:], net(x[:5])[1])[0], y[5:])


def test_a_short_training(run, drawn):
    write(run.folder / "own.npz")
    settings = {
        "dataset.name": "qtdb", "dataset.file": "own.npz", "dataset.train_size": 0, "dataset.dev_size": 0,
        "dataset.test_size": 0, "hyperparameters.length": 30, "hyperparameters.batch_size": 6,
        "hyperparameters.hidden": "[20]", "hyperparameters.epoch": 40, "optimizer.AdamW.lr": 0.02,
        "scheduler.CosineAnnealingWarmRestarts.T_0": 40,
        "hyperparameters.surrogate": "Gaussian",  # its recurrent loop is compiled for other tests too
    }  # fmt: skip
    lines = run("ecg", "--train", settings=settings)
    assert run.status == 0 and "no picture" not in run.err, run.err
    accuracy = float(lines[-1].removeprefix("test accuracy: ").split(" %")[0])
    assert accuracy > 80 and lines[-1].endswith(" % of the steps of 6 records, own.npz")
    assert "ties" not in run.out and re.search(r"on cpu: \d+ train, \d+ dev, 6 test", run.out)
    (folder,) = run.folder.glob("runs/ecg/*")
    with open(folder / "confusion.csv") as file:
        counts = np.array([list(map(int, row[1:])) for row in list(csv.reader(file))[1:]])
    with open(folder / "predictions.csv") as file:
        assert {row["tie"] for row in csv.DictReader(file)} == {"no"}  # potentials
    assert counts.sum() == 6 * 30 and 100 * counts.trace() / counts.sum() == pytest.approx(accuracy, abs=0.01)
    assert run("ecg", "--inspect", settings=settings)[-1] == lines[-1]
    (page,) = run.folder.glob("runs/ecg/*/index.html")
    for name in ("steps", "confusion", "poles"):
        assert Image.open(page.parent / f"{name}.png").size[0] == 1200


def test_poles_before_and_after_are_drawn():
    before, after = (ecg.network(resolved()) for _ in range(2))
    with torch.no_grad():
        after[1].a1[0], after[1].a2[0] = 2 * 0.9 * np.cos(0.3), -0.81  # rings
    figure = filter_plots.poles(before, after)
    disc = figure.axes[0]
    old, new = (points.get_offsets() for points in disc.collections)
    assert len(old) == len(new) == 2 * 16
    assert new[0].tolist() == pytest.approx([0.9 * np.cos(0.3), 0.9 * np.sin(0.3)]) and old[0][1] == 0
    assert "before: time constants up to 400 steps, 50% of the filters ring" in disc.get_title()
    assert disc.get_title().endswith("56% of the filters ring")
    assert disc.get_xlim() == pytest.approx((-1.1, 1.1), abs=0.01)


def test_unstable_filters_are_drawn_and_counted():
    before, after = (ecg.network(resolved()) for _ in range(2))
    with torch.no_grad():
        after[1].a1[0], after[1].a2[0] = 1.5, 0.0  # a pole at 1.5
        after[1].a1[1], after[1].a2[1] = 9.0, 0.0
    disc = filter_plots.poles(before, after).axes[0]
    assert disc.get_title().endswith("2 unstable") and disc.get_xlim() == (-2, 2)
    low, high = filter_plots.impulse_responses(before, after).axes[0].get_ylim()
    assert -2 < low < high < 2


def test_histograms_before_and_after_have_one_scale():
    before, after = (ecg.network(resolved()) for _ in range(2))
    with torch.no_grad():
        after[1].a1.mul_(0.5)
        after[1].a2.mul_(0.25)  # poles at half the distance
    for axis in filter_plots.coefficients(before, after).axes[:4]:
        blue, orange = axis.patches[:-1], axis.patches[-1].get_xy()[:, 0]
        assert (blue[0].get_x(), blue[-1].get_x() + blue[-1].get_width()) == pytest.approx((orange.min(), orange.max()))
