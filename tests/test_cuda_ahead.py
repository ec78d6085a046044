"""What can be known of CUDA without a GPU: that its kernels compile, to what, and that no step waits for the device."""

import importlib
import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import pytest
import torch
from card import on_fake_cuda
from scripts import ROOT, same
from small import make_trainer
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map

import snn
from benchmarks import gpu
from snn import config
from snn.data import patterns
from snn.kernels.products import matrix_products
from snn.kernels.surrogates import Gaussian
from snn.run.finite import FiniteWatch
from snn.run.graph import StepGraph, with_graph
from snn.run.optimizers import make_optimizer
from snn.tasks.classification import Classification


def resolve(name, *overrides):
    return config.resolve(ROOT / f"configs/{name}.yaml", overrides=overrides)


SOME = "one", "90", "MNIST CNN", "the others"  # launch every kernel, on large and on small sequences
ALL = "all", "80,90", "MLP", "MNIST CNN", "gesture CNN", "association", "the others"


@pytest.fixture(scope="module", params=[SOME, pytest.param(ALL, marks=pytest.mark.slow)], ids=["some", "all"])
def made(tmp_path_factory, request):
    """Return the kernels there are, and what the compiler made of every launch of these networks' training steps."""
    pytest.importorskip("triton")
    folder = tmp_path_factory.mktemp("compiled")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {"PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(folder)}
    command = [sys.executable, ROOT / "tests/compile_ahead.py", folder, *request.param]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if "libcuda" in result.stderr or "No module named 'triton.backends" in result.stderr:
        pytest.skip("this build of Triton does not compile without a driver")
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout)


def test_every_kernel_compiles(made):
    """Ahead of time: the interpreter that runs them in the other tests compiles nothing."""
    kernels, made = made
    assert len(kernels) >= 11 and {one["kernel"] for one in made} == set(kernels)


def test_kernels_keep_their_values_in_registers(made):
    _, made = made
    assert not [one for one in made if one["spilled"] > 8 or one["registers"] > 168]
    assert not [one for one in made if one["barriers"]]  # threads of a block never wait for each other


def test_large_sequences_move_in_vectors(made):
    large = [one for one in made[1] if one["vector"] > 1]
    assert {one["kernel"] for one in large} >= {"_dual_exp_iir_forward", "_neuron_iir_forward", "_neuron_iir_backward"}
    assert not [one for one in large if one["narrow"] or not one["wide"]]


@pytest.mark.parametrize("script", sorted(path.stem for path in ROOT.glob("*.py")))
def test_every_experiments_task_is_of_the_project(script):
    """So `cuda_graph: auto` takes a graph for it: one of a class in the script does not."""
    classes = [value for value in vars(importlib.import_module(script)).values() if isinstance(value, type)]
    assert not [one for one in classes if one.__module__ == script]


@on_fake_cuda
@pytest.mark.parametrize("optimizer", ["Adam", "AdamW"])
def test_no_optimizer_step_waits_for_the_device(optimizer):
    """On fake tensors of a GPU: they have no values, so that asking for one fails."""
    settings = resolve("snn_mlp_1", f"optimizer.optimizer_choice={optimizer}")
    with FakeTensorMode():
        net = nn.Sequential(nn.Linear(30, 20, device="cuda"), nn.Linear(20, 10, device="cuda"))
        made = make_optimizer(settings, net)
        watch = FiniteWatch(made)
        for _ in range(2):
            for parameter in net.parameters():
                parameter.grad = torch.empty_like(parameter)
            failed = watch.guard(torch.empty((), device="cuda"))
            assert made.found_inf is failed
            made.step()
    assert failed.device.type == "cuda"


@on_fake_cuda
def test_no_batch_of_patterns_waits_for_the_device():
    settings = resolve("associative_memory")
    with FakeTensorMode():
        stored, targets = (torch.empty(10, 300, 300, device="cuda") for _ in range(2))
        split = patterns.PatternSplit(stored, targets, 40, settings["corruption"])
        ((x, y),) = split.batches(40, None)
    assert x.shape == y.shape == (300, 40, 300) and x.device.type == "cuda"


def test_moved_patterns_are_the_same_on_both_devices(monkeypatch):
    """Every spike of the samples that are moved, each by its own number of steps; where two meet, they are one."""
    generator = torch.Generator().manual_seed(0)
    stored = (torch.rand(6, 50, 40, generator=generator) < 0.1).float()
    jittered, moves = torch.tensor([True, False] * 3), torch.randn(6, 50, 40, generator=generator)
    monkeypatch.setattr(torch, "randn", lambda *_, **__: moves)
    on_cuda = patterns._moved_everywhere(stored, jittered, 2, generator)
    monkeypatch.setattr(torch, "randn", lambda *_, **__: moves[stored.bool()])
    assert torch.equal(patterns._moved(stored, jittered, 2, generator), on_cuda)
    assert not torch.equal(on_cuda, stored)


class OwnLayer(nn.Linear):
    pass


class OwnTask(Classification):
    pass


class OwnSurrogate(Gaussian):
    pass


