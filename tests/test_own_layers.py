"""User-defined layers, tasks and options: they train, are recorded, drawn and saved, or refused in one line."""

import math
import types

import pytest
import torch
from test_config import resolve
from test_health import make_trainer
from test_training import make_split
from torch import nn

import snn
from snn import config
from snn.base.keys import Key, positive
from snn.checkpoint import published
from snn.config.settings import keys_of
from snn.data import datasets
from snn.data.base import dataset_keys
from snn.layers.sequential import neuron, synapse
from snn.layers.synapses import unstable_filters
from snn.look import inspection
from snn.run import loop, optimizers
from snn.tasks.classification import Classification


class Leaky(nn.Module):
    """A leaky integrate-and-fire neuron in plain torch, with only the documented `stateful = True`."""

    stateful = True

    def forward(self, x, state=None):
        v = torch.zeros_like(x[0]) if state is None else state
        spikes = []
        for x_t in x:
            v = 0.8 * v + x_t
            spikes.append(torch.sigmoid(9 * (v - 1)))
            v = v * (1 - spikes[-1])
        return torch.stack(spikes), v


class Named(Leaky):
    output = "spikes"
    states = ("u",)


class TrainedThreshold(snn.SpikingNeuron):
    """A trained threshold: v + 1 - theta is compared with 1."""

    optimizer_options = {"theta": {"lr_factor": 10, "weight_decay": 0}}

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.theta = nn.Parameter(torch.tensor(0.9))

    def forward(self, x, state=None):
        return super().forward(x + 1 - self.theta, state)


class Alpha(snn.Synapse):
    """psp[t] = 2 a psp[t-1] - a^2 psp[t-2] + (1 - a)^2 x[t]: both poles at a."""

    states = ("psp", "psp_before")
    coefficients = ("a",)

    def __init__(self, shape, tau):
        super().__init__(shape)
        self.a = nn.Parameter(torch.full(self.shape, math.exp(-1 / tau)))

    @classmethod
    def from_config(cls, shape, hyperparameters):
        return cls(shape, hyperparameters["tau_m"])

    def forward(self, x, state=None):
        from snn.kernels import kernels_for

        x = self.checked(x)
        psp, *state = kernels_for(x).dual_exp_iir(
            x, *(state or (None, None)), 2 * self.a, -self.a * self.a, (1 - self.a) ** 2
        )
        return psp, tuple(state)

    def poles(self):
        return self.a.detach().abs().expand(2, *self.shape)


def make_net(layer, hidden=20):
    torch.manual_seed(0)
    net = snn.Sequential(
        snn.FirstOrderLowPass(784, 4), nn.Linear(784, hidden), layer, nn.Linear(hidden, 10), snn.SpikingNeuron(4)
    )  # fmt: skip
    with torch.no_grad():
        net[1].weight.mul_(3)
        net[3].weight.mul_(5)
    return net


@pytest.mark.parametrize("layer", [Leaky(), Named(), TrainedThreshold(4), snn.Sequential(Leaky())])
def test_a_neuron_of_ones_own_trains(folder, capsys, layer):
    trainer = make_trainer(folder, "hyperparameters.epoch=2", net=make_net(layer))
    trainer.fit()
    assert len(trainer.history) == 2 and capsys.readouterr().err == ""
    assert torch.load(trainer.folder / "last.pt", weights_only=True)["epoch"] == 1


def test_a_network_in_which_nothing_spikes_trains(folder, capsys):
    net = snn.Sequential(snn.FirstOrderLowPass(784, 4), nn.Linear(784, 10))
    make_trainer(folder, net=net).fit()
    assert capsys.readouterr().err == ""


def test_a_record_shows_the_states_of_any_layer():
    net, x = make_net(Named()), torch.rand(6, 5, 784)
    with snn.record(net, samples=slice(1, 4)) as trace:
        net(x)
    state = None
    for t in range(6):
        _, state = net(x[t : t + 1], state)
        torch.testing.assert_close(trace.u["2"][t], state[2][1:4])
    assert trace.spikes.keys() == {"2", "4"} and trace.v.keys() == {"4"}
    plain = make_net(Leaky())
    with snn.record(plain) as trace:
        plain(x)
    assert trace.y["2"].shape == (6, 5, 20)


