"""--init_from starts layers from a checkpoint, --freeze keeps layers as they are."""

import re
import shutil

import pytest
import torch
from scripts import TINY, same
from small import make_split
from test_snn_train import nested
from torch import nn

import snn
from snn.base.keys import names
from snn.checkpoint import save
from snn.checkpoint.transfer import freeze, start_from
from snn.config import resolve
from snn.layers.sequential import neuron, synapse
from snn.layers.synapses import Unfiltered
from snn.look import inspection
from snn.run.train import Experiment

LOWER = ["0.a1", "0.a2", "0.b1", "1.weight", "1.bias", "4.a1", "4.a2", "4.b1", "5.weight", "5.bias"]
CONFIG = nested(TINY) | {"experiment_name": "other", "save_checkpoint": False}


@pytest.fixture
def source(trained, folder):
    """Return a checkpoint of snn_mlp_1 some of whose filters are unstable."""
    saved = torch.load(trained / "checkpoint/snn_mlp_1/best.pt", weights_only=True)
    saved["model"]["0.a1"][:5] = 2.5
    save(folder / "source.pt", saved)
    return saved["model"]


def classes_and_more(classes):
    """Return a function that makes the network of snn_mlp_1 with this many classes and a layer more."""

    def network(config):
        p = config["hyperparameters"]
        return snn.Sequential(
            synapse(784, p), snn.Linear(784, 500), neuron(p), snn.Dropout(0.3),
            synapse(500, p), snn.Linear(500, 500), neuron(p), snn.Dropout(0.3),
            synapse(500, p), snn.Linear(500, classes), neuron(p), synapse(classes, p),
        )  # fmt: skip

    return network


def test_frozen_layers_are_those_of_the_checkpoint_after_a_training(run, source):
    settings = {"hyperparameters.stable_filters": True, "optimizer.optimizer_choice": "AdamW"}  # which decays weights
    run("snn_mlp_1", "--train", "--init_from", "source.pt", "--freeze", "0, 1,4,Linear 2", settings=settings)
    kept = run.checkpoint("snn_mlp_1")["model"]
    assert run.status == 0 and [name for name, value in kept.items() if torch.equal(value, source[name])] == LOWER
    assert run.err == (
        "note: init_from: synapses 1, Linear 1, synapses 2, Linear 2, synapses 3, Linear 3 start from source.pt\n"
    )
    run("snn_mlp_1", "--train", "--init_from", "source.pt", settings=settings)
    moved = run.checkpoint("snn_mlp_1")["model"]
    assert not any(torch.equal(value, source[name]) for name, value in moved.items())
    assert (moved["0.a1"][:5] < 2).all() and (kept["0.a1"][:5] == 2.5).all()
    run("snn_mlp_1", "--test", settings=settings | {"init_from": "nothing.pt"})
    assert run.status == 0 and not run.err  # the weights are its own: nothing starts from elsewhere


def test_a_tests_pictures_are_from_before_training_too(run, source, monkeypatch):
    run("snn_mlp_1", "--train", "--init_from", "source.pt", settings={"hyperparameters.epoch": 1})
    untrained, made = Experiment._untrained, []
    monkeypatch.setattr(Experiment, "_untrained", lambda one: made.append(untrained(one)) or made[-1])
    monkeypatch.setattr(inspection, "save_pictures", lambda *_: {})
    run("snn_mlp_1", "--inspect")
    assert run.status == 0 and made[0][0].a1.equal(source["0.a1"])


def test_it_resumes_bit_for_bit_without_the_checkpoint_that_it_started_from(run, source, drawn):
    words = ["--train", "--init_from", "source.pt", "--freeze", "0,1"]
    run("snn_mlp_1", *words)
    whole, metrics = run.checkpoint("snn_mlp_1"), run.metrics("snn_mlp_1")
    shutil.rmtree("runs"), shutil.rmtree("checkpoint")
    run("snn_mlp_1", *words, settings={"hyperparameters.epoch": 1})
    (run.folder / "source.pt").unlink()
    run("snn_mlp_1", *words, "--resume")
    again = run.checkpoint("snn_mlp_1")
    assert run.metrics("snn_mlp_1") == metrics and "init_from" not in run.err
    assert all(same(again[part], whole[part]) for part in ("model", "optimizer", "random", "best_model", "config"))
    run("snn_mlp_1", "--train", "--resume", "--freeze", "0,1")
    assert run.status == 2 and "it differs in init_from (was source.pt, now )" in run.err
    run("snn_mlp_1", *words)
    assert run.status == 2 and "no checkpoint at source.pt" in run.err


