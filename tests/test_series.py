"""Time series: .ts files, scaling, dev, the encoders, the count up to each series' end, and what is refused."""

import csv
import json
import math
import os
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scripts import ROOT, words_of
from test_record_and_inspect import COMMON, check_page

import snn
from snn import config
from snn.data import series, series_files
from snn.experiments import time_series
from snn.layers.encoders import Delta, Population
from snn.layers.start import initialize
from snn.look import class_plots
from snn.run import folders
from snn.run.passes import Result
from snn.tasks import early
from snn.tasks.classification import Classification
from snn.tasks.series import SeriesClassification

CONFIG = ROOT / "configs/time_series.yaml"
CPU = torch.device("cpu")
HEADER = "#a comment\n@problemName Toy\n@timeStamps false\n@univariate false\n@classLabel true up down\n@data\n"
TRAIN = HEADER + "".join(f"0,1,2,{n}:5,5,5,5:up\n3,2,{n}:5,5,5:down\n" for n in range(5))
BOTH = HEADER + "1,2:up\n3,4:up\n5,6:down\n7,8:down\n"
TEST = HEADER + "0,1,2,3,4:5,5,5,5,6:up\n3,2,1:5,5,5:down\n"
TOY = {"dataset.name": "Toy", "dataset.root": ".", "dataset.differences": "false", "hyperparameters.batches": 0}
QUICK = TOY | {"hyperparameters.epoch": 1, "hyperparameters.length": 8}


def write_toy(folder, train=TRAIN, test=TEST):
    (folder / "Toy").mkdir()
    (folder / "Toy/Toy_TRAIN.ts").write_text(train)
    (folder / "Toy/Toy_TEST.ts").write_text(test)


def resolved(**overrides):
    return config.resolve(CONFIG, overrides=words_of(TOY | overrides)[1::2])


def load(**overrides):
    return series.load(resolved(**overrides), CPU, None)[0]


def scaling(**overrides):
    return torch.tensor(series.measure(resolved(**overrides))["scaling"], dtype=torch.float64).T


def test_a_part_of_a_test_set_that_is_sorted_by_class_has_all_classes():
    settings = config.resolve(CONFIG, overrides=["dataset.test_size=60"])
    labels = series.load(settings, CPU, None)[0]["test"].labels
    assert labels.tolist() == sorted(labels.tolist()) and labels.unique().tolist() == list(range(9))
    settings["dataset"]["test_size"] = 1
    assert len(series.load(settings, CPU, None)[0]["test"]) == 1


def test_ts_files(folder):
    write_toy(folder, train=HEADER.upper().replace("UP DOWN", "up down") + "\n1,?, 3:NaN,5,-6e1:down\n")
    read = series_files.read(folder / "Toy/Toy_TRAIN.ts")
    np.testing.assert_equal(read.values, [[[1, np.nan], [np.nan, 5], [3, -60]]])
    assert read.values[0].dtype == np.float64 and read.labels.tolist() == [1] and read.classes == ["up", "down"]


def test_the_dataset_that_ships():
    vowels = {"dataset.name": "JapaneseVowels", "hyperparameters.hold": 0, "hyperparameters.length": 100}
    settings = config.resolve(CONFIG, overrides=words_of(TOY | vowels)[1::2])
    splits, name = series.load(settings, CPU, None)
    assert [len(splits[part]) for part in ("train", "dev", "test")] == [216, 54, 370] and name == "JapaneseVowels"
    assert splits["dev"].labels.bincount().tolist() == [6] * 9
    assert splits["train"].hold == 3 and splits["train"].length == splits["test"].length == 87
    lengths = torch.cat([split.ends for split in splits.values()]) / 3
    assert lengths.min() == 7 and lengths.max() == 29
    x, targets = splits["train"].batch(torch.arange(216), None)
    assert x.shape == (87, 216, 12) and targets.shape == (2, 216)
    inside = torch.arange(87)[:, None] < targets[1]
    assert x[~inside].eq(0).all()
    torch.testing.assert_close(x[inside].mean(0), torch.zeros(12), atol=1e-5, rtol=0)
    torch.testing.assert_close(x[inside].std(0), torch.ones(12), atol=1e-3, rtol=0)
    assert torch.equal(x[0::3], x[2::3])