def test_a_record_of_a_subclass_is_of_what_the_subclass_computes():
    """Its potential is what is compared with the threshold, 1, even if the current is changed on the way."""
    net, x = make_net(TrainedThreshold(4)), torch.rand(6, 5, 784)
    with snn.record(net) as trace:
        net(x)
    assert torch.equal(trace.spikes["2"], (trace.v["2"] > 1).float()) and trace.spikes["2"].sum() > 0


def test_a_layer_whose_state_lacks_something_can_not_be_recorded():
    class Forgetful(Named):
        def forward(self, x, state=None):
            return super().forward(x, None)

    with pytest.raises(ValueError, match=r"layer 2 \(Forgetful\) returns another output step by step"):
        net = make_net(Forgetful())
        with snn.record(net):
            net(torch.rand(9, 2, 784))


def test_a_synapse_of_ones_own_is_counted_and_drawn(folder, capsys):
    net = snn.Sequential(Alpha(784, 4), nn.Linear(784, 10), snn.SpikingNeuron(4))
    with torch.no_grad():
        net[0].a[:3] = 1.1
        net[1].weight.mul_(9)
    assert unstable_filters(net) == 3
    trainer = make_trainer(folder, "optimizer.Adam.lr=1e-9", net=net)
    trainer.fit()
    assert trainer.history[0]["unstable_filters"] == 3 and capsys.readouterr().err == ""
    from snn.look import plots

    assert plots.coefficients(net, net).axes and plots.impulse_responses(net, net).axes
    with pytest.raises(snn.UserError, match="stable_filters: Alpha has no stabilize"):
        make_trainer(folder, "hyperparameters.stable_filters=true", net=net)
    with pytest.raises(NotImplementedError, match="Alpha has no stabilize"):
        snn.stabilize(net)


def test_a_config_chooses_classes():
    settings, _ = resolve(
        "hyperparameters.synapse_type=test_own_layers.Alpha", "hyperparameters.neuron=test_own_layers.TrainedThreshold",
        "hyperparameters.surrogate=ATan", "hyperparameters.surrogate_arguments={alpha: 3}",
        "hyperparameters.threshold=0.7", "hyperparameters.tau_m=5",
    )  # fmt: skip
    p = settings["hyperparameters"]
    made = synapse(7, p), neuron(p)
    assert [type(layer).__name__ for layer in made] == ["Alpha", "TrainedThreshold"]
    assert (made[1].tau_m, made[1].threshold, made[1].surrogate) == (5, 0.7, snn.surrogates.ATan(3))


@pytest.mark.parametrize(
    "layer",
    [TrainedThreshold(4), snn.SpikingNeuron(4, threshold=0.9), snn.SpikingNeuron(4, surrogate=snn.surrogates.ATan())],
)
def test_what_the_public_code_can_not_hold_is_not_converted(layer):
    net = make_net(layer)
    with pytest.raises(snn.UserError, match=r"layer 2, .*SpikingNeuron\(tau_m|layer 2, TrainedThreshold\("):
        published.from_checkpoint({"epoch": 1, "model": net.state_dict()}, net)


def groups(optimizer):
    return [(group["lr"], group["weight_decay"], len(group["params"])) for group in optimizer.param_groups]


def test_a_layer_and_a_config_may_ask_for_learning_rates_of_their_own():
    net = make_net(TrainedThreshold(4))
    settings, _ = resolve("optimizer.optimizer_choice=AdamW", "optimizer.AdamW.lr=0.01")
    made = optimizers.make_optimizer(settings, net)
    assert groups(made) == [(0.01, 0.01, 5), (0.1, 0, 1)] and optimizers.learning_rate(made) == 0.01
    settings["optimizer"]["coefficients_lr_factor"] = 0.5
    made = optimizers.make_optimizer(settings, net)
    assert groups(made) == [(0.005, 0.01, 1), (0.01, 0.01, 4), (0.1, 0, 1)]
    assert optimizers.learning_rate(made) == 0.01