def test_layers_that_do_not_fit_start_anew(source, capsys):
    run = snn.train(classes_and_more(4), CONFIG | {"init_from": "source.pt", "freeze": [0, 1]}, splits=splits(4))
    assert capsys.readouterr().err == (
        "note: init_from: synapses 1, Linear 1, synapses 2, Linear 2, synapses 3 start from source.pt; "
        "anew: Linear 3, synapses 4\n"
    )
    assert all(torch.equal(value, source[name]) for name, value in run.net.state_dict().items() if name in LOWER[:5])
    torch.manual_seed(5)
    net = classes_and_more(4)(run.config)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    start_from(net, "source.pt")
    taken = [name for name, value in net.state_dict().items() if not torch.equal(value, before[name])]
    assert taken == [name for name in source if not name.startswith("9.")]


def test_filters_that_stable_filters_would_move_are_counted(source, capsys):
    """Five are unstable, and three slower than the margin of the new run's, whose time constants are 4 steps."""
    saved = torch.load("source.pt", weights_only=True)
    for name, value in ("a1", 1.9990), ("a2", -0.99901):  # 1 - a1 - a2 is 1e-5
        saved["model"][f"4.{name}"][:3] = value
    save("source.pt", saved)
    start = CONFIG | {"init_from": "source.pt"}
    stable = start | {"hyperparameters": CONFIG["hyperparameters"] | {"stable_filters": True}}
    snn.train(classes_and_more(10), stable, splits=splits(10))
    assert "note: stable_filters moves 8 of the filters at the first step" in capsys.readouterr().err
    snn.train(classes_and_more(10), start, splits=splits(10))
    assert "stable_filters" not in capsys.readouterr().err


def test_pictures_from_before_training_are_of_the_start_whatever_became_of_the_file(source):
    settings = resolve(CONFIG | {"init_from": "source.pt"})
    experiment = Experiment(classes_and_more(10), settings, None, splits(10))
    save("source.pt", torch.load("source.pt", weights_only=True) | {"model": {}})
    assert torch.equal(experiment._untrained()[0].a1, source["0.a1"])


def test_a_shared_layer_may_start_from_another_network(folder, capsys):
    shared = snn.Linear(6, 6)
    net = snn.Sequential(snn.DualExpIIR(6, 4, 1), shared, snn.SpikingNeuron(4), shared, snn.SpikingNeuron(4))
    save("own.pt", {"config": resolve(CONFIG), "epoch": 0, "model": net.state_dict()})
    start_from(net, "own.pt")
    assert "Linear 1, 3 start from own.pt" in capsys.readouterr().err


def splits(classes):
    made = {"train": make_split(20), "dev": make_split(10), "test": make_split(8)}
    for split in made.values():
        split.labels %= classes
    return made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model["1.weight"].fill_(torch.nan), "1.weight has values that are not finite"),
        (lambda model: model.update({"1.bias": torch.zeros(500, dtype=torch.int64)}), "1.bias in torch.int64"),
        (lambda model: [model.pop(name) for name in list(model) if name != "9.bias"], "no layer of source.pt fits"),
    ],
)
def test_one_line_says_what_is_wrong_with_a_checkpoint(run, source, change, message):
    saved = torch.load("source.pt", weights_only=True)
    change(saved["model"])
    save("source.pt", saved)
    run("snn_mlp_1", "--train", "--init_from", "source.pt")
    assert run.status == 2 and message in run.err and len(run.err.splitlines()) == 1
    assert not (run.folder / "checkpoint").exists()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_what_is_no_ordinary_tensor_does_not_fit(source, capsys):
    net = classes_and_more(10)(snn.load("source.pt").config)
    saved = torch.load("source.pt", weights_only=True)
    saved["model"]["1.weight"] = torch.nested.nested_tensor([torch.zeros(784), torch.zeros(2)])
    save("source.pt", saved)
    start_from(net, "source.pt")
    assert "; anew: Linear 1, synapses 4\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--train", "--freeze", "0,2"], "freeze: no layer '2' with parameters; there are 0 (synapses 1), 1 (Lin"),
        (["--train", "--freeze", "0,1,4,5,8,9"], "freeze: nothing is left to train without 0, 1, 4, 5, 8, 9"),
        (["--train", "--freeze", ""], "an option has an empty value"),
        (["--train", "--freeze", ","], "--freeze: freeze: ',' is not allowed; use names, such as 0,1"),
        (["--train", "--set", "freeze=1.5"], "--set: freeze: 1.5 is not allowed; use names, such as 0,1"),
        (["--train", "--init_from", ""], "an option has an empty value"),
        (["--train", "--init_from", "nothing.pt"], "no checkpoint at nothing.pt"),
        (["--train", "--init_from", "."], "is not a checkpoint"),
        (["--train", "--init_from", "time_series"], "fits one here by name and shape"),
        (["--test", "--freeze", "1"], "--init_from and --freeze are for a training"),
        (["--inspect", "--init_from", "snn_mlp_1"], "--init_from and --freeze are for a training"),
    ],
)
def test_one_line_says_what_is_wrong(run, words, message):
    run("snn_mlp_1", *words)
    assert run.status == 2 and message in run.err.splitlines()[-1]


