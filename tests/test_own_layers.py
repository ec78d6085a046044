"""User-defined layers, tasks and options: they train, are recorded, drawn and saved, or refused in one line."""

import math
import types
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from small import make_split, make_trainer
from test_config import resolve
from torch import nn

import snn
from snn import config
from snn.base.keys import Key, fraction, list_of, positive
from snn.checkpoint import published
from snn.config import schema
from snn.config.settings import keys_of
from snn.data import datasets
from snn.data.base import Split, dataset_keys
from snn.kernels.surrogates import Surrogate, m
from snn.layers.encoders import Copies, Population
from snn.layers.sequential import neuron, synapse
from snn.layers.synapses import unstable_filters
from snn.look import inspection
from snn.run import optimizers
from snn.run.step import evaluate
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
def test_a_neuron_of_ones_own_trains(folder, capsys, layer, drawn):
    trainer = make_trainer(folder, "hyperparameters.epoch=2", net=make_net(layer))
    trainer.fit()
    assert len(trainer.history) == 2 and capsys.readouterr().err == ""
    assert torch.load(trainer.folder / "last.pt", weights_only=True)["epoch"] == 1


def test_a_network_in_which_nothing_spikes_trains(folder, capsys, drawn):
    net = snn.Sequential(snn.FirstOrderLowPass(784, 4), nn.Linear(784, 10))
    make_trainer(folder, net=net).fit()
    assert capsys.readouterr().err == ""


class Sevens(snn.SpikingNeuron):
    def step(self, x, state=None):
        return torch.full_like(x, 7), ()


class Doubled(snn.SpikingNeuron):
    def step(self, x, state=None):
        return super().step(2 * x, state)


class Tenfold(snn.Layer):
    def forward(self, x, state=None):
        steps = [self.step(10 * of_step)[0] for of_step in x]
        return torch.stack(steps), ()


class PlusOne(Tenfold):
    def step(self, x, state=None):
        return x + 1, ()


def test_a_step_of_ones_own_takes_the_place_of_a_bases_forward():
    x = torch.rand(5, 2, 3)
    assert Sevens(4)(x)[0].eq(7).all()
    assert torch.equal(PlusOne()(x)[0], 10 * x + 1)  # a forward of one's own calls it
    with pytest.raises(NotImplementedError, match=r"Doubled needs a forward, or a step; that may call"):
        Doubled(4)(x)


class Forgetful(snn.Layer):
    def step(self, x, state=None):
        return x


@pytest.mark.parametrize("batch", [2, 3])
def test_a_layer_that_returns_no_state_is_told_so(batch):
    """A batch of two would unpack."""
    for layer in Forgetful(), snn.Sequential(Forgetful()):
        with pytest.raises(ValueError, match=r"Forgetful is a layer over time: it must return \(y, state\)"):
            layer(torch.rand(4, batch, 3))


@pytest.mark.parametrize("given", [(torch.rand(4, 2, 3), ()), nn.utils.rnn.pack_sequence([torch.rand(4, 3)])])
def test_an_input_that_is_no_tensor_is_told(given):
    with pytest.raises(TypeError, match=r"DualExpIIR takes a tensor .*, not (tuple|PackedSequence): "):
        snn.DualExpIIR(3, 4, 1)(given)
    with pytest.raises(TypeError, match="Sequential takes a tensor"):
        snn.Sequential(nn.Linear(3, 2))(given)
    with pytest.raises(TypeError, match="must be Tensor, not"):
        snn.Linear(3, 2)(given)


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


def test_a_synapse_of_ones_own_is_counted_and_drawn(folder, capsys, drawn):
    net = snn.Sequential(Alpha(784, 4), nn.Linear(784, 10), snn.SpikingNeuron(4))
    with torch.no_grad():
        net[0].a[:3] = 1.1
        net[1].weight.mul_(9)
    assert unstable_filters(net) == 3
    trainer = make_trainer(folder, "optimizer.Adam.lr=1e-9", net=net)
    trainer.fit()
    assert trainer.history[0]["unstable_filters"] == 3 and capsys.readouterr().err == ""
    from snn.look import filter_plots

    assert filter_plots.coefficients(net, net).axes[0].get_xlabel() == "a"
    assert filter_plots.impulse_responses(net, net).axes[0].lines
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
    net[2].optimizer_options = {"theta": {"lr_factor": "10", "weight_decay": 0}}  # as a YAML may have it
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


