"""What a network computes, counted by hand; and a loss on firing rates."""

import pytest
import torch
from small import make_trainer, resolve
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.flop_counter import FlopCounterMode

import snn
from snn.layers.encoders import Delta, Population
from snn.layers.synapses import Unfiltered
from snn.look import health
from snn.report import read_run, table
from snn.run.finite import FiniteWatch
from snn.run.step import train_step
from snn.tasks.classification import Classification


def column(net, x, key):
    return {row["layer"]: row[key] for row in snn.cost(net, x)}


def counted_net():
    """Return a network whose first neuron spikes at inputs of 1, not twice in a row, and its input: x[0] is 1 there."""
    net = snn.Sequential(
        Unfiltered(3), snn.Linear(3, 2, bias=False), snn.SpikingNeuron(4), snn.Dropout(0.5),
        snn.DualExpIIR(2, 4, 1), snn.Linear(2, 5), snn.SpikingNeuron(4, membrane_filter=True),
    ).eval()  # fmt: skip
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[2.0, 0, 0], [0, 0, 0]]))
        net[5].bias.fill_(-9)
    x = torch.zeros(2, 2, 3)
    x[0, 0, 0] = x[1, 0, 0] = x[1, 1, 0] = 1  # sample 0 at both steps, sample 1 at the second
    return net, x


def test_what_is_counted_by_hand():
    net, x = counted_net()
    assert list(net(x)[0].shape) == [2, 2, 5] and net[:3](x)[0].tolist() == [[[1, 0], [0, 0]], [[0, 0], [1, 0]]]
    assert column(net, x, "spikes") == {
        "0": None, "1": None, "2": 1, "3": None, "4": None, "5": None, "6": 0
    }  # fmt: skip
    assert column(net, x, "rate")["2"] == 2 / (2 * 2 * 2) and column(net, x, "rate")["6"] == 0
    assert list(column(net, x, "parameters").values()) == [3, 6, 0, 0, 6, 15, 0]
    assert list(column(net, x, "multiply_adds").values()) == [None, 6, 2, None, 6, 10, 10]
    assert list(column(net, x, "nonzero").values()) == [3 / 12, 3 / 12, 3 / 8, 2 / 8, 2 / 8, 3 / 8, 1]
    assert column(net, x, "kind") == {
        "0": "synapses 1", "1": "Linear 1", "2": "hidden 1", "3": "Dropout 1", "4": "synapses 2", "5": "Linear 2",
        "6": "output",
    }  # fmt: skip


def test_convolutions_and_pooling():
    net = snn.Sequential(
        snn.DualExpIIR((4, 9, 9), 4, 1), snn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), snn.SpikingNeuron(4),
        snn.FirstOrderLowPass((6, 5, 5), 4), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 3), snn.DualExpFilter(4, 1),
    )  # fmt: skip
    counts = list(column(net, torch.rand(3, 2, 4, 9, 9), "multiply_adds").values())
    assert counts == [3 * 324, 6 * 25 * 2 * 9, 150, 150, None, None, 24 * 3, 9]


def test_encoders():
    x, layers = torch.rand(4, 2, 3), (Population(3, 5, 4), Delta(3, 0.1))
    assert [snn.cost(layer, x)[0]["multiply_adds"] for layer in layers] == [3 * 5 * 2, 3]


class Recurrent(snn.Layer):
    """Spikes come back a step later."""

    output, states = "spikes", ("spikes_before", "neuron")

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([snn.Linear(4, 4), snn.SpikingNeuron(4)])
        self.gain = nn.Parameter(torch.ones(4))

    def forward(self, x, state=None):
        (y, inner), spikes = state or (torch.zeros_like(x[0]), None), []
        for x_t in x:
            s, inner = self.parts[1]((self.gain * x_t + self.parts[0](y))[None], inner)
            spikes.append(y := s[0])
        return torch.stack(spikes), (y, inner)