def test_show_says_where_they_come_from(run):
    lines = run("snn_mlp_1", "--show", "--init_from", "a.pt", "--freeze", "0,synapses 2")
    assert any(re.match(r"init_from: a.pt .*\[--init_from\]", line) for line in lines)
    assert any(re.match(r"freeze: \['0', synapses 2\] .*\[--freeze\]", line) for line in lines)


@pytest.mark.parametrize("value", ["0, a b,1.0", ["0", "a b", "1.0"], [0, "a b", "1.0"]])
def test_names(value):
    assert names(value) == ["0", "a b", "1.0"] and names(0) == ["0"] and names(None) == names("") == []


@pytest.mark.parametrize("value", [True, 0.1, {"0": 1}, [0.1], [True], [["0"]], [None]])
def test_what_are_no_names(value):
    with pytest.raises(ValueError, match="names, such as"):
        names(value)


class Block(snn.Sequential):
    def __init__(self):
        super().__init__(snn.FirstOrderLowPass(784, 4), nn.Linear(784, 12), nn.BatchNorm1d(12), snn.SpikingNeuron(4))


def test_blocks_and_normalizations_are_frozen_whole(folder):
    def network(config):
        return snn.Sequential(nn.Flatten(), Block(), snn.Linear(12, 10), snn.SpikingNeuron(4))

    for layers in (["Block 1"], ["1"], ["1.0", "1.1", "1.2"], ["1.1"]):
        made = snn.train(network, CONFIG | {"freeze": layers})
        torch.manual_seed(made.config["pytorch_seed"])
        before, after = network(made.config).state_dict(), made.net.state_dict()
        changed = {name for name in after if not torch.equal(before[name], after[name])}
        if layers == ["1.1"]:
            assert {"1.0.a1", "1.2.running_mean", "2.weight"} <= changed and "1.1.weight" not in changed
        else:
            assert changed == {"2.weight", "2.bias"}


def test_a_layer_that_shares_a_parameter_is_not_all_that_is_left():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight, net[1].bias = net[0].weight, net[0].bias
    with pytest.raises(snn.UserError, match="freeze: nothing is left to train without 0"):
        freeze(net, ["0"])


def test_stabilize_leaves_untrained_filters():
    net = snn.Sequential(snn.FirstOrderLowPass(3, 4), snn.FirstOrderLowPass(3, 4))
    for layer in net:
        layer.a1.data.fill_(1.5)
    net[0].requires_grad_(False)
    snn.stabilize(net)
    assert (net[0].a1 == 1.5).all() and (net[1].a1 < 1).all()


def test_a_layer_without_a_filter_stays_one():
    """Its coefficient has the name and shape of a first-order synapse's."""
    filtered, unfiltered = snn.FirstOrderLowPass(3, 4), Unfiltered(3)
    unfiltered.load_state_dict(filtered.state_dict())
    x = torch.rand(5, 2, 3)
    assert torch.equal(unfiltered(x)[0], x) and not torch.equal(filtered(x)[0], x)
