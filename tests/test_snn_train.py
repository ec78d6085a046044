"""snn.train: what the command line does, in one call from Python."""

import math
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from scripts import TINY, TINY_SERIES, same
from small import make_net, make_split, make_trainer

import snn
from snn import report
from snn.config import resolve
from snn.data.base import Split
from snn.report import read_run
from snn.run.train import Experiment
from snn.tasks.answers import Answers
from snn.tasks.association import Association
from snn.tasks.base import Task
from snn.tasks.classification import Classification


def network(config):
    return make_net()


def nested(settings):
    """Return settings such as TINY as they are in a YAML."""
    made = {}
    for key, value in settings.items():
        *groups, name = key.split(".")
        group = made
        for of in groups:
            group = group.setdefault(of, {})
        group[name] = value
    return made


def without_seconds(lines):
    return [re.sub(r"[\d.]+ s\b", "", line) for line in lines]


SMALL = nested(TINY)
OWN = {"experiment_name": "own", "dataset": {"name": "digits"}, "device": "cpu", "hyperparameters": {"epoch": 2}}
SPLITS = {"train": make_split(20), "dev": make_split(10), "test": make_split(8)}


def test_it_does_what_the_command_line_does(run, folder, capsys):
    lines = run("snn_mlp_1", "--train")
    saved, metrics = run.checkpoint("snn_mlp_1", "best"), run.metrics("snn_mlp_1")
    run.folder = folder / "python"
    run.folder.mkdir()
    run.monkeypatch.chdir(run.folder)
    made = snn.train("snn_mlp_1", SMALL, verbose=True)
    said, err = capsys.readouterr()
    assert not err and without_seconds(said.splitlines()) == without_seconds(lines[:4])
    assert lines[-1] == f"test accuracy: {100 * made.test.score / 24:.2f} % ({made.test.score:.0f}/24), embedded digits"
    assert run.metrics("snn_mlp_1") == metrics and [row["epoch"] for row in made.metrics] == [0, 1]
    assert made.best == made.metrics[saved["epoch"]] and not made.net.training
    assert same({**made.net.state_dict()}, {**saved["model"]}) and made.config == saved["config"]
    assert made.folder.resolve() == next(run.folder.glob("runs/snn_mlp_1/*"))
    assert {"config.yaml", "metrics.csv", "result.json"} <= {file.name for file in made.folder.iterdir()}


def test_an_experiment_has_its_own_task_and_nothing_is_printed(folder, capsys):
    """Of a series the last epoch is the best, and a report on early answers belongs to its test."""
    made = snn.train("time_series", {"hyperparameters": {"epoch": 2}, "device": "cpu"})
    assert made.best is made.metrics[1] and (made.folder / "early.csv").exists()
    assert made.config["measured"]["classes"] and capsys.readouterr() == ("", "")


class TestOnEpoch:
    def test_true_ends_the_run(self, folder):
        rows = []
        made = snn.train("snn_mlp_1", SMALL, on_epoch=lambda row: rows.append(row) or np.bool_(True))
        assert rows == made.metrics and len(rows) == 1 and made.test.total == 24

    def test_what_it_raises_comes_out_and_the_run_can_be_resumed(self, run):
        class Pruned(Exception):
            pass

        def prune(row):
            raise Pruned

        run.monkeypatch.chdir(run.folder)
        with pytest.raises(Pruned):
            snn.train("snn_mlp_1", SMALL, on_epoch=prune)
        assert run.checkpoint("snn_mlp_1")["epoch"] == 0
        run("snn_mlp_1", "--train", "--resume")
        assert run.status == 0 and len(run.metrics("snn_mlp_1")) == 2

    def test_what_it_draws_changes_nothing(self, folder):
        """Also by loading a network, whose weights are drawn before they are replaced. It draws anew in each epoch."""
        drawn = []

        def watch(row):
            snn.load("checkpoint/snn_mlp_1/last.pt")
            drawn.append(torch.rand(1).item())

        runs = [snn.train("snn_mlp_1", SMALL, on_epoch=on_epoch, test=False) for on_epoch in (None, watch)]
        losses = [[row["train_loss"] for row in made.metrics] for made in runs]
        assert losses[0] == losses[1] and len({*drawn}) == len(drawn) == 2

    def test_it_may_change_its_row(self, folder):
        trainer = make_trainer(folder)
        trainer.fit(on_epoch=lambda row: row.clear())
        assert trainer.history[0]["epoch"] == 0


def test_the_callers_random_numbers_go_on(folder):
    """Else all later trials of a random search would be the same one."""
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    assert torch.rand(1) == expected[0]
    snn.train("snn_mlp_1", SMALL)
    snn.load("snn_mlp_1")
    assert torch.rand(1) == expected[1]