@pytest.mark.parametrize("choice", ["Adam", "SGD"])
def test_a_training_with_groups_resumes(folder, choice):
    """The column lr holds the config's learning rate. SGD has no moments."""
    words = ["optimizer.coefficients_lr_factor=0.5", "hyperparameters.epoch=2", "scheduler.scheduler_choice=CyclicLR"]
    words.append(f"optimizer.optimizer_choice={choice}")
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


def test_a_run_whose_train_figure_is_no_number_resumes(folder):
    """As a task's own may be in training, where spikes are not counted."""
    trainer = make_trainer(folder)
    trainer.fit()
    saved = torch.load(trainer.folder / "last.pt", weights_only=True)
    saved["history"][0]["train_acc"] = math.nan
    again = make_trainer(folder, "hyperparameters.epoch=2", resume_from=saved)
    again.fit()
    assert len(again.history) == 2


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
    saved = torch.load(trainer.folder / "last.pt", weights_only=True)
    saved["optimizer"]["param_groups"] *= 2
    with pytest.raises(snn.UserError, match="its optimizer has 2 groups of parameters, not 1: another version made it"):
        make_trainer(folder, "hyperparameters.epoch=2", resume_from=saved)


@pytest.mark.parametrize(
    "options, message",
    [({"thta": {"lr_factor": 2}}, "no parameter 'thta'; there are theta"), ({"theta": {"lr_facto": 2}}, "use a dict"),
     ({"theta": 10}, "10 of theta; use a dict with lr_factor and weight_decay"),
     ({"theta": {"lr_factor": 0}}, "lr_factor of theta is 0, not a number above 0")],
)  # fmt: skip
def test_options_that_an_optimizer_does_not_have(options, message):
    layer = TrainedThreshold(4)
    layer.optimizer_options = options
    with pytest.raises(snn.UserError, match=message):
        optimizers.make_optimizer(resolve()[0], make_net(layer))


@pytest.mark.parametrize(
    "choice, key, value", [("AdamW", "weight_decay", 0.5), ("Adam", "betas", [0.5, 0.9]), ("SGD", "momentum", 0.8)]
)
def test_a_new_key_of_an_optimizer_acts(monkeypatch, choice, key, value):
    check = list_of(fraction, "two numbers") if key == "betas" else fraction
    monkeypatch.setitem(schema.EVERYWHERE["optimizer"][choice], key, Key(value, check, "of the test"))
    steps = []
    for other in ([0.9, 0.999] if key == "betas" else 0, value):
        net = make_net(Leaky())
        settings, _ = resolve(f"optimizer.optimizer_choice={choice}", f"optimizer.{choice}.{key}={other}")
        optimizer = optimizers.make_optimizer(settings, net)
        for _ in range(3):
            optimizer.zero_grad()
            sum(parameter.square().sum() for parameter in net.parameters()).backward()
            optimizer.step()
        steps.append(torch.cat([parameter.detach().flatten() for parameter in net.parameters()]))
    assert not torch.equal(*steps)


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


def test_what_a_dataset_measures_is_checked_at_once(monkeypatch):
    monkeypatch.setattr(datasets, "TABLE", dict(datasets.TABLE))
    measuring = {"KEYS": {"dataset": dataset_keys(("mine",))}, "measure": lambda config: {"gain": torch.ones(1)}}
    with pytest.raises(snn.UserError, match="measure.config. needs MEASURED"):
        datasets.add(dataset(**measuring))
    datasets.add(dataset(**measuring, MEASURED={"gain": Key(1, positive, "of the files")}))
    settings = config.completed({"experiment_name": "mine", "dataset": {"name": "mine"}})
    with pytest.raises(snn.UserError, match="measured.gain"):
        config.check(datasets.measured(settings))
    monkeypatch.setattr(datasets.TABLE["mine"], "measure", lambda config: {"gain": 2.0})
    assert config.check(datasets.measured(settings))["measured"] == {"gain": 2.0}


