"""Modules of torch.nn and of users in a `snn.Sequential`: they compute what they say, or one line says what to do."""

import pytest
import torch
from torch import nn

import snn
from snn.run.cli import main


def network(*modules):
    return snn.Sequential(snn.DualExpIIR(4, 4, 1), *modules, nn.Linear(4, 4), snn.SpikingNeuron(4, threshold=0.2))


def sequence(*features):
    return 3 * torch.rand(6, 2, *features, generator=torch.Generator().manual_seed(1))


def stepped(net, x):
    state, outputs = None, []
    for x_t in x:
        y, state = net.step(x_t, state)
        outputs.append(y)
    return torch.stack(outputs)


def test_volumes():
    """Weights of five dimensions, and coefficients of four."""
    torch.manual_seed(0)
    net = snn.Sequential(
        snn.DualExpIIR((1, 5, 5, 5), 4, 1), nn.Conv3d(1, 2, 3), snn.SpikingNeuron(4, threshold=0.1),
        snn.DualExpIIR((2, 3, 3, 3), 4, 1), nn.MaxPool3d(3), nn.Flatten(), nn.Linear(2, 3),
    )  # fmt: skip
    x = sequence(1, 5, 5, 5)
    y, _ = net(x)
    assert y.shape == (6, 2, 3) and not torch.equal(y[0], y[-1])
    torch.testing.assert_close(stepped(net, x), y)
    torch.testing.assert_close(net.double()(x.double())[0].float(), y)


def test_only_convolutions_of_images_change_their_memory_format():
    net = snn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv3d(2, 3, 3), nn.Conv1d(2, 3, 3), nn.LazyConv2d(2, 3))
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert net[1].weight.is_contiguous() and net[2].weight.is_contiguous()


def test_lazy_modules_get_their_sizes_from_the_first_input():
    net = snn.Sequential(
        snn.Sequential(nn.LazyConv2d(3, 3), snn.SpikingNeuron(4)), nn.Flatten(), nn.LazyLinear(5), nn.LazyBatchNorm1d(),
    )  # fmt: skip
    net(sequence(2, 6, 6))[0].sum().backward()
    assert net[0][0].weight.grad.shape == (3, 2, 3, 3) and net[2].in_features == 48
    assert snn.Sequential(nn.LazyLinear(3)).input_shape is None


def test_a_script_with_lazy_modules_is_one_line(folder, capsys):
    with pytest.raises(SystemExit, match="2"):
        main("snn_mlp_1", lambda _: snn.Sequential(nn.LazyLinear(10), snn.SpikingNeuron(4)), argv=["--demo"])
    assert "error: the network has lazy modules, whose sizes are not known yet" in capsys.readouterr().err


def test_a_network_that_a_config_does_not_fit_is_one_line(folder, capsys):
    with pytest.raises(SystemExit, match="2"):
        main("snn_mlp_1", lambda _: snn.DualExpIIR(784, 1, 4), argv=["--demo"])
    assert "error: the network of this config can't be made: DualExpIIR needs tau_m > tau_s" in capsys.readouterr().err


@pytest.mark.parametrize("device, dtype", [("meta", torch.float32), ("cpu", torch.float16)])
def test_layers_of_any_device_and_precision_can_be_put_in(device, dtype):
    convolution = nn.Conv2d(2, 3, 3, device=device, dtype=dtype)
    weight = snn.Sequential(convolution)[0].weight
    assert weight.device.type == device and weight.dtype == dtype


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 1)

    def forward(self, x):
        return self.attention(x, x, x)[0]


class Pair(nn.Linear):
    def forward(self, x):
        return super().forward(x), x


@pytest.mark.parametrize(
    "module, message",
    [
        (nn.GRU(4, 4), "layer 1 .GRU. gets all steps of all samples as rows of one batch, in which GRU can't"),
        (nn.LSTM(4, 4), "in which LSTM can't tell them apart: take snn.Sequential, or a class of yours with stateful"),
        (nn.GRUCell(4, 4), "in which GRUCell can't"),
        (nn.MultiheadAttention(4, 1), "in which MultiheadAttention can't"),
        (nn.TransformerEncoderLayer(4, 1), "layer 1 .TransformerEncoderLayer. .* MultiheadAttention can't"),
        (Attention(), "layer 1 .Attention. .* MultiheadAttention can't"),
        (nn.Sequential(nn.Linear(4, 4), snn.SpikingNeuron(4)), "layer 1 .Sequential. .* SpikingNeuron can't"),
        (nn.Sequential(snn.SpikingNeuron(4), nn.Linear(4, 4)), "layer 1 .Sequential. .* SpikingNeuron can't"),
        (Pair(4, 4), "layer 1 .Pair. returns tuple, not a tensor: take"),
    ],
)
def test_modules_that_would_mix_steps_or_return_something_else(module, message):
    with pytest.raises(TypeError, match=message):
        network(module)(sequence(4))


def test_attention_within_a_step_is_no_mixing():
    class OfTokens(nn.TransformerEncoderLayer):
        def __init__(self):
            super().__init__(4, 1, 8, dropout=0, batch_first=True)

    net, x = snn.Sequential(snn.DualExpIIR((3, 4), 4, 1), OfTokens()), sequence(3, 4)
    torch.testing.assert_close(stepped(net, x), net(x)[0])


@pytest.mark.parametrize("module", [nn.TransformerEncoderLayer(4, 1, 8), nn.Sequential(nn.GRU(4, 4))])
def test_modules_that_take_rows_as_time_also_where_a_step_has_two_dimensions(module):
    net = snn.Sequential(snn.DualExpIIR((3, 4), 4, 1), module)
    with pytest.raises(TypeError, match="can't tell them apart"):
        net(sequence(3, 4))


class GRU(nn.GRU):
    stateful = True


@pytest.mark.parametrize("module", [GRU(4, 4), snn.Sequential(nn.Linear(4, 4), GRU(4, 4)), snn.SpikingNeuron(4)])
def test_layers_over_time_go_on_step_by_step(module):
    net, x = network(module), sequence(4)
    torch.testing.assert_close(stepped(net, x), net(x)[0])


class OverTime(Attention):
    stateful = True

    def forward(self, x, state=None):
        return super().forward(x), None


@pytest.mark.parametrize("module", [OverTime(), snn.Sequential(nn.Linear(4, 4), OverTime())])
def test_a_layer_that_needs_the_whole_sequence_refuses_steps(module):
    net, x = network(module), sequence(4)
    assert net(x)[0].shape == x.shape
    with pytest.raises(ValueError, match="layer 1 .OverTime. returns no state to go on from, so it needs the whole"):
        net.step(x[0])


@pytest.mark.parametrize("change", [nn.Module.half, nn.Module.bfloat16, lambda net: net.to(torch.float16)])
def test_half_precision_is_refused_and_harms_nothing(change):
    net, x = network(snn.SpikingNeuron(4)), sequence(4)
    y, _ = net(x)
    for whole in (net, nn.ModuleDict({"inside": net})):
        with pytest.raises(TypeError, match="need float32 or float64: keep it so, and run it under torch.autocast"):
            change(whole)
    assert torch.equal(net(x)[0], y)
    assert net.double()(x.double())[0].dtype == torch.float64