def test_scaling_is_from_train_alone_and_padding_is_after_it(folder):
    write_toy(folder, test=TEST.replace("0,1,2,3,4:5,5,5,5,6", "0,1,2,3,1000:5,5,5,5,6"))
    splits, (mean, std) = load(**{"hyperparameters.hold": 2}), scaling()
    train, test = splits["train"], splits["test"]
    known = torch.cat([values[: end // 2] for values, end in zip(train.values * std + mean, train.ends)])
    torch.testing.assert_close(mean, known.mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(std[0], known[:, 0].std(unbiased=False), atol=1e-5, rtol=0)
    assert std[1] == 1  # the channel is constant
    assert test.values[0, 4, 0] > 300 and test.values[0, 4, 1] == 1
    assert test.ends.tolist() == [10, 6] and test.values[1, 3:].eq(0).all() and test.length == train.length == 10


def test_scaling_is_of_the_series_that_train_uses(folder):
    write_toy(folder)
    split, (mean, std) = load(**{"dataset.train_size": 1})["train"], scaling(**{"dataset.train_size": 1})
    (values,) = split.values * std + mean
    torch.testing.assert_close(mean, values[: split.ends // split.hold].mean(0), atol=1e-5, rtol=0)


def test_other_values_are_another_fingerprint(folder):
    write_toy(folder)
    before = {name: split.fingerprint() for name, split in load().items()}
    (folder / "Toy/Toy_TEST.ts").write_text(TEST.replace("0,1,2,3,4", "0,1,2,3,4.5"))
    after = {name: split.fingerprint() for name, split in load().items()}
    assert [name for name in before if before[name] != after[name]] == ["test"]


@pytest.mark.parametrize("refit, train", [(False, 8), (True, 10)])
def test_dev_is_stratified_and_from_the_seed(folder, refit, train):
    write_toy(folder)
    splits = load(**{"dataset.refit": refit})
    assert (len(splits["train"]), len(splits["dev"])) == (train, 2)
    assert sorted(splits["dev"].labels.tolist()) == [0, 1]
    assert torch.equal(load(**{"dataset.refit": refit})["dev"].values, splits["dev"].values)
    others = [load(**{"pytorch_seed": seed})["dev"].values for seed in range(6)]
    assert any(not torch.equal(other, others[0]) for other in others)


def test_missing_values_are_held_and_said(folder, capsys):
    write_toy(folder, test=HEADER + "?,1,?,NaN,4:5,5,5,5,6:up\n3,2,1:5,5,5:down\n")
    values = load()["test"].values[0, :, 0]
    assert values[0] == 0 and values[1] == values[2] == values[3] != 0
    assert "note: Toy: 3 missing values" in capsys.readouterr().err


def test_classes_in_another_order(folder):
    write_toy(folder, test=TEST.replace("up down", "down up"))
    assert load()["test"].labels.tolist() == [0, 1]


def test_values_with_a_large_offset_stay_different(folder, capsys):
    """A clock, an absolute position: float32 would make one value of them."""
    channel_2 = f"0.3{',0.30000000000000004' * 39}"  # constant but for rounding
    rows = ((n, [1.7e9 + 30 * np.sin(0.2 * t + 0.73 * n) for t in range(40)]) for n in range(10))
    lines = [",".join(map(repr, map(float, row))) + f":{channel_2}:{('up', 'down')[n % 2]}\n" for n, row in rows]
    write_toy(folder, HEADER + "".join(lines), HEADER + "".join(lines))
    values = load()["test"].values
    assert len(values[..., 0].unique()) > 390 and 0.9 < values[..., 0].std() < 1.1
    assert abs(values[..., 1]).max() < 1e-15 and "constant in train, so no help: channels 2" in capsys.readouterr().err


def test_one_series_of_each_class_trains_with_refit(run):
    write_toy(run.folder, HEADER + "1,2:3,4:up\n1,2:3,5:down\n")
    run("time_series", "--train", settings=QUICK | {"dataset.refit": True})
    assert run.status == 0, run.err


def test_differences_are_more_channels(folder):
    write_toy(folder)
    plain, more = load(), load(**{"dataset.differences": "true"})
    mean, std = scaling(**{"dataset.differences": "true"})
    for name, split in more.items():
        values, ends = split.values * std + mean, split.ends
        torch.testing.assert_close(split.values[..., :2], plain[name].values)
        for series_, end in zip(values, ends):
            expected = series_[:end, :2].diff(dim=0, prepend=series_[:1, :2])
            torch.testing.assert_close(series_[:end, 2:], expected, atol=1e-5, rtol=0)
        assert split.values[0, ends[0] :].eq(0).all()


def test_long_series_are_averaged(folder):
    write_toy(folder, test=HEADER + "0,1,2,3,4:5,5,5,5,6:up\n3,2,1:5,5,5:down\n")
    settings = {"hyperparameters.pool": 0, "hyperparameters.length": 2, "hyperparameters.hold": 1}
    (mean, std), test = scaling(**settings), load(**settings)["test"]
    values = test.values * std + mean
    assert test.ends.tolist() == [3, 2] and test.length == 3  # the longest of train has 4 steps, so 2 are one
    torch.testing.assert_close(values[0, :, 0], torch.tensor([0.5, 2.5, 4], dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(values[1, :2, 0], torch.tensor([2.5, 1], dtype=torch.float64), atol=1e-6, rtol=0)
    one = load(**settings | {"hyperparameters.pool": 1})["test"]
    assert torch.equal(one.values, load()["test"].values)


def test_small_training_sets_come_several_times(folder):
    write_toy(folder)
    splits = load(**{"hyperparameters.batches": 5, "hyperparameters.batch_size": 3})
    train, once = splits["train"], load()["train"]
    assert (len(once), train.repeats, len(train), splits["dev"].repeats) == (8, 2, 16, 1)
    x, targets = train.batch(torch.arange(16), None)
    assert torch.equal(x[:, 8:], x[:, :8]) and torch.equal(x[:, :8], once.batch(torch.arange(8), None)[0])
    assert torch.equal(targets[:, 8:], targets[:, :8])
    result = Result(0.7, 3, 6, {}, 0)
    folders.write_result(folder, "toy", splits, torch.device("cpu"), 1, 0, SeriesClassification(), result)
    assert json.loads((folder / "result.json").read_text())["samples"]["train"] == 8


def test_a_bank_gives_every_channel_filters_of_all_time_scales():
    settings = resolved(**{"encoding": "bank", "hyperparameters.lines": 24, "hyperparameters.length": 200})
    settings["measured"] = {"classes": ["up", "down"], "scaling": [[0, 1]] * 3, "longest": 100}
    copies, bank = list(time_series.network(settings))[:2]
    x = torch.rand(9, 2, 3)
    lines = snn.Sequential(copies)(x)[0]
    assert lines.shape == (9, 2, 24) and all(torch.equal(lines[..., n], x[..., n % 3]) for n in range(24))
    tau = -1 / bank.poles()[0].log()
    ring = bank.a1**2 + 4 * bank.a2 < 0
    for channel in range(3):
        assert ring[channel::3].sum() == 4 and tau[channel::3].min() < 5 and tau[channel::3].max() > 30
    assert tau.max() == pytest.approx(50, rel=0.01)  # half the series


def test_the_start_is_awake_however_long_the_series_and_silent_for_a_stretch():
    for longest, channels in ((24, 1), (1460, 1), (80, 30)):
        settings = resolved(encoding="bank", **{"hyperparameters.length": 2000})
        settings["measured"] = {"classes": list("abcde"), "scaling": [[0, 1]] * channels, "longest": longest}
        torch.manual_seed(0)
        net = time_series.network(settings)
        initialize(net, settings["hyperparameters"])
        x = torch.randn(longest, 20, channels).cumsum(0)
        x = (x - x.mean(0)) / x.std(0)
        x[longest // 3 : longest // 2] = 0
        targets = torch.stack([torch.arange(20) % 5, torch.full((20,), longest)])
        with snn.record(net, what=["spikes"]) as trace:
            y, _ = net(x)
        rates = [spikes.mean((0, 1)) for spikes in trace.spikes.values()]
        assert all(0.02 < rate.mean() < 0.9 and (rate > 0).float().mean() > 0.7 for rate in rates)
        loss = SeriesClassification().of(settings).loss(y, targets)
        assert loss < 10 * math.log(5)
        loss.backward()
        assert all(p.grad.abs().sum() > 0 for p in net.parameters())


def test_a_loss_of_rates_does_not_grow_with_the_series():
    y, targets = torch.rand(6, 3, 4).round(), torch.tensor([[1, 2, 3], [6, 2, 4]])
    task = SeriesClassification().of({"hyperparameters": {"length": 5, "rate_scale": 10}})
    longer = targets * torch.tensor([[1], [5]])
    torch.testing.assert_close(task.loss(y.repeat_interleave(5, 0), longer), task.loss(y, targets))
    rates = torch.stack([10 * y[:end, n].mean(0) for n, end in enumerate([6, 2, 4])])
    torch.testing.assert_close(task.loss(y, targets), torch.nn.functional.cross_entropy(rates, targets[0]))
    assert task.score(y, targets) == SeriesClassification().score(y, targets)


def test_a_run_says_what_it_does(run):
    write_toy(run.folder)
    settings = QUICK | {"encoding": "bank", "hyperparameters.batches": 7, "hyperparameters.batch_size": 4}
    lines = run("time_series", "--train", settings=settings)
    assert run.status == 0 and re.search(": 8 train, 2 dev, 2 test", lines[0]), run.err
    assert re.match(r"1 epochs of 8 batches, each sample 4 times; 5 time steps; \d+ filters with .* of 2 to 8 steps, "
                    r"\d+ ring", lines[1])  # fmt: skip


def test_population_is_a_gain_and_a_bias_for_each_neuron():
    layer, x = Population(2, 3, tau_m=4), torch.randn(20, 5, 2)
    with torch.no_grad():
        layer.gain.copy_(torch.randn(2, 3))
        layer.bias.copy_(torch.rand(2, 3))
    current = torch.einsum("tbc,cn->tbcn", x, layer.gain) + layer.bias
    expected, _ = snn.SpikingNeuron(4)(current.flatten(2))
    spikes, _ = layer(x)
    assert torch.equal(spikes, expected) and 0 < spikes.mean() < 1
    spikes.sum().backward()
    assert layer.gain.grad.abs().min() > 0 and layer.bias.grad.abs().min() > 0


@pytest.mark.parametrize("layer", [Population(3, 5, 4), Delta(3, 0.1)])
def test_encoders_take_their_channels_alone(layer):
    with pytest.raises(ValueError, match=r"takes \[T, B, 3\], got \[4, 2, 1\]"):
        layer(torch.rand(4, 2, 1))


def test_delta_spikes_where_the_value_crosses_the_next_level():
    layer = Delta(1, threshold=0.5)
    x = torch.tensor([0, 0.6, 0.6, 1.2, 2.9, 2.9, 2.9, 0.0])[:, None, None].requires_grad_()
    spikes, state = layer(x)
    assert spikes[:, 0].tolist() == [[0, 0], [1, 0], [0, 0], [1, 0], [1, 0], [1, 0], [1, 0], [0, 1]]
    assert state.item() == 4  # levels above 0
    again, ends = [], None
    for step in x.split(1):
        y, ends = layer(step, ends)
        again.append(y)
    assert torch.equal(torch.cat(again), spikes)
    spikes.sum().backward()
    assert layer.gain.grad.abs() > 0


def test_unfiltered_synapses_pass_their_input_on():
    synapse, x = snn.layers.sequential.synapse(3, {"synapse_type": "none"}), torch.randn(6, 2, 3)
    assert torch.equal(synapse(x)[0], x) and not any(value.requires_grad for value in synapse.parameters())


def test_spikes_after_a_series_end_do_not_count():
    y, targets = torch.rand(6, 3, 4).round(), torch.tensor([[1, 2, 3], [6, 2, 4]])
    cut = [Classification().loss(y[:end, n : n + 1], targets[0, n : n + 1]) for n, end in enumerate([6, 2, 4])]
    torch.testing.assert_close(SeriesClassification().loss(y, targets), torch.stack(cut).mean())
    y = torch.zeros(6, 1, 4)
    y[0, 0, 1], y[4:, 0, 2] = 1, 1
    assert SeriesClassification().score(y, torch.tensor([[1], [4]])) == 1
    assert SeriesClassification().score(y, torch.tensor([[1], [6]])) == 0


def test_early_answers(folder, capsys):
    """The answer of each share is that of the spikes so far, and the last share's is the test's."""

    class Split(snn.data.base.Split):
        device, __len__ = CPU, lambda self: 2

        def batch(self, indices, generator):
            x = torch.zeros(20, 2, 2)
            x[2, 0, 0], x[11:13, 0, 1] = 1, 1  # 0 from a tenth on, 1 after 13 of 20 steps
            x[0, 1, 0] = 1
            return x[:, indices], torch.tensor([[1, 0], [20, 10]])[:, indices]

    class Same(torch.nn.Module):
        def forward(self, x, state=None):
            return x, None

    hyperparameters = {"batch_size": 1, "chunk": 0, "truncate": 0}
    settings = {"hyperparameters": hyperparameters, "precision": "float32", "ties": "first", "states": "zero"}
    right = early.right_by_share(Same(), Split(), settings, SeriesClassification())
    assert right[:, 1].all() and right[:, 0].tolist() == [False] * 12 + [True] * 8

    class Carrying(torch.nn.Module):
        def forward(self, x, state=None):
            return (x if state is None else x + state), x.sum(0)

    for states, all_right in (("zero", True), ("preserved", False)):  # the first series' class is carried on
        again = early.right_by_share(Carrying(), Split(), settings | {"states": states}, SeriesClassification())
        assert again[-1, 1] == all_right
    early.report(right, folder)
    out = capsys.readouterr().out
    assert "right after 10% of each series: 50.0 %" in out
    assert "of the series that end right, half are right from 65% of their length on" in out
    with open("early.csv") as file:
        rows = list(csv.DictReader(file))
    assert (rows[11], rows[12]) == ({"share": "0.6", "accuracy": "50.0"}, {"share": "0.65", "accuracy": "100.0"})


class TestScript:
    @pytest.mark.parametrize("encoding", ["current", "bank", "population", "delta"])
    def test_train_test_and_stream(self, run, encoding):
        write_toy(run.folder)
        settings = QUICK | {"encoding": encoding, "hyperparameters.epoch": 2}
        lines = run("time_series", "--train", settings=settings)
        assert run.status == 0, run.err
        assert re.fullmatch(r"test accuracy: \d+\.\d\d % \([012]/2\), Toy", lines[-1])
        assert run("time_series", "--test", settings=settings)[-1] == lines[-1]
        run.monkeypatch.syspath_prepend(str(ROOT))
        net, split = snn.load("checkpoint/time_series/best.pt"), load(**settings)["test"]
        x, _ = split.batch(torch.arange(2), None)
        state, outputs = None, []
        for sample in x:
            y, state = net.step(sample, state)
            outputs.append(y)
        assert torch.equal(torch.stack(outputs), net(x)[0])

    def test_a_checkpoint_holds_what_its_answers_depend_on(self, run):
        """Another seed or size would scale differently, and the classes may come in another order."""
        write_toy(run.folder)
        settings = QUICK | {"hyperparameters.epoch": 2, "pytorch_seed": 5, "dataset.train_size": 7}
        trained = run("time_series", "--train", settings=settings)[-1]
        measured = run.checkpoint("time_series", "best")["config"]["measured"]
        other = QUICK | {"pytorch_seed": 3, "dataset.train_size": 2, "hyperparameters.length": 16}
        assert run("time_series", "--test", settings=other)[-1] == trained
        (run.folder / "Toy/Toy_TEST.ts").write_text(TEST.replace("true up down", "true down up"))
        (run.folder / "Toy/Toy_TRAIN.ts").write_text(TRAIN.replace("true up down", "true down up"))
        assert run("time_series", "--test", settings=other)[-1] == trained
        shutil.rmtree(run.folder / "Toy")
        run.monkeypatch.syspath_prepend(str(ROOT))
        net = snn.load("checkpoint/time_series/best.pt")
        assert net.config["measured"] == measured and measured["classes"] == ["up", "down"]

    @pytest.mark.parametrize("train, test", [(TRAIN.replace("up", "left"), TEST.replace("up", "left")), (BOTH, BOTH)])
    def test_a_dataset_of_other_classes_or_channels_is_one_line(self, run, train, test):
        write_toy(run.folder)
        run("time_series", "--train", settings=QUICK)
        (run.folder / "Toy/Toy_TRAIN.ts").write_text(train)
        (run.folder / "Toy/Toy_TEST.ts").write_text(test)
        run("time_series", "--test", settings=QUICK)
        assert run.status == 2 and re.search("the network (takes 2|does not know: left)", run.err.splitlines()[-1])

    def test_checkpoints_with_broken_measures_are_one_line(self, run):
        write_toy(run.folder)
        run("time_series", "--train", settings=QUICK)
        for name, value in (
            ("classes", ["up"]), ("classes", [torch.ones(1), "up"]), ("scaling", [[0.0, 0.0]] * 2),
            ("scaling", [[math.nan, 1.0]] * 2), ("scaling", []), ("longest", 0), ("odd", 1),
        ):  # fmt: skip
            saved = run.checkpoint("time_series", "best")
            saved["config"]["measured"][name] = value
            torch.save(saved, "bad.pt")
            run("time_series", "--test", "--checkpoint", "bad.pt", settings=QUICK)
            assert run.status == 2 and re.match(r"error: .*(measured\.|it may hold)", run.err.splitlines()[-1]), run.err

    def test_a_checkpoint_from_before_it_held_them_is_measured_as_it_was(self, run):
        write_toy(run.folder)
        settings = QUICK | {"hyperparameters.epoch": 2, "pytorch_seed": 5, "dataset.train_size": 7}
        trained = run("time_series", "--train", settings=settings)[-1]
        saved = run.checkpoint("time_series", "best")
        measured = saved["config"].pop("measured")
        torch.save(saved, "old.pt")
        other = QUICK | {"pytorch_seed": 3, "dataset.train_size": 2}
        assert run("time_series", "--test", "--checkpoint", "old.pt", settings=other)[-1] == trained
        assert snn.load("old.pt").config["measured"] == measured

    def test_the_last_epoch_is_kept(self, run):
        write_toy(run.folder)
        lines = run("time_series", "--train", settings=QUICK | {"hyperparameters.epoch": 3})
        assert any(line.startswith("best epoch 2:") for line in lines)

    @pytest.mark.parametrize("encoding", ["current", "bank", "population", "delta"])
    def test_what_is_drawn_as_encoded_is_the_encoders_spikes(self, encoding):
        settings = resolved(encoding=encoding)
        settings["measured"] = {"classes": ["up", "down"], "scaling": [[0, 1]] * 2, "longest": 4}
        net, x = time_series.network(settings), torch.rand(9, 3, 2)
        with snn.record(net) as trace:
            net(x)
        encoded = SeriesClassification().encoded(SimpleNamespace(net=net, trace=trace, x=x))
        assert encoded is None if encoding in ("current", "bank") else encoded is trace.spikes["0"]

    def test_inspect(self, run, monkeypatch, drawn):
        confusion, classes = class_plots.confusion, []
        monkeypatch.setattr(class_plots, "confusion", lambda *of: classes.extend(of[1]) or confusion(*of))
        settings = {"hyperparameters.epoch": 1, "dataset.train_size": 30, "dataset.test_size": 40, "precision": "bf16"}
        settings["hyperparameters.surrogate"] = "Gaussian"  # its loops on bfloat16 are compiled for other tests too
        tested = run("time_series", "--train", settings=settings)
        assert "no picture" not in run.err
        assert run("time_series", "--inspect", settings=settings)[-1] == tested[-1]
        assert run.status == 0 and "no picture" not in run.err, run.err
        (page,) = run.folder.glob("runs/time_series/*/index.html")
        check_page(page.parent, [*COMMON, "mistakes", "early"])
        assert classes == list("123456789")  # of the speakers, which begin with 1
        with open(page.parent / "early.csv") as file:
            last = list(csv.DictReader(file))[-1]
        assert float(last["accuracy"]) == float(tested[-1].split()[2])


BAD_SERIES = {
    "no @data": (TRAIN.replace("@data", "#"), r"Toy_TRAIN.ts, line 7: neither a line with @ nor .* no line @data"),
    "header alone": (HEADER.replace("@data", ""), "Toy_TRAIN.ts has no line @data"),
    "channels": (TRAIN + "1,2:up\n", "Toy_TRAIN.ts, line 17: 1 channels, where the first series has 2"),
    "unequal channels": (TRAIN + "1,2:1,2,3:up\n", "line 17: its channels have 2, 3 values"),
    "label": (TRAIN + "1,2:3,4:left\n", "line 17: label 'left' is not among the classes of the header: up down"),
    "no label": (TRAIN + "1,2:3,4\n", "line 17: its label is missing"),
    "no number": (TRAIN + "1,2:3,x4:up\n", "line 17: channel 2: 'x4' is not a finite number"),
    "infinite": (TRAIN + "1,-inf:3,4:up\n", "line 17: channel 1: '-inf' is not a finite number"),
    "too large": (TRAIN + "1,1e399:3,4:up\n", "line 17: channel 1: '1e399' is not a finite number"),
    "too large to scale": (TRAIN + 9 * "1,1e200:3,4:up\n", "Toy_TRAIN.ts: channel 1 has values too large to scale"),
    "one of a class": (HEADER + "1,2:3,4:up\n1,2:3,4:down\n", "one series of each class.*set dataset.refit=true"),
    "empty value": (TRAIN + "1,:3,4:up\n", "line 17: channel 1: '' is not a finite number"),
    "underscore": (TRAIN + "1,1_0:3,4:up\n", "line 17: channel 1: '1_0' is not a finite number"),
    "other digits": (TRAIN + "1,\u0661\u0662:3,4:up\n", "line 17: channel 1: '.*' is not a finite number"),
    "one step": (TRAIN + "1:3:up\n", "line 17: a series of one step"),
    "empty": ("", "Toy_TRAIN.ts is empty"),
    "no series": (HEADER, "Toy_TRAIN.ts has no series"),
    "one class": (TRAIN.replace(":down", ":up"), "Toy_TRAIN.ts: all series are of class up"),
    "one class label": (TRAIN.replace(" down\n", "\n"), "line 5: @classLabel true and the names of two classes"),
    "no class label": (TRAIN.replace("@classLabel true", "@targetLabel"), "line 6: there is no line @classLabel"),
    "timestamps": (TRAIN.replace("@timeStamps false", "@timeStamps true"), "line 3: series with timestamps"),
    "binary": ("\0\ufffd\x07" * 99, "Toy_TRAIN.ts, line 1: neither a line with @"),
}  # fmt: skip
BAD_TEST = {
    "other channels": (HEADER + "1,2:up\n3,4:down\n", "Toy_TEST.ts has 1 channels, the network takes 2"),
    "other classes": (TEST.replace(" up", " left up"), "Toy_TEST.ts has classes .* does not know: left; .* up, down"),
    "far from train": (TEST.replace("0,1,2", "0,1,1e39"), "value 1e.39 in channel 1 of series 1 is too far"),
    "no file": (None, "Toy_TEST.ts can't be read: No such file"),
}  # fmt: skip


@pytest.mark.parametrize("bad", [*BAD_SERIES, *BAD_TEST])
def test_bad_files_are_one_line(run, bad):
    train, test = (BAD_SERIES[bad][0], TEST) if bad in BAD_SERIES else (TRAIN, BAD_TEST[bad][0])
    write_toy(run.folder, train, test or "")
    if test is None:
        (run.folder / "Toy/Toy_TEST.ts").unlink()
    run("time_series", "--train", settings=QUICK)
    message = (BAD_SERIES | BAD_TEST)[bad][1]
    lines = [line for line in run.err.splitlines() if not line.startswith("note: ")]
    assert run.status == 2 and len(lines) == 1, run.err
    assert re.search(message, lines[0]) and lines[0].startswith("error: ")


@pytest.mark.parametrize("name", ["BasicMotions", "../Toy", "toy"])
def test_an_absent_dataset_says_where_to_get_it(run, name):
    run("time_series", "--train", settings={"dataset.name": name})
    assert run.status == 2 and len(run.err.splitlines()) == 1
    expected = r"timeseriesclassification.com/description.php\?Dataset=BasicMotions, .* data/time_series/BasicMotions"
    assert re.search(expected if name == "BasicMotions" else "dataset.name: .* is not allowed", run.err)


@pytest.mark.parametrize(
    "name, channels, classes, sizes",
    [("BasicMotions", 6, 4, (40, 40)), ("Epilepsy", 3, 4, (137, 138)), ("ItalyPowerDemand", 1, 2, (67, 1029)),
     ("GunPoint", 1, 2, (50, 150))],
)  # fmt: skip
def test_datasets_of_the_archive(name, channels, classes, sizes):
    root = os.environ.get("SNN_DATASETS")
    if not root or not os.path.isdir(f"{root}/time_series/{name}"):
        pytest.skip(f"SNN_DATASETS names no folder with time_series/{name}")
    overrides = [f"dataset.root={root}/time_series", f"dataset.name={name}", "dataset.refit=true"]
    overrides += ["dataset.differences=false", "hyperparameters.batches=0"]
    settings = config.resolve(CONFIG, overrides=overrides)
    measured = series.measure(settings)
    assert (len(measured["scaling"]), len(measured["classes"])) == (channels, classes)
    splits = series.load(settings, CPU, None)[0]
    assert (len(splits["train"]), len(splits["test"])) == sizes
    assert splits["train"].labels.unique().tolist() == list(range(classes))


def test_a_dataset_that_is_no_time_series_is_one_line(run):
    run("time_series", "--train", settings={"dataset.name": "digits"})
    said = "'digits' is not allowed; use a folder's name that begins with a capital, such as Wrist"
    assert run.status == 2 and run.err.splitlines()[-1] == f"error: --set: dataset.name: {said}"


def test_a_part_of_dev_has_many_classes():
    settings = config.resolve(CONFIG, overrides=["dataset.dev_size=18"])
    dev = series.load(settings, CPU, None)[0]["dev"]
    assert len(dev) == 18 and len(dev.labels.unique()) > 4


def test_the_gradient_of_delta_does_not_go_through_what_it_follows():
    layer, x = Delta(1, 0.5), torch.tensor([0, 0.6, 0.6, 1.2, 0.3])[:, None, None]
    weights = torch.arange(10.0).view(5, 1, 2)
    spikes, _ = layer(x)
    (spikes * weights).sum().backward()
    up, down = spikes[:, 0].detach().T
    followed = torch.cat([torch.zeros(1), (up - down).cumsum(0)[:-1]])
    gain, slope = layer.gain.detach().requires_grad_(), layer.surrogate
    error = gain * x[:, 0, 0] - followed
    parts = [sign * slope.gradient((sign * error - 1).detach(), *slope.constants) * error for sign in (1, -1)]
    (torch.stack(parts, 1) * weights[:, 0]).sum().backward()
    torch.testing.assert_close(layer.gain.grad, gain.grad)
