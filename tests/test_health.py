"""Unstable filters, silent layers, and losses that are not finite."""

import math
import re

import numpy as np
import pytest
import torch
from small import make_trainer, resolve
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import snn
from snn.base.errors import UserError
from snn.data import digits
from snn.data.base import Split
from snn.kernels import kernels_for
from snn.layers.synapses import coefficient_names, unstable_filters
from snn.look import health
from snn.run.finite import FiniteWatch, where_not_finite
from snn.run.step import forward
from snn.tasks.base import Task
from snn.tasks.classification import Classification


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


def test_stabilize_moves_filters_slower_than_float32_tells():
    layer = snn.DualExpIIR(3, 50_000, 25_000)
    layer.stabilize()
    assert not layer.unstable()


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x


class Halvable(Doubled):
    def right_inverse(self, x):
        return x / 2


class Double(snn.Synapse):
    """Both poles at `a`, with a `stabilize` of its own."""

    coefficients = ("a",)

    def __init__(self):
        super().__init__(20)
        self.a = nn.Parameter(torch.full((20,), 0.7))

    def forward(self, x, state=None):
        psp, *state = kernels_for(x).dual_exp_iir(x, None, None, 2 * self.a, -self.a * self.a, (1 - self.a) ** 2)
        return psp, tuple(state)

    def poles(self):
        return self.a.detach().abs().expand(2, *self.shape)

    def stabilize(self):
        self.a.data.clamp_(-0.99, 0.99)


@pytest.mark.parametrize(
    "change",
    [
        lambda layer, name: prune.random_unstructured(layer, name, 0.3),
        lambda layer, name: parametrize.register_parametrization(layer, name, Halvable()),
        lambda layer, name: [parametrize.register_parametrization(layer, name, Halvable()) for _ in range(2)],
        lambda layer, name: parametrizations.weight_norm(layer, name),
    ],
)
@pytest.mark.parametrize("make", [lambda: snn.DualExpIIR(20, 4, 1), lambda: snn.FirstOrderLowPass(20, 4), Double])
def test_stabilize_moves_what_coefficients_are_computed_from(make, change):
    net = snn.Sequential(layer := make())
    for name in layer.coefficients:
        change(layer, name)
    trained = dict(net.named_parameters())
    assert coefficient_names(net) == trained.keys()
    addresses = [value.data_ptr() for value in trained.values()]
    with torch.no_grad():
        for value in trained.values():
            value *= 3
    assert unstable_filters(net) > 0  # also before a forward pass
    snn.stabilize(net)
    assert unstable_filters(net) == 0
    y, _ = net(torch.rand(200, 1, 20))
    assert unstable_filters(net) == 0 and y.isfinite().all()
    assert addresses == [value.data_ptr() for value in trained.values()]  # optimizers and CUDA graphs hold them


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: parametrize.register_parametrization(layer, "a1", Doubled()),
        lambda layer: nn.utils.weight_norm(layer, "a1"),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_coefficients_that_stabilize_can_not_set_are_named(change):
    net = snn.Sequential(layer := snn.DualExpIIR(20, 4, 1))
    change(layer)
    with torch.no_grad():
        for value in net.parameters():
            value *= 3
    with pytest.raises(UserError, match="computes a1 of .*DualExpIIR from parameters that can't be set"):
        snn.stabilize(net)


def test_the_summary_counts_unstable_filters_and_names_silent_layers(folder, capsys):
    trainer = make_trainer(folder, "optimizer.Adam.lr=1e-12")
    with torch.no_grad():
        trainer.net[3].a1[:3] = 1.5
        trainer.net[4].bias.fill_(-1e6)
    trainer.fit()
    (line,) = re.findall("^epoch 0: .+", capsys.readouterr().out, re.M)
    assert "3 unstable filters" in line and "no spike in output," in line
    assert trainer.history[0]["unstable_filters"] == 3 and trainer.history[0]["silent_layers"] == 1


def test_stable_filters_is_a_choice(folder):
    for choice, unstable in (("false", 3), ("true", 0)):
        trainer = make_trainer(folder, f"hyperparameters.stable_filters={choice}", "optimizer.Adam.lr=1e-12")
        with torch.no_grad():
            trainer.net[3].a1[:3] = 1.5
        trainer.fit()
        assert trainer.history[0]["unstable_filters"] == unstable


