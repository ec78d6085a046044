"""The parts of training: what an epoch counts, optimizers, schedulers, carried states."""

from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from scripts import TINY, same, words_of
from small import make_net, make_split, make_trainer, resolve
from torch import nn
from torch.nn.utils import get_total_norm, parametrizations, prune

import snn
from snn.base.errors import UserError
from snn.kernels.products import cpu_has_bf16, matrix_products
from snn.layers.start import initialize
from snn.layers.state import Preserved
from snn.look import drive, inspection
from snn.run import optimizers, passes
from snn.run.cli import main
from snn.run.finite import FiniteWatch
from snn.run.step import evaluate, loss_of_silence, train_step
from snn.tasks.classification import Classification
from snn.tasks.gestures import Gestures
from snn.tasks.series import SeriesClassification
from snn_mlp_1 import network


def test_an_epoch_counts_every_sample_once_also_in_a_smaller_last_batch():
    net, split = make_net(), make_split(23)
    result = evaluate(net, split, resolve("hyperparameters.batch_size=5"), Classification())
    counts = net(split.images.float().div(255).view(23, 784).expand(5, -1, -1))[0].sum(0)
    assert result.total == 23
    assert result.score == (counts.argmax(1) == split.labels).sum()
    assert result.loss == pytest.approx(F.cross_entropy(counts, split.labels).item(), rel=1e-5)
    assert Classification().value(result) == 100 * result.score / 23


def make_pass(count):
    task, generator = Classification(), torch.Generator()
    return passes.Pass(make_split(count), task, resolve("hyperparameters.batch_size=5"), generator, "dev")


def test_a_pass_keeps_what_the_next_batch_overwrites():
    """As a CUDA graph does, which has one place for its results."""
    whole, sums, spikes = make_pass(13), torch.zeros(4, dtype=torch.float64), {"2": torch.zeros(10)}
    for batch in whole:
        sums.fill_(batch.number + 1), spikes["2"].fill_(10 * batch.number)
        whole.add(batch, sums, None, spikes)
    result = whole.result()
    assert (result.total, result.score, result.ties) == (13, 6, 6) and result.spikes["2"].tolist() == [30] * 10


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_pass_shows_its_progress(monkeypatch, capsys, is_terminal):
    monkeypatch.setattr(passes, "tqdm", bar := mock.MagicMock())
    bar.return_value.disable, clock = not is_terminal, iter(range(0, 1000, 40))
    monkeypatch.setattr(passes.time, "monotonic", lambda: next(clock))
    whole = make_pass(13)
    for batch in whole:
        whole.add(batch, torch.tensor([2.0, 2, 0, 0], dtype=torch.float64), None)
    status = ["40.00 % (loss 0.4000)", "40.00 % (loss 0.4000)", "46.15 % (loss 0.4615)"]
    done = [f"dev: {done}/13 samples, {text}" for done, text in zip((5, 10, 13), status)]
    assert capsys.readouterr().out.splitlines() == ([] if is_terminal else done)
    shown = [call.args[0] for call in bar.return_value.set_postfix_str.call_args_list]
    assert shown == (status if is_terminal else [])


def test_a_pass_that_is_left_closes_its_bar(monkeypatch):
    monkeypatch.setattr(passes, "tqdm", bar := mock.MagicMock())
    with pytest.raises(KeyError):
        for _ in make_pass(13):
            raise KeyError
    bar.return_value.__exit__.assert_called_once()


def test_evaluation_leaves_the_network_as_it_was():
    net = snn.Sequential(nn.BatchNorm1d(784), *make_net())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    evaluate(net, make_split(8), resolve(), Classification())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_kaiming_passes_gradients_through_layers_that_are_silent():
    """At 0 the surrogate has lost 95 % in each layer, half-way to the threshold a half."""

    def gradient(init):
        torch.manual_seed(0)
        layers = ((snn.DualExpIIR(64, 4, 1), snn.Linear(64, 64), snn.SpikingNeuron(4)) for _ in range(6))
        net = snn.Sequential(*(layer for three in layers for layer in three))
        initialize(net, {"init": init, "threshold": 1.0})
        y, _ = net((torch.rand(20, 8, 64) < 0.02).float())
        F.cross_entropy(y.sum(0), torch.arange(8)).backward()
        return net, net[1].weight.grad.norm()

    (net, reached), (_, published) = gradient("kaiming"), gradient("published")
    assert reached > 1000 * published > 0
    for layer in net[1::3]:
        assert torch.equal(layer.bias, torch.full((64,), 0.5))
        assert layer.weight.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.05)


