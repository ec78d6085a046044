"""Unstable filters, silent layers, and losses that are not finite."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import snn
from snn import checkpoint, config
from snn.base.errors import UserError
from snn.data.encoders import poisson
from snn.data.images import ImageSplit
from snn.layers.synapses import unstable_filters
from snn.look import health
from snn.run import training
from snn.tasks.classification import Classification

CONFIG = Path(__file__).parents[1] / "configs" / "snn_mlp_1.yaml"


def random_filters():
    """Return 400 filters of each kind, about half of them unstable."""
    generator = torch.Generator().manual_seed(0)
    second, first = snn.DualExpIIR(400, 4, 1), snn.FirstOrderLowPass(400, 4)
    with torch.no_grad():
        second.a1.uniform_(-2.5, 2.5, generator=generator)
        second.a2.uniform_(-1.3, 1.3, generator=generator)
        first.a1.uniform_(-2, 2, generator=generator)
    return second, first


def largest_poles(layer):
    """Return the distance of the outer pole from the origin, by NumPy's roots of z^2 - a1 z - a2."""
    a1 = layer.a1.detach().double().numpy()
    a2 = layer.a2.detach().double().numpy() if hasattr(layer, "a2") else np.zeros_like(a1)
    return np.array([abs(np.roots([1, -p, -q])).max(initial=0) for p, q in zip(a1, a2)])


def test_unstable_filters_are_those_with_a_pole_outside_the_unit_circle():
    second, first = random_filters()
    expected = [(largest_poles(layer) >= 1).sum() for layer in (second, first)]
    assert 100 < expected[0] < 300 and 100 < expected[1] < 300
    assert [unstable_filters(nn.Sequential(layer)) for layer in (second, first)] == expected
    assert unstable_filters(snn.Sequential(second, nn.Linear(400, 400), first)) == sum(expected)


def test_stabilize_moves_only_what_is_unstable():
    for layer in random_filters():
        stable = torch.from_numpy(largest_poles(layer) < 0.99)
        before = {name: value.clone() for name, value in layer.named_parameters()}
        layer.stabilize()
        assert largest_poles(layer).max() < 1
        assert unstable_filters(layer) == 0
        moved = sum(value != before[name] for name, value in layer.named_parameters()) > 0
        assert moved.any() and not (moved & stable).any()


def test_stabilize_leaves_filters_as_slow_as_they_start():
    for layer in (snn.DualExpIIR(3, 100, 50), snn.DualExpIIR(3, 1000, 500), snn.FirstOrderLowPass(3, 2000)):
        before = [value.clone() for value in layer.parameters()]
        assert not layer.unstable()
        layer.stabilize()
        assert all(torch.equal(*pair) for pair in zip(before, layer.parameters()))
        with torch.no_grad():
            layer.a1 += 0.1
        layer.stabilize()
        assert not layer.unstable() and largest_poles(layer).max() < 1


def make_trainer(folder, *overrides, net=None, resume_from=None):
    """Return a Trainer on 40 noise images in batches of 8."""
    words = ("hyperparameters.batch_size=8", "hyperparameters.epoch=1", f"checkpoint_base_path={folder / 'checkpoint'}")
    settings = config.resolve(CONFIG, overrides=words + overrides)
    torch.manual_seed(0)
    if net is None:
        net = snn.Sequential(
            snn.DualExpIIR(784, 4, 1), nn.Linear(784, 20), snn.SpikingNeuron(4),
            snn.FirstOrderLowPass(20, 4), nn.Linear(20, 10), snn.SpikingNeuron(4),
        )  # fmt: skip
        with torch.no_grad():
            net[1].weight.mul_(5)  # so that it spikes
            net[4].weight.mul_(5)
    images = torch.randint(256, (40, 28, 28), dtype=torch.uint8)
    split = ImageSplit(images, torch.randint(10, (40,)), lambda batch, noise: poisson(batch, 5, 1, noise), (784,))
    if resume_from:
        checkpoint.load_model(net, resume_from, "last.pt")
    return training.Trainer(net, {"train": split, "dev": split}, settings, Classification(), resume_from)


def test_the_summary_counts_unstable_filters_and_names_silent_layers(folder, capsys):
    trainer = make_trainer(folder, "optimizer.Adam.lr=1e-12")
    with torch.no_grad():
        trainer.net[3].a1[:3] = 1.5
        trainer.net[4].bias.fill_(-1e6)
    trainer.fit()
    line = capsys.readouterr().out.splitlines()[0]
    assert "3 unstable filters" in line and "no spike in layer 5," in line
    assert trainer.history[0]["unstable_filters"] == 3 and trainer.history[0]["silent_layers"] == 1