class Sorted(Split):
    """Fifty samples, in the order of their five classes."""

    device = torch.device("cpu")

    def __len__(self):
        return 50

    def batch(self, indices, generator):
        return indices.float()[None, :, None], indices // 10


def test_the_sizes_of_a_dataset_that_ignores_them(monkeypatch, capsys):
    monkeypatch.setattr(datasets, "TABLE", dict(datasets.TABLE))
    made = {part: Sorted() for part in ("train", "dev", "test")}
    datasets.add(dataset(load=lambda *_: (dict(made), "")))
    asked = {"name": "mine", "train_size": 20, "dev_size": 0, "test_size": 60}
    (splits, _), (again, _) = (
        datasets.load(resolve()[0] | {"dataset": asked}, torch.device("cpu"), None) for _ in range(2)
    )
    assert [len(split) for split in splits.values()] == [20, 50, 50] and splits["dev"] is made["dev"]
    assert "note: dataset.test_size: 60, but mine has 50 test samples\n" in capsys.readouterr().err
    x, labels = map(torch.cat, zip(*((x[0, :, 0], y) for x, y in splits["train"].batches(8, None))))
    assert len(x.unique()) == 20 and torch.equal(x.long() // 10, labels) and len(labels.unique()) == 5
    assert len({split.fingerprint() for split in (splits["train"], again["train"], made["train"])}) == 2
    monkeypatch.setattr(Sorted, "repeats", 5)
    monkeypatch.setattr(Sorted, "__len__", lambda split: 250)
    splits, _ = datasets.load(resolve()[0] | {"dataset": asked}, torch.device("cpu"), None)
    assert len(splits["train"]) == 100 and splits["train"].repeats == 5


@pytest.mark.parametrize(
    "names, lacking",
    [
        ({"__len__": lambda _: 3, "batch": None}, "device"),
        ({"device": "cpu", "batch": None}, "__len__"),
        ({"device": "cpu", "__len__": lambda _: 3}, "batch"),
        ({}, "device, __len__, batch"),
    ],
)
def test_a_split_that_lacks_something(names, lacking, monkeypatch):
    splits = dict.fromkeys(("train", "dev", "test"), type("Mine", (Split,), names)())
    monkeypatch.setattr(datasets, "TABLE", dict(datasets.TABLE))
    datasets.add(dataset(load=lambda *_: (splits, "")))
    with pytest.raises(snn.UserError, match=f"dataset mine: its split train lacks {lacking}, which each Split needs"):
        datasets.load({"dataset": {"name": "mine"}}, torch.device("cpu"), (3,))


@dataclass(frozen=True)
class Steep(Surrogate):
    slope: float = 1.0

    @property
    def constants(self):
        return 1 / self.slope, 0.0, 0.0

    @staticmethod
    def gradient(x, a, b, c):
        return a * x


class Exact(Steep):
    @staticmethod
    def gradient(x, a, b, c):
        return m.tanh(x)


@dataclass(frozen=True)
class Careful(Steep):
    def __post_init__(self):
        1 / self.slope


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("Exact", "{}", r"surrogate: '.*Exact' is not allowed: Exact.gradient uses tanh; it may use"),
        ("Steep", "{slope: 0}", r"surrogate: '.*Steep' is not allowed: Steep\(slope=0\) fails: ZeroDivisionError"),
        ("Steep", "{width: 1}", r"surrogate_arguments: {'width': 1} is not allowed: Steep takes slope \(TypeError"),
        ("Careful", "{slope: 0}", r"surrogate_arguments: {'slope': 0} is not allowed: Careful takes slope \(ZeroDiv"),
    ],
)
def test_a_surrogate_that_fails_is_blamed_itself(name, arguments, message):
    with pytest.raises(snn.UserError, match=f"config: hyperparameters.{message}"):
        resolve(
            f"hyperparameters.surrogate=test_own_layers.{name}", f"hyperparameters.surrogate_arguments={arguments}"
        )


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