@pytest.mark.parametrize("init", ["kaiming", "diverse"])
def test_a_weight_that_torch_computes_starts_as_any_other(init):
    found = []
    for change in (lambda layer: layer, parametrizations.weight_norm):
        net = snn.Sequential(change(nn.Linear(64, 50)), change(nn.Linear(50, 10)))
        torch.manual_seed(0)
        initialize(net, {"init": init, "threshold": 1.0})
        found.append([tensor for layer in net for tensor in (layer.weight, layer.bias)])
    for computed, plain in zip(found[1], found[0]):
        torch.testing.assert_close(computed, plain)
    pruned = prune.l1_unstructured(nn.Linear(64, 10), "weight", 0.5)
    torch.manual_seed(0)
    initialize(snn.Sequential(pruned), {"init": "kaiming", "threshold": 1.0})
    kept = pruned.weight_mask != 0
    assert pruned.weight_orig[kept].std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.15)
    by_hook = nn.Linear(64, 10)
    by_hook.weight_v = nn.Parameter(by_hook.weight.data)
    del by_hook.weight
    by_hook.weight = by_hook.weight_v * 2
    with pytest.raises(UserError, match="init: torch computes the weight of Linear from others: use published"):
        initialize(snn.Sequential(by_hook), {"init": init, "threshold": 1.0})


def test_a_diverse_start_gives_each_neuron_of_the_first_layer_a_few_inputs():
    layers = [nn.Linear(64, 500), nn.Linear(500, 64), nn.Conv2d(1, 4, 1)]
    torch.manual_seed(0)
    initialize(nn.Sequential(*layers), {"init": "diverse", "threshold": 2.0})
    first, second, _ = layers
    assert ((first.weight != 0).sum(1) == 4).all() and ((first.weight != 0).sum(0) > 0).all()
    assert first.weight.norm(dim=1).square().mean().item() == pytest.approx(2, rel=0.1)  # as kaiming's
    assert 0 <= first.bias.min() < 0.1 and 3.9 < first.bias.max() <= 4
    assert (second.weight != 0).all() and second.bias.eq(1).all()
    in_time, attention = nn.Conv1d(64, 8, 3), nn.MultiheadAttention(8, 2)
    before = attention.out_proj.weight.clone()
    initialize(nn.Sequential(in_time, attention), {"init": "kaiming", "threshold": 2.0})
    assert in_time.bias.eq(1).all() and torch.equal(attention.out_proj.weight, before)
    small = nn.Conv2d(1, 6, 1)
    initialize(nn.Sequential(small), {"init": "diverse", "threshold": 1.0})
    assert (small.weight != 0).all()
    initialize(nn.Sequential(small), {"init": "diverse", "threshold": -0.5})
    assert -1 <= small.bias.min() and small.bias.max() <= 0


def test_of_equal_epochs_the_first_is_kept(folder):
    trainer = make_trainer(folder, "hyperparameters.epoch=2", "optimizer.Adam.lr=0.01")
    trainer.task.value = lambda _: 50.0
    trainer.fit()
    kept, last = (torch.load(trainer.folder / f"{name}.pt", weights_only=True) for name in ("best", "last"))
    assert trainer.best["epoch"] == kept["epoch"] == 0 and last["epoch"] == 1
    assert same(trainer.net.state_dict(), kept["model"]) and not same(kept["model"], last["model"])


@pytest.mark.parametrize("factor", [0.1, 1])
def test_gradients_are_clipped_by_groups(factor):
    """Weights and coefficients each to the same norm, whatever the others' is; 0 clips none."""
    norms = {}
    for clip in (0, 1e-3):
        torch.manual_seed(0)
        net, settings = make_net(), resolve(f"optimizer.clip={clip}", f"optimizer.coefficients_lr_factor={factor}")
        optimizer = optimizers.make_optimizer(settings, net)
        x, targets = next(iter(make_split(8).batches(8, torch.Generator())))
        train_step(net, optimizer, FiniteWatch(optimizer), Classification(), settings, x, targets)
        norms[clip] = [get_total_norm([p.grad for p in group["params"]]).item() for group in optimizer.param_groups]
    assert len(norms[0]) == (1 if factor == 1 else 2) and min(norms[0]) > 1e-3
    assert norms[1e-3] == pytest.approx([1e-3, 1e-3], rel=1e-2)


