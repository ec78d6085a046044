"""Whole runs on a device that isn't the CPU's: no tensor of one meets one of the other."""

import importlib

import pytest
import torch
from card import CARD, OnCard, card, on_fake_cuda, without_waiting
from scripts import ROOT
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import snn
from snn import kernels
from snn.config import resolve
from snn.data import datasets, images
from snn.run.finite import FiniteWatch
from snn.run.optimizers import make_optimizer
from snn.run.step import evaluate_step, forward, train_step
from snn.tasks.association import Association
from snn.tasks.default import task_for
from snn.tasks.series import SeriesClassification
from snn.tasks.steps import StepClassification

KEYS = {
    "cuda_graph": "never",
    "save_checkpoint": False,
    "hyperparameters": {"length": 4, "batch_size": 8, "epoch": 1},
    "dataset": {"name": "digits", "train_size": 16, "dev_size": 8, "test_size": 8},
}


def network(config):
    return snn.Sequential(
        snn.DualExpIIR(784, 4, 1), snn.Linear(784, 6), snn.SpikingNeuron(4), snn.Dropout(0.3),
        snn.FirstOrderLowPass(6, 4), snn.Linear(6, 10), snn.SpikingNeuron(4),
    )  # fmt: skip


def test_the_card_refuses_what_a_gpu_refuses():
    with card():
        x = torch.ones(3, device=CARD)
        assert isinstance(x + 1, OnCard) and x.is_meta and (x + torch.tensor(2.0)).tolist() == [3, 3, 3]
        assert x.cpu().device.type == "cpu" and x.cpu().tolist() == [1, 1, 1]
        assert nn.Linear(3, 2).to(CARD)(x).device == CARD
        with pytest.raises(RuntimeError, match="expected all tensors on meta"):
            torch.cat([torch.empty(0), x])
        with pytest.raises(RuntimeError, match="expected all tensors on meta"):
            x + torch.ones(3)


def test_the_card_says_what_waits_for_it():
    with card():
        x = torch.ones(3, device=CARD)
        with without_waiting():
            x.fill_(2)[1:].mul_(x[1:] + x.sum())
            for waits in (
                lambda: x.sum().item(), lambda: x.cpu(), lambda: x.nonzero(), lambda: x[torch.zeros(1).long()],
                lambda: torch.tensor([1, 2], device=CARD), lambda: bool((x > 1).any()), lambda: x[x > 1],
                lambda: x.unique(), lambda: x.repeat_interleave(x.long()),
            ):  # fmt: skip
                with pytest.raises(RuntimeError, match="waits for"):
                    waits()
        assert x.tolist() == [2, 16, 16]


STEPS = {  # overrides, by experiment
    "snn_mlp_1": ["hyperparameters.rate_loss=1"],
    "snn_mlp_2_poisson_input": ["ties=potential"],
    "snn_conv_2_gesture": [],
    "sequential_mnist_permuted": [],
    "time_series": [],
    "ecg": [],
    "associative_memory": [],
}


def parts_of(experiment):
    """Return a shipped experiment's network, task and config, and an input and targets for a step."""
    script = importlib.import_module(experiment)
    words = ["hyperparameters.length=4", *STEPS[experiment]]
    settings = datasets.measured(resolve(ROOT / f"configs/{experiment}.yaml", overrides=words))
    task = (getattr(script, "task", None) or task_for(settings)).of(settings)
    net = script.network(settings)
    x = torch.rand(4, 2, *(net.input_shape or (2, 128, 128)))
    targets = {
        Association: torch.rand(4, 2, 300),
        StepClassification: torch.zeros(4, 2, dtype=torch.int64),
        SeriesClassification: torch.ones(2, 2, dtype=torch.int64),
    }.get(type(task), torch.ones(2, dtype=torch.int64))
    return net, task, settings, x, targets


@pytest.mark.parametrize("experiment", STEPS)
def test_no_step_waits_for_its_device(experiment):
    """Else there is no CUDA graph, and the GPU idles at each batch."""
    net, task, settings, x, targets = parts_of(experiment)
    with card():
        net, x, targets = net.to(CARD), x.to(CARD), targets.to(CARD)
        optimizer = make_optimizer(settings, net)
        watch = FiniteWatch(optimizer)
        train_step(net, optimizer, watch, task, settings, x, targets)  # makes the optimizer's moments
        with without_waiting():
            train_step(net, optimizer, watch, task, settings, x, targets)
            evaluate_step(net.eval(), task, settings, x, targets)


def like_on_cuda(tensor):
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")


class _NoCopies(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        devices = {value.device.type for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)}
        assert len(devices) < 2 or "copy" not in str(function) and "index" not in str(function), f"{function} waits"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("encoding", ["copy", "poisson", "pixels", "permuted"])
def test_no_batch_of_images_waits_for_its_device(encoding):
    words = ["dataset.name=digits", "hyperparameters.length=16", "mnist_config.use_transform=false"]
    words.append(f"encoding={encoding}")
    settings = resolve(ROOT / "configs/snn_mlp_1.yaml", overrides=words)
    with card():
        split = images.load(settings, CARD, None)[0]["train"]
        with without_waiting():
            batches = list(split.batches(64, torch.Generator(CARD), shuffle=True))
    assert len(batches) == -(-len(split) // 64) and all(isinstance(x, OnCard) for x, _ in batches)


@on_fake_cuda
@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("experiment", STEPS)
def test_no_number_is_copied_to_the_device(experiment, training, monkeypatch):
    """As in `sums[0] = 1`, which copies only on a GPU: here fake tensors of one, which have no gradients."""
    monkeypatch.setattr(kernels, "_kernels_on", lambda _: kernels.reference)
    net, task, settings, x, targets = parts_of(experiment)
    with FakeTensorMode(), torch.no_grad():
        x, targets = like_on_cuda(x), like_on_cuda(targets)
        for layer in net.modules():
            for of_layer in layer._parameters, layer._buffers:
                of_layer |= {
                    name: nn.Parameter(like_on_cuda(value), value.requires_grad)
                    for name, value in of_layer.items() if value is not None
                }  # fmt: skip
        with _NoCopies():
            _, sums, _ = forward(net.train(training), task, settings, x, targets)
    assert sums.shape == (4,) and sums.is_cuda


@pytest.mark.parametrize("changes", [
    {}, {"encoding": "poisson", "states": "preserved", "ties": "potential"},
    {"optimizer": {"clip": 1}, "hyperparameters": KEYS["hyperparameters"] | {"stable_filters": True, "rate_loss": 1}},
])  # fmt: skip
def test_a_run_keeps_to_its_device(folder, capsys, drawn, changes):
    with card():
        result = snn.train(network, KEYS | {"experiment_name": "of_card"} | changes, verbose=True)
    assert isinstance(next(result.net.parameters()), OnCard)
    assert "of_card on meta: 16 train" in capsys.readouterr().out