def test_a_run_without_a_test_says_which_epoch_it_kept(run):
    """Of a series that is the last one, also where another is better on dev; resumed, the run is tested."""
    run.monkeypatch.chdir(run.folder)
    made = snn.train("time_series", nested(TINY | TINY_SERIES), test=False)
    rows = (made.folder / "metrics.csv").read_text().splitlines()
    (made.folder / "metrics.csv").write_text("\n".join([rows[0], re.sub(r",[\d.]+", ",99", rows[1], count=2), rows[2]]))
    found = read_run(made.folder)
    assert found.best["epoch"] == 1 and "test" not in found.result and found.best_dev < 99
    report.main(["runs"])
    assert "| not yet |" in run.capsys.readouterr().out
    run("time_series", "--train", "--resume")
    assert "test" in read_run(made.folder).result


def test_what_is_not_trained_of_layers_of_ones_own():
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.synapse, self.gru = snn.DualExpIIR(4, 4, 1), torch.nn.GRU(4, 3)
            self.attention = torch.nn.MultiheadAttention(4, 1, bias=True)
            torch.nn.utils.parametrizations.weight_norm(self.attention.out_proj, "bias", dim=None)

    trained = {}
    for key in ("train_coefficients", "train_bias"):
        net = Experiment(lambda _: Own(), resolve({**OWN, "hyperparameters": {key: False}}), None, SPLITS).net
        trained[key] = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    weights = {"gru.weight_ih_l0", "gru.weight_hh_l0", "attention.in_proj_weight", "attention.out_proj.weight"}
    norms = {f"attention.out_proj.parametrizations.bias.original{n}" for n in (0, 1)}
    biases = {"gru.bias_ih_l0", "gru.bias_hh_l0", "attention.in_proj_bias"} | norms
    assert trained["train_coefficients"] == weights | biases
    assert trained["train_bias"] == weights | {"synapse.a1", "synapse.a2", "synapse.b1"}


def test_a_signal_stops_it(folder):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(snn.Stopped) as stop:
        snn.train("snn_mlp_1", SMALL, on_epoch=lambda row: signal.raise_signal(signal.SIGTERM))
    assert stop.value.saved and signal.getsignal(signal.SIGTERM) == before


def test_networks_and_data_of_ones_own_in_threads(folder, capsys):
    """Two at a time; a config may hold what search tools draw, and paths."""

    def trial(number):
        config = OWN | {"experiment_name": f"trial_{number}", "checkpoint_base_path": folder / "kept"}
        config["hyperparameters"] = {"epoch": np.int64(2), "batch_size": 8, "tau_m": np.float64(3.5)}
        return snn.train(network, config, splits=SPLITS, test=number > 0)

    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(trial, range(3)))
    assert [run.test and run.test.total for run in runs] == [None, 8, 8] and capsys.readouterr() == ("", "")
    for number, run in enumerate(runs):
        saved = torch.load(folder / f"kept/trial_{number}/last.pt", weights_only=True)
        assert saved["epoch"] == 1 and saved["config"] == run.config
        assert ("test" in read_run(run.folder).result) == (number > 0)


def of_size(lines, classes):
    return lambda _: snn.Sequential(snn.DualExpIIR(lines, 4, 1), snn.Linear(lines, classes), snn.SpikingNeuron(4))


def test_a_network_of_ones_own_has_the_task_that_its_data_needs(folder):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 2, 9)), ["up", "down"] * 10
    made = snn.train(of_size(2, 2), OWN, dataset=snn.data.series.from_arrays(X, y, X[:6], y[:6]))
    assert made.test.total == 6 and snn.Predictor(made.net)(X[:3])[0][0] in ("up", "down")
    made = snn.train(of_size(4, 6), OWN | {"dataset": {"name": "qtdb", "train_size": 8, "dev_size": 4, "test_size": 4}})
    assert made.test.total == 4


def test_a_network_has_the_config_that_it_was_trained_with_last(folder):
    net = of_size(784, 10)(None)
    for length in 6, 7:
        made = snn.train(lambda _: net, OWN | {"hyperparameters": {"epoch": 1, "length": length}}, test=False)
        assert made.net.config["hyperparameters"]["length"] == length
    net.config = "its own"
    assert snn.train(lambda _: net, OWN, test=False).net.config == "its own"


def test_a_layer_that_runs_on_other_neurons_is_named(folder):
    neuron = snn.SpikingNeuron(4)
    first, second = snn.Sequential(snn.Linear(784, 9), neuron), snn.Sequential(snn.Linear(9, 10), neuron)
    with pytest.raises(snn.UserError, match=r"runs on \[9\] and on \[10\]: give each of its places a layer"):
        snn.train(lambda _: snn.Sequential(first, second), OWN)


class Echoes(Split):
    """Eight samples whose targets are themselves."""

    device = torch.device("cpu")

    def __len__(self):
        return 8

    def batch(self, indices, generator):
        x = (indices.float()[None, :, None] % 3).expand(5, -1, 4)
        return x, x