def test_preserved_states_go_through_a_smaller_batch():
    """Two batches of 3 and 2 samples: rows 0 and 1 see both, row 2 waits; all are detached."""
    net, preserved = make_net(), Preserved()
    x = torch.rand(5, 5, 784)
    assert preserved.take(3) is None
    preserved.keep(net(x[:, :3], preserved.take(3))[1])
    preserved.keep(net(x[:, 3:], preserved.take(2))[1])
    both = net(torch.cat([x[:, :2], x[:, 3:]]))[1]
    first = net(x[:, :3])[1]
    psp, _, (v, r) = preserved.take(3)
    for carried, twice, once in ((psp, both[0], first[0]), (v, both[2][0], first[2][0]), (r, both[2][1], first[2][1])):
        torch.testing.assert_close(carried[:2], twice)
        torch.testing.assert_close(carried[2], once[2])
        assert not carried.requires_grad


def test_preserved_states_of_a_longer_batch():
    """A batch of 3 after one of 2: row 2 starts from zero, and is kept from then on."""
    net, preserved = make_net(), Preserved()
    x = torch.rand(5, 5, 784)
    preserved.keep(net(x[:, :2], preserved.take(2))[1])
    preserved.keep(net(x[:, 2:], preserved.take(3))[1])
    twice, once = net(torch.cat([x[:, :2], x[:, 2:4]]))[1], net(x[:, 4:])[1]
    (psp, _, (v, r)) = preserved.take(3)
    for carried, both, first in ((psp, twice[0], once[0]), (v, twice[2][0], once[2][0]), (r, twice[2][1], once[2][1])):
        torch.testing.assert_close(carried, torch.cat([both, first]))


@pytest.mark.parametrize("choice", ["Adam", "AdamW", "SGD"])
def test_optimizers_take_what_is_trained(choice):
    net = make_net()
    net[1].bias.requires_grad_(False)
    optimizer = optimizers.make_optimizer(
        resolve(f"optimizer.optimizer_choice={choice}", f"optimizer.{choice}.lr=0.25"), net
    )
    assert type(optimizer) is getattr(torch.optim, choice)
    (group,) = optimizer.param_groups
    assert group["lr"] == 0.25
    assert group["params"] == [net[0].a1, net[1].weight]


@pytest.mark.parametrize("decayed", [True, False])
def test_weight_decay_spares_coefficients_where_asked(decayed):
    """Without any gradient, decay alone moves parameters: torch's AdamW takes a hundredth of lr off."""
    net, settings = make_net(), ["optimizer.optimizer_choice=AdamW", "optimizer.AdamW.lr=0.5"]
    optimizer = optimizers.make_optimizer(resolve(*settings, f"optimizer.decay_coefficients={decayed}"), net)
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in net.named_parameters():
        kept = 1 if name == "0.a1" and not decayed else 0.995
        torch.testing.assert_close(parameter.detach(), kept * before[name])