@pytest.mark.parametrize("choice", ["MultiStepLR", "CosineAnnealingWarmRestarts", "CyclicLR"])
def test_every_scheduler_keeps_the_ratios(choice):
    net = make_net(TrainedThreshold(4))
    settings, _ = resolve(
        f"scheduler.scheduler_choice={choice}", "scheduler.MultiStepLR.milestones=[2]", "optimizer.Adam.lr=0.01",
        "scheduler.CyclicLR.step_size_up=3", "optimizer.coefficients_lr_factor=0.1",
    )  # fmt: skip
    optimizer = optimizers.make_optimizer(settings, net)
    scheduler = optimizers.make_scheduler(settings, optimizer)
    seen = set()
    for _ in range(8):
        rates = [group["lr"] for group in optimizer.param_groups]
        assert [rate / rates[1] for rate in rates] == pytest.approx([0.1, 1, 10])
        seen.add(rates[1])
        optimizer.step()
        scheduler.step()
    assert len(seen) > 1


def test_a_training_with_groups_resumes(folder):
    """The column lr holds the config's learning rate."""
    words = ["optimizer.coefficients_lr_factor=0.5", "hyperparameters.epoch=2", "scheduler.scheduler_choice=CyclicLR"]
    whole = make_trainer(folder / "whole", *words, net=make_net(TrainedThreshold(4)))
    whole.fit()
    assert whole.history[0]["lr"] == pytest.approx(1e-5)
    first = make_trainer(folder, *words, "hyperparameters.epoch=1", net=make_net(TrainedThreshold(4)))
    first.fit()
    saved = torch.load(first.folder / "last.pt", weights_only=True)
    again = make_trainer(folder, *words, net=make_net(TrainedThreshold(4)), resume_from=saved)
    again.fit()
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, again.net.state_dict()[name]), name


def test_a_checkpoint_from_before_there_were_groups_resumes(folder):
    trainer = make_trainer(folder)
    trainer.fit()
    saved = torch.load(trainer.folder / "last.pt", weights_only=True)
    for group in saved["optimizer"]["param_groups"]:
        del group["lr_factor"]
    for key in ("surrogate", "threshold"):
        del saved["config"]["hyperparameters"][key]
    again = make_trainer(folder, "hyperparameters.epoch=2", resume_from=saved)
    config.check_resumed(again.config, saved["config"], 1, warn=lambda _: None)
    again.fit()
    assert len(again.history) == 2


@pytest.mark.parametrize(
    "options, message",
    [({"thta": {"lr_factor": 2}}, "no parameter 'thta'; there are theta"), ({"theta": {"lr_facto": 2}}, "use a dict"),
     ({"theta": 10}, "10 of theta; use a dict with lr_factor and weight_decay")],
)  # fmt: skip
def test_options_that_an_optimizer_does_not_have(options, message):
    layer = TrainedThreshold(4)
    layer.optimizer_options = options
    with pytest.raises(snn.UserError, match=message):
        optimizers.make_optimizer(resolve()[0], make_net(layer))


def dataset(**names):
    module = types.ModuleType("mine")
    made = {"NAMES": ("mine",), "KEYS": {"dataset": dataset_keys(("mine",))}, "load": lambda *_: ({}, "")} | names
    for name, value in made.items():
        if value is not None:
            setattr(module, name, value)
    return module


