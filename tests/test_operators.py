"""Networks under torch.compile, torch.export and torch.func, and inputs that no network accepts."""

import copy
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from test_kernels import make_network
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import snn


@pytest.fixture
def net():
    return make_network()


def make_input(*leading):
    generator = torch.Generator().manual_seed(1)
    return 3 * torch.rand(*leading, 5, 3, 2, 8, 8, generator=generator)


def gradients(net, y):
    return torch.autograd.grad(y.square().sum(), list(net.parameters()))


def test_compile_keeps_one_graph_values_and_gradients(net):
    x = make_input()
    y, state = net(x)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    again, end = compiled(x)
    torch.testing.assert_close(again, y)
    assert y.sum() > 0
    for mine, expected in zip(gradients(net, again), gradients(net, y)):
        torch.testing.assert_close(mine, expected)
    torch.testing.assert_close(compiled(x, end)[0], net(x, state)[0])


def test_compiled_inference(net):
    x = make_input()
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(net.eval(), backend="eager", fullgraph=True)(x)[0], net(x)[0])


def test_compile_dense_layers():
    net, x = snn.Sequential(snn.DualExpIIR(6, 4, 1), snn.Linear(6, 20), snn.SpikingNeuron(4)), 9 * torch.rand(5, 3, 6)
    y, _ = torch.compile(net, backend="eager", fullgraph=True)(x)
    assert y.any() and torch.equal(y, net(x)[0])


def test_a_compiled_loop_over_steps_runs_again():
    """In a thread of its own, where no layer has run yet."""
    net, x = snn.Recurrent(snn.SpikingNeuron(4), snn.DualExpIIR(6, 4, 1)), 3 * torch.rand(4, 2, 6)
    compiled = torch.compile(net, backend="eager")
    with ThreadPoolExecutor(1) as thread:
        first, again = (thread.submit(compiled, x).result()[0] for _ in range(2))
    assert first.any() and torch.equal(first, again) and torch.equal(first, net(x)[0])


def test_under_autocast_tracing_and_running_agree(net):
    """Operators give the types that tracing was told, whatever autocast says when they run."""
    x = make_input()
    with torch.autocast("cpu", torch.bfloat16):
        (y, _), (expected, _) = torch.compile(net, backend="eager")(x), net(x)
    assert y.dtype == expected.dtype == torch.float32
    assert (y != expected).float().mean() < 0.05  # a potential at the threshold may fall either way


def test_export(net):
    x = make_input()
    with torch.no_grad():
        program = torch.export.export(net.eval(), (x,)).module()
        torch.testing.assert_close(program(x)[0], net(x)[0])
        torch.testing.assert_close(program(x + 1)[0], net(x + 1)[0])


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
def test_a_saved_trace_computes_and_learns_as_the_network_does(net, folder):
    x, other = make_input(), make_input()[:3, :2] + 0.5
    torch.jit.trace(net, x).save("net.pt")
    loaded = torch.jit.load("net.pt")
    (y, state), (expected, end) = loaded(other), net(other)
    assert torch.equal(y, expected) and expected.sum() > 0
    assert torch.equal(state[0][0], end[0][0]) and (state[1], end[1]) == ((), None)
    for mine, wanted in zip(gradients(loaded, y), gradients(net, expected)):
        torch.testing.assert_close(mine, wanted)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
def test_tensorboard_draws_the_graph(net, folder):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter("board") as writer:
        writer.add_graph(net, make_input())
    (events,) = folder.glob("board/*")
    assert b"snn::spiking_neuron" in events.read_bytes()


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
def test_graphs_and_fake_tensors_hold_the_operator():
    layer, x = snn.SpikingNeuron(4), 3 * torch.rand(4, 2, 3)
    graph = make_fx(lambda x: layer(x)[0])(x)
    assert "torch.ops.snn.spiking_neuron" in graph.code and torch.equal(graph(2 * x), layer(2 * x)[0])
    fakes = FakeTensorMode()
    with fakes:
        fake = fakes.from_tensor(x)
        assert layer(fake)[0].shape == (4, 2, 3)
    with pytest.raises(ValueError, match=re.escape("a tensor of [4, 2, 3] has no memory")):
        layer(fake)


def test_vmap_and_gradients_of_each_sample(net):
    many = make_input(4)
    torch.testing.assert_close(torch.vmap(lambda x: net(x)[0])(many), torch.stack([net(x)[0] for x in many]))
    found = torch.vmap(torch.func.grad(lambda x: net(x)[0].square().sum()))(many)
    for x, mine in zip(many, found):
        x = x.clone().requires_grad_()
        torch.testing.assert_close(mine, torch.autograd.grad(net(x)[0].square().sum(), x)[0])
    assert found.abs().max() > 0


LAYERS = [snn.DualExpIIR(3, 4, 1), snn.FirstOrderLowPass(3, 4), snn.SpikingNeuron(4), snn.DualExpFilter(4, 1)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_gradients_through_states(layer, dtype):
    """Also of states that broadcast; float64 runs in the reference."""
    layer, x = copy.deepcopy(layer).to(dtype), 3 * torch.rand(4, 2, 3, dtype=dtype)
    count = 1 if isinstance(layer, snn.FirstOrderLowPass) else 2

    def loss(states):
        return layer(x, states[0] if count == 1 else tuple(states))[0].square().sum()

    for shape in (2, 3), (3,):
        states = torch.rand(count, *shape, dtype=dtype, requires_grad=True)
        (expected,) = torch.autograd.grad(loss(states), states)
        assert expected.abs().sum() > 0
        torch.testing.assert_close(torch.func.grad(loss)(states.detach()), expected)


@pytest.mark.parametrize("layer", [*LAYERS, snn.Sequential(*LAYERS)], ids=lambda layer: type(layer).__name__)
class TestInputs:
    def test_no_steps(self, layer):
        with pytest.raises(ValueError, match=r"with at least one step, got \[0, 2, 3\]"):
            layer(torch.rand(0, 2, 3))

    def test_integers(self, layer):
        with pytest.raises(ValueError, match=r"takes floating-point numbers, got torch.int64: pass x.float\(\)"):
            layer(torch.ones(2, 2, 3, dtype=torch.int64))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_computed_in_float32(self, layer, dtype):
        x = torch.rand(4, 2, 3).to(dtype)
        assert torch.equal(layer(x)[0], layer(x.float())[0])


def test_half_and_double_coefficients_are_read_as_numbers():
    x = torch.rand(4, 2, 3)
    for dtype, tolerance in ((torch.float16, 2e-2), (torch.float64, 1e-5)):
        layer = snn.DualExpIIR(3, 4, 1)
        expected = layer(x)[0]
        for coefficient in layer.parameters():
            coefficient.data = coefficient.data.to(dtype)
        torch.testing.assert_close(layer(x)[0].float(), expected, rtol=tolerance, atol=tolerance)


def test_a_surrogate_of_a_function_is_refused_where_operators_look_it_up():
    class Local(snn.surrogates.Gaussian):
        pass

    layer = snn.SpikingNeuron(4, surrogate=Local())
    assert layer(torch.ones(2, 1, 3))[0].shape == (2, 1, 3)
    with pytest.raises(ValueError, match="define the surrogate class in a module, outside functions"):
        torch.func.grad(lambda x: layer(x)[0].sum())(torch.ones(2, 1, 3))