def learning_rates(steps, *overrides):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = optimizers.make_scheduler(resolve(*overrides), optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_schedulers():
    choice = "scheduler.scheduler_choice="
    assert optimizers.make_scheduler(resolve(choice + "none"), None) is None
    rates = learning_rates(5, choice + "MultiStepLR", "scheduler.MultiStepLR.milestones=[2,3]")
    assert rates == pytest.approx([1, 1, 0.1, 0.01, 0.01])
    rates = learning_rates(5, choice + "CosineAnnealingWarmRestarts", "scheduler.CosineAnnealingWarmRestarts.T_0=2")
    assert rates == pytest.approx([1, 0.5, 1, 0.5, 1])
    bounds = ("scheduler.CyclicLR.base_lr=1", "scheduler.CyclicLR.max_lr=3", "scheduler.CyclicLR.step_size_up=2")
    assert learning_rates(5, choice + "CyclicLR", *bounds) == pytest.approx([1, 2, 3, 2, 1])


def test_filters_stay_in_float32_when_products_run_in_less():
    """With `precision: bf16`, dense layers take and give bfloat16; states, coefficients and gradients are float32."""
    net, seen = make_net(), []
    net[1].register_forward_hook(lambda _, x, y: seen.extend([x[0].dtype, y.dtype]))
    with torch.autocast("cpu", torch.bfloat16):
        spikes, (psp, _, (v, r)) = net(torch.rand(5, 3, 784))
    spikes.sum().backward()
    assert seen == [torch.bfloat16, torch.bfloat16]
    assert {tensor.dtype for tensor in (spikes, psp[0], v, r)} == {torch.float32}
    assert {p.grad.dtype for p in net.parameters()} == {torch.float32}


def test_an_output_in_half_precision_becomes_float32():
    net = snn.Sequential(snn.DualExpIIR(7, 4, 1), nn.Linear(7, 5))
    for precision in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", precision):
            assert net(torch.rand(3, 2, 7))[0].dtype == torch.float32


def test_a_layer_of_ones_own_sees_float32():
    """Also one that derives from a layer whose kernel takes bfloat16: it may compute before it calls the kernel."""
    seen = []

    class Own(snn.SpikingNeuron):
        def forward(self, x, state=None):
            seen.append(x.dtype)
            return x * 2, ()

    with torch.autocast("cpu", torch.bfloat16):
        snn.Sequential(nn.Linear(7, 5), Own(4), snn.DualExpIIR(5, 4, 1))(torch.rand(3, 2, 7))
    assert seen == [torch.float32]


def test_precision(monkeypatch, capsys):
    cpu = torch.device("cpu")
    with matrix_products("tf32", cpu):
        assert torch.backends.cudnn.allow_tf32
    with matrix_products("float32", cpu):
        assert not torch.backends.cudnn.allow_tf32 and not torch.is_autocast_enabled("cpu")
    for features, bf16 in (({"avx512bf16": True}, True), ({"bf16": True}, True), ({"avx512f": True}, False)):
        cpu_has_bf16.cache_clear()
        monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda features=features: features)
        for _ in range(3):
            with matrix_products("bf16", cpu):
                assert torch.is_autocast_enabled("cpu") == bf16
    cpu_has_bf16.cache_clear()
    assert capsys.readouterr().err == (
        "note: precision bf16: this CPU has no instructions for it; products run in float32\n"
    )