class Own(nn.Module):
    """A network of one's own, with products that are no modules, a part that never runs, and attention."""

    def __init__(self):
        super().__init__()
        self.weight, self.unused = nn.Parameter(torch.rand(8, 4)), nn.Linear(100, 100)
        self.layers = snn.Sequential(Recurrent(), nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
        self.attention = nn.MultiheadAttention(4, 2)

    def forward(self, x):
        y, state = self.layers(x @ self.weight)
        return self.attention(y, y, y, need_weights=False)[0], state


def test_layers_of_ones_own():
    net, x = Own(), 3 * torch.rand(5, 3, 8)
    rows = {row.pop("layer"): row for row in snn.cost(net, x)}
    assert list(rows) == ["", "layers.0", "layers.0.parts.0", "layers.0.parts.1", "layers.1.0", "layers.1.1",
                          "attention"]  # fmt: skip
    assert [row["multiply_adds"] for row in rows.values()] == [32, None, 16, 4, 16, None, 4 * 16 + 2 * 4 * 5]
    assert [row["parameters"] for row in rows.values()] == [32 + 10_100, 4, 20, 0, 20, 0, 4 * 16 + 16]
    assert sum(row["parameters"] for row in rows.values()) == sum(p.numel() for p in net.parameters())
    spikes = net.layers[0](x @ net.weight)[0].sum().item() / 3
    assert rows["layers.0"]["spikes"] == pytest.approx(spikes) and spikes > 1
    assert (rows["layers.0"]["kind"], rows["layers.0.parts.1"]["spikes"]) == ("hidden 1", None)  # not counted twice


class Declared(nn.Module):
    stateful, multiply_adds = True, 7

    def forward(self, x, state=None):
        return x, ()


def test_what_a_layer_declares_and_torch_computes():
    net = snn.Sequential(Declared(), nn.Conv1d(1, 2, 3, padding=1), parametrizations.weight_norm(nn.Linear(6, 2)))
    rows = snn.cost(net, torch.rand(4, 2, 1, 6))
    assert [row["multiply_adds"] for row in rows] == [42, 2 * 6 * 3, 2 * 6 * 2]
    assert [row["parameters"] for row in rows] == [0, 8, 2 + 12 + 2]
    (row,) = snn.cost(nn.Linear(6, 2), torch.rand(4, 3, 6))
    assert (row["layer"], row["multiply_adds"], row["parameters"]) == ("", 12, 14)


def test_it_prints_a_table_and_leaves_the_network_as_it_was():
    net, x = counted_net()
    before = net(x)[0]
    lines = str(snn.cost(net, x)).splitlines()
    assert lines[0].split() == ["layer", "kind", "parameters", "spikes", "rate", "multiply_adds", "nonzero"]
    assert lines[3].split() == ["2", "hidden", "1", "0", "1.0", "0.2500", "2", "37.5%"]
    assert len({len(line) for line in lines}) == 1 and str(snn.cost(snn.Sequential(), x))
    assert torch.equal(net(x)[0], before) and not any(layer._forward_hooks for layer in net.modules())
    with pytest.raises(ValueError, match="takes floating-point numbers"):
        snn.cost(net, x.int())
    assert not any(layer._forward_hooks for layer in net.modules())


@pytest.mark.parametrize("shape", [(3,), (0, 2, 3), (2, 0, 3)])
def test_an_input_without_steps_or_samples(shape):
    with pytest.raises(ValueError, match=r"cost takes \[T, B, \*features\] with at least one step and sample, got"):
        snn.cost(counted_net()[0], torch.rand(shape))


def test_bfloat16_counts_more_spikes_than_it_has_numbers_for():
    net = snn.Sequential(snn.Linear(3, 500), snn.SpikingNeuron(4), snn.Linear(500, 2), snn.SpikingNeuron(4))
    net[0].bias.data.fill_(99)
    with torch.autocast("cpu", torch.bfloat16):
        rows = snn.cost(net, torch.rand(40, 2, 3))
    assert rows[1]["spikes"] == 20_000 and [row["multiply_adds"] for row in rows] == [1500, 500, 1000, 2]


def test_torchs_counter_sees_our_products():
    layer, x = snn.Linear(6, 4), torch.rand(5, 6)
    with FlopCounterMode(display=False) as counter:
        y = layer(x)
    assert counter.get_total_flops() == 2 * 5 * 6 * 4
    torch.testing.assert_close(y, layer(x))


def deep_net():
    torch.manual_seed(0)
    net = snn.Sequential(
        snn.DualExpIIR(784, 4, 1), snn.Linear(784, 20), snn.SpikingNeuron(4), snn.Dropout(0.3),
        snn.DualExpIIR(20, 4, 1), snn.Linear(20, 15), snn.SpikingNeuron(4),
        snn.FirstOrderLowPass(15, 4), snn.Linear(15, 10), snn.SpikingNeuron(4),
    )  # fmt: skip
    with torch.no_grad():
        for n in (1, 5, 8):
            net[n].weight.mul_(5)
    return net


def gradients(weight, x, labels, share=1, precision="float32"):
    """Return the gradients that a training step with `rate_loss` leaves, and the sums of its losses."""
    net, settings = deep_net(), resolve(f"hyperparameters.rate_loss={weight}", f"precision={precision}")
    net[3].p = 0
    optimizer = torch.optim.SGD(net.parameters(), 1e-9, fused=True)
    watch = FiniteWatch(optimizer)
    sums, _ = train_step(net, optimizer, watch, Classification(), settings, x, labels, share=share)
    return torch.cat([p.grad.flatten() for p in net.parameters()]), sums


BATCH = torch.rand(6, 10, 784, generator=torch.Generator().manual_seed(1)), torch.arange(10)


class TestRateLoss:
    def test_its_gradient_is_that_of_squared_rates(self):
        net, (x, labels) = deep_net(), BATCH
        first, _ = net[:3](x)
        second, _ = net[4:7](first)
        rates = torch.cat([first, second], 2).mean(0)  # [10, 35]
        loss = nn.functional.cross_entropy(net[7:](second)[0].sum(0), labels)
        (loss + 20 * (rates**2).mean()).backward()
        expected = torch.cat([p.grad.flatten() for p in net.parameters()])
        found, sums = gradients(20, *BATCH)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
        assert sums[0].item() == pytest.approx(10 * loss.item(), rel=1e-5)  # what is reported is the task's loss
        assert (found - gradients(0, *BATCH)[0]).norm() > 0.1 * found.norm()

    def test_zero_changes_nothing(self, monkeypatch):
        """Not even the loop that a neuron runs in, which stores no spikes."""
        monkeypatch.setattr(health, "hidden_spikes", lambda net: pytest.fail("a hook"))
        assert gradients(0, *BATCH)[0].any()

    def test_ranks_have_the_gradient_of_one_process(self):
        """Also one without a sample of the batch."""
        (x, labels), whole = BATCH, gradients(20, *BATCH)[0]
        for cut in (4, 10):
            parts = (x[:, :cut], labels[:cut]), (x[:, cut:], labels[cut:])
            shared = [gradients(20, *part, share=2 * len(part[1]) / 10)[0] for part in parts]
            torch.testing.assert_close(sum(shared) / 2, whole, rtol=1e-3, atol=1e-6)

    def test_bfloat16(self):
        found, expected = (gradients(20, *BATCH, precision=name)[0] for name in ("bf16", "float32"))
        assert nn.functional.cosine_similarity(found, expected, dim=0) > 0.9

    def test_fewer_spikes_and_the_losses_of_the_task(self, folder):
        """Metrics hold the rate on dev, and the report shows it where runs have it."""
        rates, losses = [], []
        for weight in (0, 100):
            words = f"hyperparameters.rate_loss={weight}", "hyperparameters.epoch=3", f"experiment_name=of_{weight}"
            trainer = make_trainer(folder, *words, "optimizer.Adam.lr=3e-3", net=deep_net())
            trainer.fit()
            rates.append(trainer.history[-1]["hidden_rate"])
            losses.append(trainer.history[-1]["train_loss"])
        assert rates[1] < 0.7 * rates[0] and all(0 < loss < 10 for loss in losses)
        runs = [read_run(path.parent) for path in sorted(folder.glob("runs/*/*/metrics.csv"))]
        header, _, *lines = table(runs).splitlines()
        assert header.endswith("| Hidden rate |") and lines[1].endswith(f"| {runs[1].best['hidden_rate']:.5f} |")
        (older := runs[0].best).pop("hidden_rate")
        header, _, *lines = table(runs).splitlines()
        assert older is runs[0].best and lines[0].endswith("|  |") and header.endswith("| Hidden rate |")
        assert "Hidden rate" not in table(runs[:1])

    def test_the_rate_is_that_of_the_hidden_neurons(self, folder):
        trainer = make_trainer(folder, "optimizer.Adam.lr=1e-12", "hyperparameters.dropout=0", net=deep_net())
        trainer.fit()
        generator, counts = torch.Generator().manual_seed(trainer.config["pytorch_seed"]), []
        list(trainer.splits["train"].batches(8, generator, True))
        for x, _ in trainer.splits["dev"].batches(8, generator):
            counts += [row["spikes"] * 8 for row in snn.cost(trainer.net.eval(), x) if row["kind"].startswith("hidden")]
        steps = 40 * trainer.config["hyperparameters"]["length"]
        assert trainer.history[0]["hidden_rate"] == pytest.approx(sum(counts) / 35 / steps, rel=0.01)

    def test_it_resumes_bit_for_bit(self, folder):
        words = "hyperparameters.rate_loss=3", "hyperparameters.epoch=2"
        whole = make_trainer(folder / "whole", *words, net=deep_net())
        whole.fit()
        first = make_trainer(folder, *words, "hyperparameters.epoch=1", net=deep_net())
        first.fit()
        saved = torch.load(first.folder / "last.pt", weights_only=True)
        again = make_trainer(folder, *words, net=deep_net(), resume_from=saved)
        again.fit()
        for name, value in whole.net.state_dict().items():
            assert torch.equal(value, again.net.state_dict()[name]), name

    def test_a_network_without_hidden_neurons(self, folder):
        net = snn.Sequential(snn.FirstOrderLowPass(784, 4), nn.Linear(784, 10), snn.SpikingNeuron(4))
        with pytest.raises(snn.UserError, match="rate_loss: the network has no hidden neurons; set it to 0"):
            make_trainer(folder, "hyperparameters.rate_loss=1", net=net)
        make_trainer(folder, net=net).fit()


def test_rates_are_by_the_steps_of_the_data(folder):
    rates = []
    for length in (None, 5):  # the config says 25
        trainer = make_trainer(folder, "optimizer.Adam.lr=1e-12")
        trainer.splits["dev"].length = length
        trainer.fit()
        rates.append(trainer.history[0]["hidden_rate"])
    assert rates[1] == pytest.approx(5 * rates[0]) and rates[0] > 0
