"""What only a GPU can show: kernels at sizes that matter there, and steps as a CUDA graph. Skipped without one."""

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

import snn
from benchmarks.networks import CASES
from snn import kernels
from snn.kernels import reference
from snn.kernels.products import matrix_products
from snn.run.graph import StepGraph
from snn.run.trainer import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@torch.no_grad()
def vector_of(net):
    return parameters_to_vector(net.parameters()).clone()


def weights_of(folder, experiment):
    model = torch.load(folder / f"checkpoint/{experiment}/last.pt", weights_only=True)["model"]
    return torch.cat([value.double().flatten() for value in model.values()])


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
@pytest.mark.parametrize("name", CASES)
def test_a_graph_takes_the_step_that_runs_without_one(name, precision):
    """With the same dropout; products may round in another order, and a potential at the threshold to either side."""
    case, moved = CASES[name], []
    x = case.input().cuda()
    for graph in (False, True):
        torch.manual_seed(0)
        net, loss = case.make().cuda(), case.loss("cuda")
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0, fused=True)

        def step(x, *_, net=net, loss=loss, optimizer=optimizer):
            optimizer.zero_grad()
            with matrix_products(precision, x.device):
                y, _ = net(x)
            loss(y).backward()
            optimizer.step()

        taken = StepGraph(step, net, optimizer, case.batch) if graph else step
        before = [value.detach().clone() for value in net.parameters()]
        for _ in range(2 if graph else 1):  # the first replay, after recording, is a step too
            torch.manual_seed(1)
            with torch.no_grad():
                for value, old in zip(net.parameters(), before):
                    value.copy_(old)
            taken(x, x[0])
        assert not graph or taken.graph
        moved.append([(old - new.detach()).flatten() for old, new in zip(before, net.parameters())])
    expected, got = map(torch.cat, moved)
    differ = (expected - got).abs() > 0.02 * expected.abs().max()
    assert expected.abs().max() > 0 and differ.double().mean() < 1e-3
    for expected, got in zip(*moved):  # each by its own scale: coefficients move a hundred times as far as weights
        differ = (expected - got).abs() > 0.02 * expected.abs().max()
        assert differ.sum() <= 1 + 1e-3 * differ.numel()


@pytest.mark.parametrize("experiment", ["snn_mlp_1", "snn_conv_1_mnist_poisson_input"])
def test_a_graph_resumes_bit_for_bit(run, experiment, monkeypatch):
    data = ["--train", "--set", "checkpoint_every=1"]
    run(experiment, *data, "--set", "experiment_name=whole", settings={"device": "cuda"})
    assert run.status == 0 and "without a CUDA graph" not in run.err
    train, batches = Trainer._train, []

    def interrupted(self, batch):
        batches.append(batch.number)
        if len(batches) == 4:
            raise KeyboardInterrupt
        return train(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train", interrupted)
        run(experiment, *data, "--set", "experiment_name=parts", settings={"device": "cuda"})
    assert run.status
    run(experiment, *data, "--set", "experiment_name=parts", "--resume", settings={"device": "cuda"})
    assert run.status == 0 and "without a CUDA graph" not in run.err
    assert torch.equal(weights_of(run.folder, "whole"), weights_of(run.folder, "parts"))


def test_recording_changes_nothing():
    torch.manual_seed(0)
    net = snn.Sequential(snn.DualExpIIR(20, 4, 1), snn.Linear(20, 20), snn.SpikingNeuron(4), snn.Dropout(0.3)).cuda()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1, fused=True)

    def step(x, targets, state=None, share=1):
        optimizer.zero_grad()
        loss = (net(x)[0].sum(0) - targets).square().mean()
        loss.backward()
        optimizer.step()
        return (loss.detach(),)

    graph, x = StepGraph(step, net, optimizer, 4), torch.rand(5, 4, 20, device="cuda")
    targets, random = torch.rand(4, 20, device="cuda"), torch.cuda.get_rng_state()
    before = vector_of(net)
    kind = len(x), x.shape, x.dtype, targets.shape, targets.dtype
    assert graph._record(kind, x, x, targets)
    assert torch.equal(before, vector_of(net))
    assert torch.equal(random, torch.cuda.get_rng_state())
    assert all(not value.any() for state in optimizer.state.values() for value in state.values())
    assert all(not group["capturable"] and group["lr"] == 0.1 for group in optimizer.param_groups)
    losses = [graph(x, targets)[0].item() for _ in range(4)]
    assert len(set(losses)) == 4  # each replay takes a step, with a dropout of its own
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    kept = vector_of(net)
    graph(x, targets)
    assert torch.equal(kept, vector_of(net))  # the learning rate is read at each step