class TestTies:
    """Classes with as many spikes: the first is the answer, or the one whose neuron was driven most."""

    Y = torch.tensor([[[1.0, 1, 0], [0, 0, 0], [0, 1, 0]], [[0, 0, 1], [0, 0, 0], [0, 0, 0]]])  # [2, 3, 3]
    DRIVE = torch.tensor([[[0.0, 5, 2], [-3, -2, -1], [9, 0, 9]], [[0, 0, 4], [0, 0, 0], [9, 0, 9]]])
    LABELS = torch.tensor([2, 2, 1])

    def test_they_are_counted_and_decided(self):
        task = Classification()
        assert task.ties(self.Y, self.LABELS) == 2 and task.score(self.Y, self.LABELS) == 1
        settled = task.settled(self.Y, self.DRIVE, self.LABELS)
        assert task.score(settled, self.LABELS) == 3 and (settled.sum(0) - self.Y.sum(0)).max() < 0.01

    def test_drive_after_the_end_of_a_series_does_not_count(self):
        task, ends = SeriesClassification(), torch.tensor([1, 2, 2])
        settled = task.settled(self.Y, self.DRIVE, torch.stack([torch.tensor([1, 2, 1]), ends]))
        assert task.score(settled, torch.stack([torch.tensor([1, 2, 1]), ends])) == 3

    def test_drive_is_the_current_of_the_last_neurons_also_through_pooling(self):
        net = snn.Sequential(
            snn.DualExpIIR(5, 4, 1), snn.Linear(5, 6), snn.SpikingNeuron(4), snn.DualExpIIR(6, 4, 1),
            snn.Linear(6, 20), snn.SpikingNeuron(4), torch.nn.AvgPool1d(10),
        )  # fmt: skip
        x = 3 * torch.rand(7, 4, 5)
        with torch.no_grad(), drive.recorded(net) as drives:
            y, _ = net(x)
            current = net[:5](x)[0]
        expected = current.unflatten(2, (2, 10)).mean(3)
        torch.testing.assert_close(drive.of_output(net, drives, y), expected)
        assert y.shape == expected.shape and not net[5]._forward_hooks

    def test_drive_of_networks_of_other_kinds(self):
        """Nested, in a module of one's own, or with a layer over time behind the last neurons."""
        front = [snn.DualExpIIR(5, 4, 1), snn.Linear(5, 6), snn.SpikingNeuron(4)]
        end = snn.Sequential(snn.DualExpIIR(6, 4, 1), snn.Linear(6, 3), snn.SpikingNeuron(4))
        x = 3 * torch.rand(7, 4, 5)

        class Wrapped(nn.Module):
            def __init__(self):
                super().__init__()
                self.end, self.front = end, snn.Sequential(*front)

            def forward(self, x, state=None):
                return self.end(self.front(x)[0])

        for net, there in ((snn.Sequential(*front, end), True), (snn.Sequential(*front, *end[:2]), False),
                           (Wrapped(), False), (snn.Sequential(snn.Sequential(*front, *end)), True)):  # fmt: skip
            with torch.no_grad(), drive.recorded(net) as drives:
                y, _ = net(x)
            found = drive.of_output(net, drives, y)
            assert (found is not None) == there, net
        with pytest.raises(UserError, match="ties: potential needs a network"):
            Classification().settled(y, None, torch.zeros(4, dtype=torch.long))

    @pytest.mark.parametrize("steps, classes", [(250, 60), (5000, 10)])
    def test_many_spikes_or_classes_keep_the_order(self, steps, classes):
        y, drives = torch.ones(steps, 40, classes), torch.randn(steps, 40, classes)
        settled = Classification().settled(y, drives, torch.zeros(40, dtype=torch.long))
        assert torch.equal(settled.sum(0).argmax(1), drives.sum(0).argmax(1))

    def test_ties_of_averages_are_counted(self):
        spikes = torch.zeros(7, 1, 20)
        for neuron, count in enumerate([7, 2, 3, 4, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 4, 3, 2, 7]):
            spikes[:count, 0, neuron] = 1
        y = nn.AvgPool1d(10)(spikes)
        assert Classification().ties(y, torch.zeros(1, dtype=torch.long)) == 1

    def test_a_network_without_output_neurons_is_told_before_it_trains(self, folder):
        net = snn.Sequential(snn.FirstOrderLowPass(784, 4), nn.Linear(784, 10))
        with pytest.raises(UserError, match="ties: potential needs a network whose last layer"):
            make_trainer(folder, "ties=potential", net=net)

    def test_an_association_has_none(self, run, monkeypatch):
        monkeypatch.setattr(inspection, "report", lambda *_: {})
        run("associative_memory", "--train", settings={"ties": "potential", "hyperparameters.epoch": 1})
        assert run.status == 0 and "ties:" not in run.out, run.err

    def test_the_rule_may_change_when_a_run_resumes(self, run):
        run("snn_mlp_1", "--train", settings={"hyperparameters.epoch": 1})
        run("snn_mlp_1", "--train", "--resume", settings={"ties": "potential"})
        assert run.status == 0 and "note: ties: potential from now on, first so far" in run.err

    @pytest.mark.parametrize("script", ["snn_mlp_1", "time_series"])
    def test_a_silent_network_answers_by_potential(self, run, script):
        """A threshold out of reach makes every answer a tie."""
        settings = {"hyperparameters.threshold": 1e6, "hyperparameters.epoch": 1, "hyperparameters.init": "published"}
        run(script, "--train", settings=settings)
        potential = run(script, "--test", settings=settings | {"ties": "potential"})
        total = potential[-1].partition("/")[2].partition(")")[0]
        assert f"ties: in {total} of {total} test samples" in run.out
        assert "the potential decides" in run.out
        if script == "time_series":
            (table,) = [Path(line.split(": ")[1]) / "early.csv" for line in potential if line.startswith("run folder")]
            assert f"1.0,{float(potential[-1].split()[2])}" in table.read_text()


