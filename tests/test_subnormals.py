"""Numbers below the smallest normal one, which some processors compute with a hundred times slower, are taken as 0."""

import threading

import pytest
import torch
from torch import nn

import snn
from snn.base import process

TINY = torch.finfo(torch.float32).tiny
LAYERS = {
    "dual_exp": lambda: snn.DualExpIIR(40, 4, 1),
    "first_order": lambda: snn.FirstOrderLowPass(40, 4),
    "neuron": lambda: snn.SpikingNeuron(4, membrane_filter=True),
    "output filter": lambda: snn.DualExpFilter(4, 1),
    "dropout": lambda: snn.Sequential(snn.Dropout(0.5)),
    "in one loop": lambda: snn.Sequential(snn.SpikingNeuron(4), snn.Dropout(0.3), snn.DualExpIIR(40, 4, 1)),
}


def subnormal(tensor):
    return int(((tensor != 0) & (tensor.abs() < TINY)).sum())


@pytest.fixture
def in_thread():
    """Call a function in a thread of its own, in which nothing flushes yet and torch has started two workers."""
    threads = torch.get_num_threads()

    def call(function):
        results = []

        def work():
            torch.set_flush_denormal(False)
            torch.set_num_threads(2)
            torch.ones(1 << 20).mul_(2)
            results.append(function())

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return results[0]

    yield call
    torch.set_num_threads(threads)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_a_loop_leaves_none(name, autocast, in_thread):
    """A line that was active falls silent, and a gradient arrives at the last steps alone."""

    def run():
        layer = LAYERS[name]()
        x = torch.zeros(1000, 16, 40, dtype=torch.bfloat16 if autocast else torch.float32)
        x[:20], x[20:40] = 2, 1e-39
        x.requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            y, state = layer(x)
        y[-1].float().sum().mul(1e-3).backward()
        states = [s for s in (state if isinstance(state, tuple) else (state,)) if torch.is_tensor(s)]
        found = {"output": y, "input's gradient": x.grad, **{str(n): s for n, s in enumerate(states)}}
        found |= {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}
        return {what: subnormal(tensor.detach()) for what, tensor in found.items()}

    left = in_thread(run)
    assert not any(left.values()), left


def test_a_loop_leaves_the_thread_as_it_was(in_thread):
    def run():
        snn.DualExpIIR(400, 4, 1)(torch.rand(25, 16, 400))
        return subnormal(torch.full((1 << 20,), 1e-38).mul_(0.5))

    assert in_thread(run) == 1 << 20


def test_a_run_takes_them_as_0_also_on_workers_that_started_before(in_thread):
    def run():
        process.tune()
        return subnormal(torch.full((1 << 20,), 1e-38).mul_(0.5))

    assert in_thread(run) == 0


def test_a_training_step_of_a_run_leaves_none(in_thread):
    """Products of what the loops leave may fall below the limit too."""

    def run():
        process.tune()
        net = snn.Sequential(
            snn.DualExpIIR(4, 4, 1), snn.Linear(4, 64), snn.SpikingNeuron(4),
            snn.DualExpIIR(64, 4, 1), snn.Linear(64, 5), snn.SpikingNeuron(4),
        )  # fmt: skip
        x = torch.zeros(1000, 16, 4)
        x[:20] = 2
        net(x)[0][-1].sum().mul(1e-3).backward()
        return {name: subnormal(parameter.grad) for name, parameter in net.named_parameters()}

    assert not any(in_thread(run).values())


def test_the_moments_of_an_unused_line_become_0(in_thread):
    def run():
        process.tune()
        net = nn.Linear(40, 10)
        optimizer = torch.optim.Adam(net.parameters(), fused=True)
        for step in range(1000):
            optimizer.zero_grad()
            net(torch.full((1, 40), 1e-2 if step == 0 else 0.0)).sum().backward()
            optimizer.step()
        return {name: subnormal(value) for name, value in optimizer.state[net.weight].items()}

    assert not any(in_thread(run).values())