class Poison(nn.Module):
    """Passes its input on; from a given call on, its output, or the gradient of its input, is infinite or large."""

    def __init__(self, call, backward=False, factor=torch.inf):
        super().__init__()
        self.calls, self.call, self.backward, self.factor = 0, call, backward, factor

    def forward(self, x):
        self.calls += self.training
        if self.calls <= self.call:
            return x
        if self.backward:
            if x.requires_grad:
                x.register_hook(lambda gradient: gradient * self.factor)
            return x
        return x * self.factor


class Listed(nn.Module):
    """A layer that calls those in a list, which is no layer itself."""

    stateful = True

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(2, 2)])

    def forward(self, x, state=None):
        return self.parts[0](x), ()


def test_the_place_is_also_found_where_children_are_not_called():
    net = Listed()
    assert where_not_finite(net, lambda y, _: y.sum() / 0, torch.ones(1, 1, 2), None, None) == "the loss"
    net.parts[0].weight.data[0] = torch.nan
    found = where_not_finite(net, lambda y, _: y.sum(), torch.ones(1, 1, 2), None, None)
    assert found == "the coefficients or weights of layer parts (ModuleList)"


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
    began = f"epoch 0, batch 3: the loss or its gradient is not finite or too large; it began in {where}"
    assert began in str(error.value)
    assert f"lower optimizer.{choice}.lr" in str(error.value)
    for name, value in net.state_dict().items():
        assert torch.equal(value, steps[3][name]), name  # unchanged by the batch
    kept = torch.load(trainer.folder / "last.pt", weights_only=True)
    assert kept["running"]["counts"]["train"]["batches"] == 2
    assert torch.equal(kept["model"]["1.weight"], steps[2]["1.weight"])


class OneIsMissing(Split):
    """One value of one sample's input, or of its target, is NaN; of neither if `where` is None."""

    device = torch.device("cpu")

    def __init__(self, where):
        self.where = where

    def __len__(self):
        return 12

    def batch(self, indices, generator):
        x, targets = torch.rand(5, len(indices), 784, generator=generator), torch.zeros(5, len(indices), 10)
        if self.where:
            {"input": x, "targets": targets}[self.where][3, indices == 2] = torch.nan
        return x, targets


@pytest.mark.parametrize("where", ["input", "targets"])
def test_data_that_is_not_finite_is_no_matter_of_the_learning_rate(folder, where):
    class Regression(Task):
        def loss(self, y, targets):
            return (y - targets).square().mean()

    class Masked(Regression):  # NaN is what has no target
        def loss(self, y, targets):
            return super().loss(1e30 * y[targets.isfinite()], 1)

    splits, net = dict.fromkeys(("train", "dev"), OneIsMissing(where)), nn.Sequential(nn.Linear(784, 10))
    settings = {"experiment_name": "own", "dataset": {"name": "digits"}}
    with pytest.raises(UserError, match=f"it began in the {where}; .* new run with data without NaN and infinite"):
        snn.train(lambda _: snn.Sequential(*net), settings, task=Regression(), splits=splits | {"test": splits["dev"]})
    began = {"input": "input", "targets": "loss; .* lower optimizer.Adam.lr"}[where]
    with pytest.raises(UserError, match=f"it began in the {began}"):
        snn.train(lambda _: snn.Sequential(*net), settings, task=Masked(), splits=splits | {"test": splits["dev"]})


@pytest.mark.parametrize("spoilt", ["dev", "test", None])
def test_neurons_do_not_hide_that_an_evaluation_got_nan(folder, capsys, spoilt):
    class Counting(Task):
        def loss(self, y, targets):
            return (y - targets).square().mean()

    def network(_):
        return snn.Sequential(nn.Linear(784, 10), snn.SpikingNeuron(4))

    splits = {part: OneIsMissing("input" if part == spoilt else None) for part in ("train", "dev", "test")}
    settings = {"experiment_name": "own", "dataset": {"name": "digits"}}
    settings["hyperparameters"] = {"batch_size": 5, "epoch": 2}
    run = snn.train(network, settings, task=Counting(), splits=splits)
    assert all(math.isfinite(row["dev_loss"]) for row in run.metrics)
    noted = re.findall("^note: (.+): some input is NaN", capsys.readouterr().err, re.M)
    assert noted == {"dev": ["epoch 0 dev", "epoch 1 dev"], "test": ["test"], None: []}[spoilt]


