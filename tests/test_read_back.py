"""What a run saves can be read back, whatever layers, tasks and datasets of one's own put into it."""

import types
from pathlib import Path

import numpy as np
import pytest
import torch
from small import make_trainer
from torch import nn

import snn
from snn.base.keys import Key, finite
from snn.data import datasets
from snn.data.base import Split, dataset_keys
from snn.tasks.classification import Classification

DIGITS = {"name": "digits", "train_size": 16, "dev_size": 8, "test_size": 8}
SMALL = {"experiment_name": "own", "hyperparameters": {"epoch": 1, "length": 3, "batch_size": 8}, "dataset": DIGITS}


class Causal(nn.Module):
    stateful = True

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))

    def forward(self, x, state=None):
        return torch.einsum("ts,sbn->tbn", self.mask.softmax(1), x), None


class Centred(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", None)

    def forward(self, x):
        self.mean = x.detach().mean(0) if self.mean is None else self.mean
        return x - self.mean


class Sides(Split):
    device = torch.device("cpu")

    def __len__(self):
        return 8

    def batch(self, indices, generator):
        return torch.rand(3, len(indices), 784, generator=generator), indices % 10


def network(*kinds):
    return lambda _: snn.Sequential(
        snn.DualExpIIR(784, 4, 1), *(kind() for kind in kinds), snn.Linear(784, 10), snn.SpikingNeuron(4)
    )


def test_a_buffer_that_is_not_finite_by_design(folder):
    trained = snn.train(network(Causal), SMALL)
    assert snn.load("checkpoint/own/best.pt", network=network(Causal))[0].a1.equal(trained.net[0].a1)
    saved = torch.load("checkpoint/own/best.pt", weights_only=True)
    saved["model"]["1.mask"][0, 0] = torch.nan
    torch.save(saved, "bad.pt")
    with pytest.raises(snn.UserError, match="1.mask has values that are not finite"):
        snn.load("bad.pt", network=network(Causal))


def test_a_buffer_of_the_first_forward_is_refused(folder):
    with pytest.raises(snn.UserError, match=r"could not be read back \(1.mean is made in the first forward.*__init__"):
        snn.train(network(Centred), SMALL)
    snn.train(network(Centred), SMALL | {"save_checkpoint": False})


def test_numbers_of_numpy(folder, monkeypatch):
    class Task(Classification):
        def columns(self, train, dev):
            return super().columns(train, dev) | {"dev_extra": np.mean([1.0, 2.0])}

    mine = types.ModuleType("mine")
    vars(mine).update(
        NAMES=("mine",), KEYS={"dataset": dataset_keys(("mine",))},
        load=lambda *_: ({part: Sides() for part in ("train", "dev", "test")}, ""),
        MEASURED={"classes": Key([], list, "names"), "scale": Key(1.0, finite, "a number")},
        measure=lambda _: {"classes": list(np.unique(["a", "b"])), "scale": np.float64(2.5)},
    )  # fmt: skip
    monkeypatch.setattr(datasets, "TABLE", dict(datasets.TABLE))
    datasets.add(mine)
    config = SMALL | {"dataset": {"name": "mine"}, "optimizer": {"clip": 10**20}}
    snn.train(network(), config, task=Task())
    net = snn.load("checkpoint/own/best.pt", network=network())
    assert net.config["measured"] == {"classes": ["a", "b"], "scale": 2.5}
    Task.columns = lambda *_: {"dev_acc": 10**30}
    with pytest.raises(snn.UserError, match=r"columns\(\) of task Task: .* are not strings, numbers"):
        snn.train(network(), config | {"experiment_name": "large"}, task=Task())
    config = SMALL | {"experiment_name": "later", "dataset": {"name": "mine"}}
    for check in Path, lambda value: lambda: value:
        mine.KEYS["dataset"]["where"] = Key("x", check, "a place")
        with pytest.raises(snn.UserError, match="could not be read back"):
            snn.train(network(), config)


def test_a_lost_best_checkpoint_is_made_from_the_last(folder, run):
    settings = {"hyperparameters.epoch": 2}
    run("snn_mlp_1", "--train", settings=settings)
    tested = run("snn_mlp_1", "--test", settings=settings)[-1]
    best = run.folder / "checkpoint/snn_mlp_1/best.pt"
    before = torch.load(best, weights_only=True)
    best.unlink()
    (best.parent / "other.pt").symlink_to("nowhere")
    run("snn_mlp_1", "--train", "--resume", settings=settings)
    assert run.status == 0 and "best.pt was missing" in run.err
    after = torch.load(best, weights_only=True)
    assert all(after["model"][name].equal(value) for name, value in before["model"].items())
    assert run("snn_mlp_1", "--test", settings=settings)[-1] == tested
    after["epoch"], after["model"]["0.a1"] = 0, after["model"]["0.a1"] + 1  # of another run
    torch.save(after, best)
    (run.folder / "runs").rename(run.folder / "older_runs")
    run("snn_mlp_1", "--train", "--resume", settings=settings)
    assert "best.pt was not that of this run's best epoch, and is best_other.pt now: it is made from last" in run.err
    assert run("snn_mlp_1", "--test", settings=settings)[-1] == tested and best.with_name("best_other.pt").exists()
    after["epoch"], after["history"] = 7, [{"epoch": n} for n in range(8)]  # also of a later epoch
    torch.save(after, best)
    run("snn_mlp_1", "--train", "--resume", settings=settings)
    assert "is best_other_2.pt now" in run.err and run("snn_mlp_1", "--test", settings=settings)[-1] == tested
    run("snn_mlp_1", "--train", "--resume", settings=settings | {"ties": "potential"})
    assert "best.pt was of ties: first: it is made from last.pt" in run.err and "best_other_3" not in run.err
    run("snn_mlp_1", "--train", "--resume", settings=settings)
    rows = [next(run.folder.glob(f"{runs}/snn_mlp_1/*/metrics.csv")).read_text() for runs in ("runs", "older_runs")]
    assert rows[0] == rows[1]  # also in the new folder
    run("snn_mlp_1", "--train", "--init_from", str(best), settings=settings)
    assert run.status == 2 and "is of a run that this one replaces: copy it to another folder" in run.err
    run("snn_mlp_1", "--train", settings=settings)  # older checkpoints move aside, also links that lead nowhere
    assert run.status == 0 and "are now in checkpoint/snn_mlp_1_" in run.err


def test_a_best_checkpoint_of_the_same_epoch_of_another_run_is_made_anew(folder):
    trainer = make_trainer(folder)
    trainer.fit()
    best = trainer.folder / "best.pt"
    other = torch.load(best, weights_only=True)
    other["model"]["1.bias"] += 1
    torch.save(other | {"history": []}, best)
    saved = torch.load(trainer.folder / "last.pt", weights_only=True)
    make_trainer(folder, resume_from=saved).fit()
    assert torch.equal(torch.load(best, weights_only=True)["model"]["1.bias"], saved["best_model"]["1.bias"])