@on_fake_cuda
@pytest.mark.parametrize(
    "settings, task, surrogate, taken",
    [([], OwnTask(), Gaussian(), False), ([], Classification(), OwnSurrogate(), False),
     (["cuda_graph=always"], OwnTask(), OwnSurrogate(), True), ([], Classification(), Gaussian(), True)],
)  # fmt: skip
def test_a_graph_is_for_tasks_and_surrogates_of_this_project(settings, task, surrogate, taken):
    settings, neuron = resolve("snn_mlp_1", *settings), snn.SpikingNeuron(4, surrogate=surrogate)
    with FakeTensorMode():
        net = nn.Sequential(nn.Linear(3, 3, device="cuda"), neuron)
        step = with_graph(len, net, make_optimizer(settings, net), settings, task)
    assert isinstance(step, StepGraph) is taken


@on_fake_cuda
@pytest.mark.parametrize(
    "settings, layer, hooked, taken",
    [
        ([], nn.Linear, False, True), (["cuda_graph=never"], nn.Linear, False, False),
        ([], OwnLayer, False, False), (["cuda_graph=always"], OwnLayer, False, True),
        ([], nn.Linear, True, False), (["states=preserved", "cuda_graph=always"], nn.Linear, False, False),
    ],
)  # fmt: skip
def test_a_graph_is_for_what_computes_the_same_at_every_batch(settings, layer, hooked, taken, capsys):
    settings, task = resolve("snn_mlp_1", *settings), Classification()
    with FakeTensorMode():
        net = nn.Sequential(layer(3, 3, device="cuda"))
        if hooked:
            net[0].register_forward_hook(lambda *_: None)
        optimizer = make_optimizer(settings, net)
        step = with_graph(len, net, optimizer, settings, task)
    assert isinstance(step, StepGraph) is taken and (taken or step is len)
    said = settings["cuda_graph"] != "never" and not taken
    assert capsys.readouterr().err.count("note: no CUDA graph, since") == said
    assert with_graph(len, nn.Linear(3, 3), None, settings, task) is len  # on the CPU


def test_a_graph_that_fails_is_left_out_and_says_so(capsys, monkeypatch):
    """Here it fails at the first thing that needs a GPU, after the optimizer was made ready for it."""
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: None)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)
    monkeypatch.setattr(torch.cuda, "Stream", stream := mock.Mock(side_effect=RuntimeError("no stream")))
    net = nn.Linear(3, 3)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.5)
    graph = StepGraph(lambda x, targets, state, share: x + share, net, optimizer, 4)
    x = torch.rand(5, 4, 3)
    for _ in range(2):
        assert torch.equal(graph(x, x, None, 1), x + 1)
    assert capsys.readouterr().err.count("note: steps run without a CUDA graph, which is slower") == 1
    assert optimizer.param_groups[0]["lr"] == 0.5 and not optimizer.param_groups[0]["capturable"]
    stream.assert_called_once()


def overwriting(step):
    """Return a step whose results the next call on a batch of this size overwrites, as a graph's are."""
    kept = {}

    def run(x, *others):
        results = step(x, *others)
        return tree_map(
            lambda old, new: old.copy_(new) if torch.is_tensor(old) else old, kept.setdefault(x.shape, results), results
        )

    return run


def test_a_training_takes_its_results_before_a_graph_overwrites_them(folder):
    trainers = [make_trainer(folder / name, "hyperparameters.epoch=2") for name in "ab"]
    for step in ("train_step", "evaluate_step"):
        setattr(trainers[1], step, overwriting(getattr(trainers[1], step)))
    for trainer in trainers:
        trainer.fit()
        for row in trainer.history:
            del row["seconds"]
    assert trainers[0].history == trainers[1].history
    assert same(*(dict(trainer.net.state_dict()) for trainer in trainers))


def test_float32_means_float32_in_every_product():
    for precision, allowed in (("tf32", True), ("float32", False)):
        with matrix_products(precision, torch.device("cpu")):
            assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is allowed


def test_the_benchmark_for_gpus_counts_a_run_that_could_not_save(folder, monkeypatch):
    """Statuses of runs that ended by themselves (0, 2), and after SIGTERM: saved (143), failed (2), killed (-15)."""

    def started(command, **_):
        status, by_itself = command
        process = mock.Mock(returncode=status)
        process.poll.return_value, process.wait.return_value = status if by_itself else None, status
        return process

    monkeypatch.setattr(gpu.subprocess, "Popen", started)
    commands = {"a": (0, True), "b": (2, True), "c": (143, False), "d": (2, False), "e": (-15, False)}
    assert gpu.train(commands, folder, minutes=0) == [0, 2, 2, -15]


def test_the_benchmark_for_gpus_says_what_it_would_run(folder, monkeypatch, capsys):
    def planned(*more):
        monkeypatch.setattr(sys, "argv", ["gpu.py", "--train", "--out", "gpu", "--set", "precision=bf16", *more])
        gpu.main()
        return capsys.readouterr().out.splitlines()

    monkeypatch.setattr(gpu, "run", lambda *_: pytest.fail("a command was run"))
    dry = planned("--dry-run")
    for words in (
        "-m pytest",
        "loops.py --device cuda",
        "training_step.py --device cuda",
        "snn_conv_1_mnist.py --train",
    ):
        (line,) = [line for line in dry if words in line]
    assert "--set precision=bf16" in line and "--resume" not in line and len(dry) == 7
    for line in dry:  # every file that it names is there
        assert all(Path(word).exists() for word in line.split() if word.endswith(".py"))
    (folder / "gpu/checkpoint/snn_conv_1_mnist").mkdir(parents=True)
    (folder / "gpu/checkpoint/snn_conv_1_mnist/last.pt").touch()
    assert any("--resume" in line for line in planned("--dry-run"))
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit, match="no GPU here"):
            planned()