class FirstTen(nn.Module):
    def forward(self, x):
        return x[..., :10].float()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value, is_told", [(0.3, 0), (60000.0, 0), (math.nan, 1), (math.inf, 1), (-math.inf, 1)])
def test_finite_input_of_any_type_is_not_called_infinite(dtype, value, is_told):
    x, labels = torch.full((25, 4, 800), 0.3, dtype=dtype), torch.zeros(4, dtype=torch.long)
    x[20:, 2, 10:300] = value
    _, sums, _ = forward(snn.Sequential(FirstTen()).eval(), Classification(), resolve(), x, labels)
    assert sums[3] == is_told


@pytest.mark.parametrize("loss", [lambda y: y.sum(0), lambda y: 0.5])
def test_a_loss_that_is_not_one_number_is_told(folder, loss):
    task = Task()
    task.loss = lambda y, targets: loss(y)
    splits = dict.fromkeys(("train", "dev", "test"), OneIsMissing("targets"))
    settings = {"experiment_name": "own", "dataset": {"name": "digits"}}
    with pytest.raises(UserError, match=r"Task.loss must .* without dimensions, not (\[12, 10\]|float)"):
        snn.train(lambda _: snn.Sequential(nn.Linear(784, 10)), settings, task=task, splits=splits)


@pytest.mark.parametrize("clip", [0, 1])
@pytest.mark.parametrize("choice", ["Adam", "AdamW"])
def test_a_gradient_whose_square_is_infinite_stops_the_training(folder, choice, clip):
    """Else moments would be infinite from then on, and clipping would make it 0."""

    def trainer(factor):
        net = snn.Sequential(snn.FirstOrderLowPass(784, 4), nn.Linear(784, 10), Poison(3, True, factor))
        return make_trainer(folder, f"optimizer.optimizer_choice={choice}", f"optimizer.clip={clip}", net=net)

    with pytest.raises(UserError, match=r"batch 3: .* or too large; it began in the gradient of layer 1 \(Linear\)"):
        trainer(1e25).fit()
    large = trainer(1e15)
    large.fit()
    assert all(value.isfinite().all() for state in large.optimizer.state.values() for value in state.values())


@pytest.mark.parametrize("shared", [False, True])
def test_of_ranks_gradients_alone_decide_since_all_have_the_same(shared):
    weight = nn.Parameter(torch.ones(3))
    watch = FiniteWatch(torch.optim.Adam([weight], fused=True), shared)
    for gradient, loss, failed in ((1.0, 1.0, 0), (1.0, torch.nan, not shared), (torch.nan, 1.0, 1)):
        weight.grad = torch.full((3,), gradient)
        assert watch.guard(torch.tensor(loss)) == failed


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


def test_a_last_step_that_spoils_the_weights_is_not_saved(folder):
    trainer = make_trainer(folder, "checkpoint_every=4")
    train = trainer._train

    def spoil(batch):
        result = train(batch)
        if batch.number == 4:
            with torch.no_grad():
                trainer.net[1].weight[0, 0] = torch.inf
        return result

    trainer._train = spoil
    with pytest.raises(UserError, match=r"epoch 0: 1.weight is not finite after the last step; .*last.pt is kept"):
        trainer.fit()
    kept = torch.load(trainer.folder / "last.pt", weights_only=True)
    assert all(value.isfinite().all() for value in kept["model"].values())


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
    with health.spikes_counted(net := Twice()) as counts:
        spikes, _ = net(torch.tensor([[[2.0, 0.0, 2.0]], [[2.0, 2.0, 0.0]]]))
    assert counts["neuron"].tolist() == spikes.sum((0, 1)).tolist() == [2, 1, 1]