def test_stable_filters_is_a_choice(folder):
    for choice, unstable in (("false", 3), ("true", 0)):
        trainer = make_trainer(folder, f"hyperparameters.stable_filters={choice}", "optimizer.Adam.lr=1e-12")
        with torch.no_grad():
            trainer.net[3].a1[:3] = 1.5
        trainer.fit()
        assert trainer.history[0]["unstable_filters"] == unstable


class Poison(nn.Module):
    """Passes its input on; from a given call on, its output, or the gradient of its input, is infinite."""

    def __init__(self, call, backward=False):
        super().__init__()
        self.calls, self.call, self.backward = 0, call, backward

    def forward(self, x):
        self.calls += self.training
        if self.calls <= self.call:
            return x
        if self.backward:
            x.register_hook(lambda gradient: gradient * torch.inf)
            return x
        return x * torch.inf


@pytest.mark.parametrize("choice", ["Adam", "AdamW", "SGD"])
@pytest.mark.parametrize(
    "backward, where", [(False, "the output of layer 2 (Poison)"), (True, "the gradient of layer 1")]
)
def test_a_loss_that_is_not_finite_stops_the_training_before_its_step(folder, choice, backward, where):
    net = snn.Sequential(snn.FirstOrderLowPass(784, 4), nn.Linear(784, 10), Poison(3, backward))
    trainer = make_trainer(folder, f"optimizer.optimizer_choice={choice}", "checkpoint_every=2", net=net)
    steps = []
    train = trainer._train

    def noting(batch):
        steps.append({name: value.clone() for name, value in net.state_dict().items()})
        return train(batch)

    trainer._train = noting
    with pytest.raises(UserError) as error:
        trainer.fit()
    assert f"epoch 0, batch 3: the loss or its gradient is not finite; it began in {where}" in str(error.value)
    assert f"lower optimizer.{choice}.lr" in str(error.value)
    for name, value in net.state_dict().items():
        assert torch.equal(value, steps[3][name]), name  # unchanged by the batch
    kept = torch.load(trainer.folder / "last.pt", weights_only=True)
    assert kept["running"]["counts"]["train"]["batches"] == 2
    assert torch.equal(kept["model"]["1.weight"], steps[2]["1.weight"])


def test_with_a_cyclic_learning_rate_its_own_key_is_named(folder):
    net = snn.Sequential(snn.FirstOrderLowPass(784, 4), nn.Linear(784, 10), Poison(1))
    with pytest.raises(UserError, match="start a new run with a lower scheduler.CyclicLR.max_lr"):
        make_trainer(folder, "scheduler.scheduler_choice=CyclicLR", net=net).fit()


def test_weights_that_are_not_finite_are_named(folder):
    trainer = make_trainer(folder)
    with torch.no_grad():
        trainer.net[4].weight[2, 3] = torch.nan
    with pytest.raises(UserError, match=r"batch 0: .* began in the coefficients or weights of layer 4 \(Linear\)"):
        trainer.fit()


class Twice(nn.Module):
    """Calls a neuron two times, as a loop of one's own over time does."""

    stateful = True

    def __init__(self):
        super().__init__()
        self.neuron = snn.SpikingNeuron(4)

    def forward(self, x, state=None):
        first, _ = self.neuron(x[:1])
        second, _ = self.neuron(x[1:])
        return torch.cat([first, second]), None


def test_spikes_of_every_call_are_counted():
    counts = {}
    with health.spikes_counted(net := Twice(), counts):
        spikes, _ = net(torch.tensor([[[2.0, 0.0, 2.0]], [[2.0, 2.0, 0.0]]]))
    assert counts["neuron"].tolist() == spikes.sum((0, 1)).tolist() == [2, 1, 1]


@pytest.mark.parametrize("batch", [3, 0])
def test_more_spikes_are_counted_than_bfloat16_has_numbers_for(batch):
    current = torch.full((107 * batch, 2, 4, 4), 10.0, dtype=torch.bfloat16)
    current = current.contiguous(memory_format=torch.channels_last).view(107, batch, 2, 4, 4)
    counts = {}
    with health.spikes_counted(net := snn.Sequential(snn.SpikingNeuron(4)), counts):
        net(current)
    assert counts["0"].shape == (2, 4, 4) and counts["0"].unique().tolist() == [107 * batch]