def test_an_association_of_ones_own_data_has_no_recall_to_report(folder, drawn):
    splits = {part: Echoes() for part in ("train", "dev", "test")}
    made = snn.train(of_size(4, 4), OWN, task=Association(), splits=splits)
    assert math.isfinite(made.test.loss) and not (made.folder / "recall.csv").exists()


def test_a_resolved_config_is_one_too_and_so_is_a_yaml(folder):
    settings = resolve(OWN | {"hyperparameters": {"epoch": 1}})
    (folder / "own.yaml").write_text(yaml.safe_dump(settings))
    for config in (settings, "own.yaml"):
        assert snn.train(network, config, splits=SPLITS).config == settings


def poor(**changes):
    return SPLITS | changes


@pytest.mark.parametrize(
    "call, message",
    [
        (partial(snn.train, "snn_mlp_3"), "no experiment 'snn_mlp_3' ships: .*snn_mlp_1"),
        (partial(snn.train, "os"), "no experiment 'os' ships"),
        (partial(snn.train, "snn_mlp_1", {"hyperparameters": {"epochs": 3}}), "config: hyperparameters.epochs: "),
        (partial(snn.train, "snn_mlp_1", {"hyperparameters": 3}), "config: hyperparameters: keys and values expected"),
        (partial(snn.train, "snn_mlp_1", {"hyperparameters": {"epoch": network}}), "config: .*it may hold strings"),
        (partial(snn.train, network), "config: dataset.name: None is not allowed"),
        (partial(snn.train, network, {"dataset": {"name": "digits"}}), "experiment_name"),
        (partial(snn.train, network, OWN, splits=poor(dev=make_split(0))), "its split dev has no sample"),
        (partial(snn.train, network, OWN, splits=poor(test=[1])), "its split test is list, not a Split"),
        (partial(snn.train, network, OWN, splits=SPLITS, task=Association), r"pass an object, Association\(\)"),
        (partial(snn.train, lambda config: None, OWN), "must return a torch.nn.Module, not NoneType"),
        (partial(snn.train, lambda config: snn.Sequential(snn.SpikingNeuron(4)), OWN), "has no parameters to train"),
    ],
)  # fmt: skip
def test_a_mistake_is_a_user_error_before_anything_is_written(folder, call, message):
    with pytest.raises(snn.UserError, match=message):
        call()
    assert not list(folder.iterdir())


SMALL_DATA = {"time_series": "JapaneseVowels", "sequential_mnist_permuted": "digits"}


@pytest.mark.parametrize("name", SMALL_DATA)
def test_a_runs_config_trains_again_also_with_what_was_measured(folder, name):
    few = {"name": SMALL_DATA[name], "train_size": 16, "dev_size": 8, "test_size": 8}
    # Its loops on bfloat16 are compiled for no other test.
    once = snn.train(name, {"dataset": few, "precision": "float32", "hyperparameters": {"epoch": 1, "length": 49}})
    again = snn.train(name, once.config)
    assert once.config["measured"] and again.config == once.config
    assert again.metrics[0]["train_loss"] == once.metrics[0]["train_loss"]


def test_pictures_from_before_training_are_of_the_filters_as_they_were_drawn(folder):
    def drawn(config):
        net = make_net()
        torch.seed()
        net[0].a1.data.uniform_(0.5, 0.9)
        return net

    experiment = Experiment(drawn, resolve(OWN), None, SPLITS)
    start = experiment.net[0].a1.clone()
    experiment.train()
    assert torch.equal(experiment._untrained()[0].a1, start) and not torch.equal(experiment.net[0].a1, start)


def test_a_task_keeps_what_its_class_says_where_the_config_says_nothing():
    class Late(Classification):
        first, rate_scale = 5, 7

    settings = resolve(OWN)
    task = Late().of(settings)
    assert (task.first, task.rate_scale) == (5, 7)
    settings["hyperparameters"] |= {"readout": 0.5, "rate_scale": 3, "length": 10}
    task = Late().of(settings)
    assert (task.first, task.rate_scale) == (5, 3)


def test_a_task_of_ones_own_may_answer(folder):
    """Its scores are no counts of spikes, so that none are equal."""

    class Own(Task):
        classifies = True

        def loss(self, y, targets):
            return F.cross_entropy(y.mean(0), targets)

        def answers(self, y, settled, targets):
            return Answers(y.mean(0), y.mean(0).argmax(1), targets)

    made = snn.train(network, OWN, task=Own(), splits=SPLITS)
    rows = (made.folder / "predictions.csv").read_text().splitlines()
    assert len(rows) == 1 + 8 and all(row.endswith(",no") for row in rows[1:])
    assert (made.folder / "result.json").exists()


@pytest.mark.parametrize("length, share, first", [(25, 0.28, 18), (100, 0.07, 93), (784, 0.25, 588), (10, 0.25, 7)])
def test_the_share_of_the_steps_that_counts(length, share, first):
    settings = {"hyperparameters": {"length": length, "readout": share}}
    assert Classification().of(settings).first == first