@pytest.mark.parametrize("batch", [3, 0])
def test_more_spikes_are_counted_than_bfloat16_has_numbers_for(batch):
    current = torch.full((107 * batch, 2, 4, 4), 10.0, dtype=torch.bfloat16)
    current = current.contiguous(memory_format=torch.channels_last).view(107, batch, 2, 4, 4)
    net, kinds = snn.Sequential(snn.SpikingNeuron(4)), []
    net[0].register_forward_hook(lambda _, __, output: kinds.append(output[0].dtype))
    with torch.autocast("cpu", torch.bfloat16), health.spikes_counted(net) as counts:
        net(current)
    assert kinds == [torch.bfloat16]
    assert counts["0"].shape == (2, 4, 4) and counts["0"].unique().tolist() == [107 * batch]


class TestLearning:
    """A network that is silent, at chance or far above it says so once, and its last line says so again."""

    NOTE = "note: after 3 epochs the network "
    LAST = ", no better than without spikes"

    @pytest.mark.parametrize(
        "settings, said", [
            ({"optimizer.Adam.lr": 1e-9}, "has no output spike; what may help: .*a higher optimizer.Adam.lr"),
            ({"optimizer.Adam.lr": 1.0}, "is no better on dev .* whose loss is 2.303; .*a lower optimizer.Adam.lr"),
        ],
    )  # fmt: skip
    def test_what_does_not_learn(self, run, settings, said):
        lines = run("snn_mlp_1", "--train", settings=settings | {"hyperparameters.epoch": 5})
        assert run.status == 0 and run.err.count(self.NOTE) == 1 and re.search(self.NOTE + said, run.err), run.err
        assert lines[-1].endswith(self.LAST)

    def test_silent_neurons_before_a_readout_are_not_called_the_output(self, run):
        few = {"dataset.name": "qtdb", "dataset.train_size": 16, "dataset.dev_size": 8, "hyperparameters.epoch": 3}
        run("ecg", "--train", settings=few | {"hyperparameters.threshold": 1e6, "optimizer.AdamW.lr": 1e-9})
        assert self.NOTE + "has no hidden spike; what may help: " in run.err

    def test_shuffled_labels(self, run, monkeypatch):
        read = digits.read

        def shuffled():
            (images, labels), test = read()
            return (images, labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]), test

        monkeypatch.setattr(digits, "read", shuffled)
        settings = {"hyperparameters.epoch": 4, "dataset.train_size": 300, "dataset.dev_size": 100}
        lines = run("snn_mlp_1", "--train", settings=settings)
        assert run.err.count(self.NOTE) == 1 and lines[-1].endswith(self.LAST)

    def test_what_learns_is_not_blamed(self, run):
        settings = {"dataset.train_size": 640, "dataset.dev_size": 60, "hyperparameters.epoch": 4}
        lines = run("snn_mlp_1", "--train", settings=settings)
        assert "what may help" not in run.err and not lines[-1].endswith(self.LAST), run.out

    def test_few_wrong_answers_with_many_spikes_are_no_chance(self):
        silence = math.log(10)
        right = {"dev_acc": 95.0, "dev_loss": 3 * silence}
        assert Classification().learns(right, silence, 100)
        assert not Classification().learns(right | {"dev_acc": 15.0}, silence, 100)
        assert not Classification().learns(right | {"dev_acc": 30.0, "dev_loss": 20 * silence}, silence, 100)
        assert not Task().learns({"dev_loss": 1.0}, 1.0, 100) and Task().learns({"dev_loss": 0.9}, 1.0, 100)

    @pytest.mark.parametrize("silence", [math.nan, math.inf, 0.0, -1.0])
    def test_a_loss_that_says_nothing_of_silence_blames_none(self, silence):
        assert Classification().learns({"dev_loss": 5.0, "dev_acc": 10.0}, silence, 100)
        assert Task().learns({"dev_loss": 5.0}, silence, 100) and Task().learns({"dev_mse": 1.0}, 1.0, 100)


def test_one_of_the_last_epochs_that_learned_is_enough(folder):
    trainer = make_trainer(folder)
    trainer.silence, poor = 2.3, {"dev_acc": 10.0, "dev_loss": 2.3}
    trainer.history = [{"dev_acc": 80.0, "dev_loss": 0.5}, poor, poor]
    assert trainer.learns()
    trainer.history.append(poor)
    assert not trainer.learns()