@pytest.mark.parametrize(
    "column, message",
    [
        ({"note": "fine"}, "columns() of task Odd: note is 'fine', not a number"),
        ({"dev_acc": float("nan")}, "epoch 0: dev_acc is not finite; there is no checkpoint of this run yet"),
        ({"train_acc": None}, "columns() of task Odd: there is no train_acc, its metric"),
    ],
)
def test_a_task_with_columns_that_are_no_numbers(run, column, message):
    """With an accuracy of nan no epoch would be better than the first."""

    class Odd(Classification):
        def columns(self, train, dev):
            columns = super().columns(train, dev) | column
            return {name: value for name, value in columns.items() if value is not None}

    with pytest.raises(SystemExit), pytest.MonkeyPatch.context() as patch:
        patch.chdir(run.folder)
        words = words_of(TINY | {"hyperparameters.epoch": 1})
        main("snn_mlp_1", network, Odd(), argv=["--train", *words])
    assert f"error: {message}" in run.capsys.readouterr().err


@pytest.mark.parametrize("rate_scale", [0, 25])
def test_labels_that_no_output_stands_for(rate_scale):
    task = Classification()
    task.rate_scale = rate_scale
    with pytest.raises(UserError, match="labels go from 1 to 3, and the network has 3 outputs: it needs one for each"):
        task.loss(torch.ones(5, 2, 3), torch.tensor([1, 3]))


def test_a_task_may_not_number_the_epochs(folder):
    trainer = make_trainer(folder)
    columns = trainer.task.columns
    trainer.task.columns = lambda *results: columns(*results) | {"epoch": 7}
    trainer.fit()
    assert trainer.history[0]["epoch"] == 0


class Noise(nn.Module):
    """Draws, also in eval mode."""

    def forward(self, x):
        return (torch.rand_like(x) < x).float()


def test_a_network_that_draws_in_a_test_draws_the_same_again_and_leaves_the_generator_as_it_was():
    net, split, settings = snn.Sequential(Noise(), *make_net()), make_split(9), resolve("hyperparameters.batch_size=5")
    before = torch.get_rng_state()
    results = [evaluate(net, split, settings, Classification()) for _ in range(2)]
    assert results[0].loss == results[1].loss and torch.equal(torch.get_rng_state(), before)
    other = resolve("hyperparameters.batch_size=5", "pytorch_seed=9")
    assert evaluate(net, split, other, Classification()).loss != results[0].loss


def test_a_cycle_of_learning_rates_is_stepped_once_a_batch(folder):
    cycle = "scheduler_choice=CyclicLR", "CyclicLR.base_lr=1e-4", "CyclicLR.max_lr=6e-4", "CyclicLR.step_size_up=10"
    trainer = make_trainer(folder, *(f"scheduler.{key}" for key in cycle), "hyperparameters.epoch=2")
    trainer.fit()
    assert [row["lr"] for row in trainer.history] == pytest.approx([1e-4, 3.5e-4])  # after five batches


def test_of_gestures_that_are_as_often_right_those_with_the_lower_loss_are_better():
    same, lower, right = ({"dev_acc": acc, "dev_loss": loss} for acc, loss in ((50, 0.3), (50, 0.2), (60, 0.9)))
    better = Gestures().is_better
    assert better(lower, same) and better(right, lower)
    assert not better(same, lower) and not better(lower, right) and not better(same, same)


def test_a_test_carries_states_from_batch_to_batch_where_training_did():
    """Two batches of the same samples: the second starts where the first ended."""
    net, split = make_net(), make_split(8)
    split.images[4:], split.labels[4:] = split.images[:4].clone(), split.labels[:4].clone()
    losses = {}
    for states in ("zero", "preserved"):
        settings = resolve(f"states={states}", "hyperparameters.batch_size=4")
        losses[states] = evaluate(net, split, settings, Classification()).loss
    x = split.images[:4].float().div(255).view(4, 784).expand(5, -1, -1)
    y, state = net(x)
    first, second = (F.cross_entropy(of.sum(0), split.labels[:4]).item() for of in (y, net(x, state)[0]))
    assert losses == {"zero": pytest.approx(first), "preserved": pytest.approx((first + second) / 2)}
    assert first != second


def test_what_is_looked_at_beside_a_training_draws_apart(folder, drawn):
    """Else a resumed run, which looks once more, would go on otherwise."""
    trainer = make_trainer(folder, net=snn.Sequential(Noise(), *make_net()))
    before = torch.get_rng_state()
    trainer._picture()
    loss_of_silence(trainer.net, make_split(9), resolve(), Classification())
    assert torch.equal(torch.get_rng_state(), before)