def test_a_threshold_that_nothing_would_train_is_refused():
    neuron = snn.SpikingNeuron(4)
    with pytest.raises(TypeError, match="the threshold here is a number: to train it, write a layer of your own"):
        neuron.threshold = nn.Parameter(torch.tensor(0.5))
    with pytest.raises(TypeError, match="the threshold here is a number"):
        Population(2, 3, 4).threshold = nn.Parameter(torch.tensor(0.5))

    class Own(snn.SpikingNeuron):
        def forward(self, x, state=None):
            return x - self.threshold, state

    own, base = Own(4), nn.Parameter(torch.tensor(0.5))
    own.threshold = base.exp()
    assert own.threshold.requires_grad


@pytest.mark.parametrize("shape", ["784", 2.7, (2.7, 3)])
def test_a_shape_is_of_whole_numbers(shape):
    with pytest.raises(TypeError):
        snn.DualExpIIR(shape, 4, 1)


def test_numbers_may_be_numpys():
    neuron = snn.SpikingNeuron(np.int64(4), threshold=np.float32(0.5))
    net = snn.Sequential(snn.DualExpIIR(np.prod((2, 3)), np.float32(4), 1), neuron)
    like = snn.Sequential(snn.DualExpIIR(6, 4, 1), snn.SpikingNeuron(4, threshold=0.5))
    x = torch.rand(9, 2, 6)
    assert torch.equal(net(x)[0], like(x)[0]) and net(x)[0].any() and repr(net) == repr(like)


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


def test_a_task_of_ones_own_is_inspected_by_its_own_score(folder):
    net = make_net(Leaky())
    split = make_split(12)
    settings, _ = resolve("hyperparameters.batch_size=5", "hyperparameters.length=5")
    seen = inspection.view(
        net, net, split, settings, lambda: torch.Generator(), lambda task: evaluate(net, split, settings, task)
    )
    assert inspection.inspect(seen, Everything(), folder).score == 12


def test_a_network_without_layers_over_time_is_inspected_with_a_note(folder, capsys):
    net, split, settings = snn.Sequential(snn.Linear(784, 10)), make_split(6), resolve("hyperparameters.length=5")[0]
    seen = inspection.view(
        net, net, split, settings, lambda: torch.Generator(), lambda task: evaluate(net, split, settings, task)
    )
    assert "note: pictures leave out what layers do: " in capsys.readouterr().err and seen.y.shape == (5, 4, 10)
    assert inspection.inspect(seen, Classification(), folder).total == 6


def test_networks_that_do_not_begin_with_a_synapse():
    p = resolve()[0]["hyperparameters"]
    assert snn.Sequential(nn.Linear(784, 10), neuron(p)).input_shape == (784,)
    assert snn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), synapse(2704, p)).input_shape is None
    assert snn.Sequential().input_shape is None
    assert snn.Sequential(Copies(4), synapse(12, p)).input_shape == (3,)
    assert snn.Sequential(Copies(4), nn.Linear(12, 2)).input_shape is None
    assert snn.Sequential(nn.Dropout(), synapse(12, p)).input_shape == (12,)
    assert snn.Sequential(snn.Sequential(nn.Linear(784, 10)), neuron(p)).input_shape == (784,)
    splits, _ = datasets.load(resolve("dataset.name=digits")[0], torch.device("cpu"), None)
    assert next(splits["test"].batches(3, torch.Generator()))[0].shape == (25, 3, 1, 28, 28)


def test_what_a_layer_asks_for_its_coefficients_comes_before_the_config():
    net = snn.Sequential(snn.FirstOrderLowPass(8, 4), snn.Linear(8, 3), snn.SpikingNeuron(4))
    net[0].optimizer_options = {"a1": {"lr_factor": 4, "weight_decay": 0.5}}
    keys = "optimizer_choice=AdamW", "AdamW.lr=0.1", "decay_coefficients=false", "coefficients_lr_factor=0.5"
    settings, _ = resolve(*(f"optimizer.{key}" for key in keys))
    group = optimizers.make_optimizer(settings, net).param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (pytest.approx(0.2), 0.5)