@pytest.mark.parametrize(
    "names, message",
    [
        ({"load": None}, "mine has no load"),
        ({"NAMES": None}, "NAMES is None; it must be a tuple"),
        ({"NAMES": "mine"}, "NAMES is 'mine'; it must be a tuple"),
        ({"NAMES": ("mnist",)}, "the name mnist in NAMES is taken"),
        ({"KEYS": None}, "KEYS needs a section 'dataset'"),
        ({"KEYS": {"datset": {}}}, "KEYS needs a section 'dataset'"),
    ],
)
def test_a_dataset_that_lacks_something(names, message, monkeypatch):
    monkeypatch.setattr(datasets, "TABLE", dict(datasets.TABLE))
    with pytest.raises(snn.UserError, match=message):
        datasets.add(dataset(**names))


@pytest.mark.parametrize(
    "loaded, message",
    [
        ({}, r"load must return \(splits by name, note\), not dict"),
        (({"train": make_split(3), "dev": make_split(0), "test": make_split(1)}, ""), "its split dev has no sample"),
        (({"train": make_split(3), "test": make_split(1)}, ""), "its split dev is NoneType, not a Split"),
    ],
)
def test_a_dataset_that_loads_something_else(loaded, message, monkeypatch):
    monkeypatch.setattr(datasets, "TABLE", dict(datasets.TABLE))
    datasets.add(dataset(load=lambda *_: loaded, KEYS={"dataset": dataset_keys(("mine",)), "hyperparameters": {
        "gain": Key(1, positive, "of its own group")}}))  # fmt: skip
    settings, _ = resolve()
    with pytest.raises(snn.UserError, match=message):
        datasets.load(settings | {"dataset": {"name": "mine"}}, torch.device("cpu"), (3,))
    keys = dict(keys_of(config.schema_of({"dataset": {"name": "mine"}})))
    assert {"hyperparameters.gain", "hyperparameters.length"} <= keys.keys()


def test_a_network_whose_neuron_is_gone_does_not_load(trained, monkeypatch):
    monkeypatch.chdir(trained)
    saved = torch.load("checkpoint/snn_mlp_1/best.pt", weights_only=True)
    saved["config"]["hyperparameters"]["neuron"] = "gone.Neuron"
    torch.save(saved, "gone.pt")
    with pytest.raises(snn.UserError, match="checkpoint gone.pt: config: .*neuron: .*No module named 'gone'"):
        snn.load("gone.pt")


@pytest.mark.parametrize("threshold", [torch.tensor(0.5), "1", None, True])
def test_a_threshold_is_a_number(threshold):
    with pytest.raises(ValueError, match="needs a number as threshold"):
        snn.SpikingNeuron(4, threshold=threshold)


def test_a_state_that_broadcasts_is_recorded():
    """Also where it has as many features as there are samples."""
    layer, x = snn.SpikingNeuron(4), torch.rand(5, 6, 6)
    net = snn.Sequential(layer)
    state = ((torch.rand(6), torch.rand(6)),)
    with snn.record(net) as whole:
        net(x, state)
    with snn.record(net, samples=slice(0, 2)) as part:
        net(x, state)
    assert torch.equal(part.v["0"], whole.v["0"][:, :2])


class Everything(Classification):
    def score(self, y, targets):
        return len(targets)


def test_a_task_of_ones_own_is_inspected_by_its_own_score(trained, folder, monkeypatch):
    net = make_net(Leaky())
    split = make_split(12)
    settings, _ = resolve("hyperparameters.batch_size=5", "hyperparameters.length=5")
    seen = inspection.view(
        net, net, split, settings, lambda: torch.Generator(), lambda task: loop.test(net, split, settings, task)
    )
    assert inspection.inspect(seen, Everything(), folder).score == 12


def test_networks_that_do_not_begin_with_a_synapse():
    p = resolve()[0]["hyperparameters"]
    assert snn.Sequential(nn.Linear(784, 10), neuron(p)).input_shape == (784,)
    assert snn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), synapse(2704, p)).input_shape is None
    assert snn.Sequential().input_shape is None
    splits, _ = datasets.load(resolve("dataset.name=digits")[0], torch.device("cpu"), None)
    assert next(splits["test"].batches(3, torch.Generator()))[0].shape == (25, 3, 1, 28, 28)