def test_a_step_that_waits_for_the_device_runs_without_a_graph(capfd):
    net = torch.nn.Linear(3, 3).cuda()
    optimizer = torch.optim.Adam(net.parameters(), fused=True)

    def step(x, targets, state=None, share=1):
        optimizer.zero_grad()
        net(x).sum().backward()
        optimizer.step()
        return (torch.tensor(net.weight.sum().item()),)

    graph, x = StepGraph(step, net, optimizer, 4), torch.rand(5, 4, 3, device="cuda")
    first, second = (graph(x, x)[0] for _ in range(2))
    assert first != second
    assert capfd.readouterr().err.count("without a CUDA graph") == 1


@pytest.mark.parametrize("shape", [(3, 70_000, 4), (25, 64, 32 * 28 * 28), (2, 3, 2**18 + 4), (7, 2, 2**19 + 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_sequences(shape, dtype):
    """More samples than a grid has rows, several samples a program, vectors and none."""
    torch.manual_seed(0)
    x = torch.rand(shape, device="cuda").to(dtype)
    coefficients = torch.rand(3, shape[2], device="cuda") * 0.3
    results = []
    for of in (kernels.eager_kernels_for(x), reference):
        leaves = [tensor.clone().requires_grad_() for tensor in (x, *coefficients)]
        inputs = leaves[0].float() if of is reference else leaves[0]
        psp, last, before = of.dual_exp_iir(inputs, None, None, *leaves[1:])
        spikes, v, r = of.spiking_neuron(3 * psp, last, None, 0.7, True, 1.0, snn.surrogates.Gaussian())
        torch.autograd.backward([spikes.sum(0).square().mean(), v.mean(), before.sum()])
        results.append([psp, spikes, v, r, *(leaf.grad.float() for leaf in leaves)])
    for mine, expected in zip(*results):
        allowed = (2e-2 if dtype == torch.bfloat16 else 1e-3) * expected.abs().max()
        differ = (mine - expected).abs() > allowed
        assert differ.double().mean() < 1e-4  # a potential at the threshold may round to either side


def test_more_than_2_to_the_31_values_in_a_sequence():
    x = torch.zeros(3, 90_000, 12_000, dtype=torch.bfloat16, device="cuda")
    x[:, -1, -1] = 1
    one = torch.ones(12_000, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        psp, *_ = kernels.eager_kernels_for(x).dual_exp_iir(x, None, None, one, 0 * one, one)
    assert psp[:, -1, -1].tolist() == [1, 2, 3] and psp[:, 0].abs().max() == 0


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_the_second_device():
    x = torch.rand(5, 4, 30, device="cuda:1")
    one = torch.full((30,), 0.3, device="cuda:1")
    values = [of.dual_exp_iir(x, None, None, one, one, one)[0] for of in (kernels.eager_kernels_for(x), reference)]
    assert torch.allclose(*values)


def test_dropout_masks_are_random_and_repeat_with_the_seed():
    x, drawn = torch.ones(300, 1001, device="cuda"), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(kernels.eager_kernels_for(x).dropout(x, 0.3))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    kept = (drawn[0] > 0).double().mean().item()
    assert kept == pytest.approx(0.7, abs=5 * np.sqrt(0.3 * 0.7 / x.numel()))
