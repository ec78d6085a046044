"""Checkpoints of the paper's public code: read, checked, written, and their reference results (SNN_GOLDEN)."""

import math
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from scripts import ROOT

import associative_memory
import snn_conv_1_gesture
import snn_conv_1_mnist
import snn_conv_1_nmnist
import snn_mlp_1
import snn_mlp_2
from snn import checkpoint, config
from snn.base.errors import UserError
from snn.checkpoint import published
from snn.checkpoint.__main__ import main as checkpoint_main
from snn.data import images
from snn.run.step import evaluate
from snn.tasks.classification import Classification

CONFIGS = ROOT / "configs"
GOLDEN, DATASETS = os.environ.get("SNN_GOLDEN"), os.environ.get("SNN_DATASETS")
needs_golden = pytest.mark.skipif(not GOLDEN, reason="SNN_GOLDEN does not name the folder of the reference values")
LAYERS = {
    snn_mlp_1: "axon1 snn1 axon2 snn2 axon3 snn3",
    snn_mlp_2: "axon1 snn1 axon2 snn2 axon3 snn3",
    snn_conv_1_mnist: "axon1 conv1 axon2 conv2 axon3 conv3 axon4 axon5 conv5 axon6 axon7 snn7 axon8 snn8",
    snn_conv_1_nmnist: "axon1 conv1 axon2 conv2 axon3 conv3 axon4 axon5 conv5 axon6 axon7 snn7 axon8 snn8",
    snn_conv_1_gesture: "axon1 conv1 axon2 conv2 axon3 conv3 axon4 snn4 axon5 snn5",
    associative_memory: "axon1 dense1 axon2 dense2 axon3 dense3 axon4 dense4 output_filter",
}


def settings_of(script, *overrides):
    return config.resolve(CONFIGS / f"{script.__name__}.yaml", overrides=overrides)


def theirs(script, *overrides):
    """Return a network with random weights, and the public code's checkpoint of it."""
    settings = settings_of(script, *overrides)
    torch.manual_seed(len(script.__name__))
    net = script.network(settings)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1 + 0.1 * torch.rand_like(parameter))
    return net, published.from_checkpoint({"config": settings, "epoch": 3, "model": net.state_dict()}, net)


@pytest.mark.parametrize("script", LAYERS)
def test_there_and_back(script, tmp_path):
    net, made = theirs(script)
    assert list(made) == ["epoch", "snn_state_dict", "optimizer_state_dict", "loss"] and made["epoch"] == 3
    assert {name.split(".")[0] for name in made["snn_state_dict"]} == set(LAYERS[script].split())
    torch.save(made, tmp_path / "theirs")
    again = script.network(settings_of(script))
    checkpoint.load_model(again, checkpoint.load(tmp_path / "theirs"), "theirs")
    for name, value in net.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


@pytest.mark.parametrize("how", ["zip", "module.", "zip and module."])
def test_as_they_are_released(how, tmp_path):
    net, made = theirs(snn_mlp_2)
    if "module" in how:
        made["snn_state_dict"] = {f"module.{name}": value for name, value in made["snn_state_dict"].items()}
    path = tmp_path / "checkpoint_snn_mlp_2_72"
    torch.save(made, path)
    if "zip" in how:
        with zipfile.ZipFile(tmp_path / "released.zip", "w") as archive:
            archive.write(path, "checkpoints/checkpoint_snn_mlp_2_72")
        path = tmp_path / "released.zip"
    again = snn_mlp_2.network(settings_of(snn_mlp_2))
    checkpoint.load_model(again, checkpoint.load(path), path)
    assert torch.equal(again[0].a1, net[0].a1) and torch.equal(again[-2].weight, net[-2].weight)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"snn2.neuron_cell.weight.bias": None}, "lacks snn2.neuron_cell.weight.bias"),
        (
            {"axon4.first_order_low_pass_cell.alpha_1": torch.ones(10)},
            "has axon4.first_order_low_pass_cell.*, which",
        ),
        ({"snn1.neuron_cell.weight.weight": torch.ones(500, 10)}, r"of shape \[500, 10\], not \[500, 784\]"),
        (
            {"snn1.neuron_cell.reset_decay": torch.full((500,), 0.9)},
            "is 0.9, but 0.778801 here: set .*tau_m",
        ),
        ({"snn3.neuron_cell.sigma": torch.tensor(0.5)}, "snn3.neuron_cell.sigma is 0.5, but 0.4 here"),
        ({"snn3.neuron_cell.reset_v": torch.tensor([1.0] * 9 + [1.1])}, "snn3.neuron_cell.reset_v is 1.1, but 1 here"),
    ],
)
def test_what_does_not_fit(change, message):
    net, made = theirs(snn_mlp_2)
    state = made["snn_state_dict"] | change
    made["snn_state_dict"] = {name: value for name, value in state.items() if value is not None}
    with pytest.raises(UserError, match=message):
        published.to_model(made, net, "file")


def test_of_eleven_gestures_where_ten_are_wanted():
    ten = snn_conv_1_gesture.network(settings_of(snn_conv_1_gesture, "dataset.classes=10"))
    assert ten[-2].out_features == 10
    with pytest.raises(UserError, match=r"snn5.neuron_cell.weight.weight of shape \[11, 256\], not \[10, 256\]"):
        published.to_model(theirs(snn_conv_1_gesture)[1], ten, "file")


def test_of_another_synapse_or_time_constant():
    with pytest.raises(UserError, match="axon1.dual_exp_iir_cell.* which the network lacks"):
        published.to_model(theirs(snn_mlp_1)[1], theirs(snn_mlp_2)[0], "file")
    with pytest.raises(UserError, match="is 0.846482, but 0.778801 here: set hyperparameters.tau_m"):
        published.to_model(theirs(snn_mlp_2, "hyperparameters.tau_m=6")[1], theirs(snn_mlp_2)[0], "file")
    with pytest.raises(UserError, match="output_filter.filter_v0 is .*: set hyperparameters.filter_tau_m"):
        other = theirs(associative_memory, "hyperparameters.filter_tau_m=9")[1]
        published.to_model(other, theirs(associative_memory)[0], "file")


def zip_of(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"something")


@pytest.mark.parametrize(
    "names, message",
    [
        (["a", "b"], "is a zip of 2 files"),
        (["../a"], "points outside its folder"),
        (["a"], "is not a checkpoint or is cut short"),
        ([], "is a zip of 0 files"),
    ],
)
def test_bad_zips(names, message, tmp_path):
    zip_of(tmp_path / "a.zip", *names)
    with pytest.raises(UserError, match=message):
        checkpoint.load(tmp_path / "a.zip")


def test_a_pickle_that_is_no_checkpoint(tmp_path):
    torch.save([1, 2], tmp_path / "a")
    with pytest.raises(UserError, match="has no config, epoch and model, and no snn_state_dict"):
        checkpoint.load(tmp_path / "a")


def test_convert(tmp_path, capsys):
    net, made = theirs(snn_mlp_2)
    torch.save(made, tmp_path / "checkpoint_snn_mlp_2_72")
    checkpoint_main(["convert", str(tmp_path / "checkpoint_snn_mlp_2_72"), str(tmp_path / "ours.pt")])
    ours = checkpoint.load(tmp_path / "ours.pt", "snn_mlp_2")
    assert ours["epoch"] == 3 and torch.equal(ours["model"]["0.a1"], net[0].a1)
    checkpoint_main(["convert", str(tmp_path / "ours.pt"), str(tmp_path / "back")])
    back = torch.load(tmp_path / "back", weights_only=True)
    for name, value in made["snn_state_dict"].items():
        assert torch.equal(back["snn_state_dict"][name], value)
    assert math.isnan(back["loss"])

    torch.save(made, tmp_path / "mine")
    with pytest.raises(SystemExit) as end:
        checkpoint_main(["convert", str(tmp_path / "mine"), str(tmp_path / "no.pt")])
    assert end.value.code == 2 and "its experiment is unknown; name it with --experiment" in capsys.readouterr().err
    assert not (tmp_path / "no.pt").exists()
    checkpoint_main(["convert", str(tmp_path / "mine"), str(tmp_path / "yes.pt"), "--experiment", "snn_mlp_2"])
    assert (tmp_path / "yes.pt").exists()


@needs_golden
@pytest.mark.skipif(not DATASETS, reason="SNN_DATASETS does not name a folder with MNIST/raw")
def test_golden_mlp():
    settings = settings_of(snn_mlp_2, f"dataset.root={DATASETS}")
    net = snn_mlp_2.network(settings)
    path = Path(GOLDEN) / "checkpoint_snn_mlp_2_0"
    checkpoint.load_model(net, checkpoint.load(path), path)
    expected = np.load(f"{path}_expected.npz")
    split = images.load(settings, torch.device("cpu"), (784,))[0]["test"]
    x, _ = next(split.batches(100, torch.Generator()))
    with torch.no_grad():
        counts = net.eval()(x)[0].sum(0)
    assert np.abs(counts.numpy() - expected["spike_counts_first_100"]).sum() <= 3
    correct = evaluate(net, split, settings, Classification()).score
    assert abs(correct - int(expected["test_correct"])) <= 2


@needs_golden
def test_golden_nmnist():
    settings = settings_of(snn_conv_1_nmnist)
    net = snn_conv_1_nmnist.network(settings)
    path = Path(GOLDEN) / "checkpoint_snn_conv_1_nmnist_0"
    checkpoint.load_model(net, checkpoint.load(path), path)
    expected = np.load(f"{path}_expected.npz")
    shape = expected["frames_shape"]
    frames = torch.from_numpy(np.unpackbits(expected["frames"])[: shape.prod()].reshape(shape)).float()
    with torch.no_grad():
        spikes = net.eval()(frames)[0].numpy()
    assert expected["spikes"].sum() > 100
    assert (spikes == expected["spikes"]).mean() >= 0.995


def test_a_yaml_of_the_public_code(tmp_path):
    """It has misspelt keys, keys without effect, no membrane_filter, and a path to its own checkpoint."""
    file = tmp_path / "snn_mlp_1.yaml"
    file.write_text(
        "experiment_name: snn_mlp_1\npytorch_seed: 2\n"
        "hyperparameters: {length: 25, batch_size: 64, synapse_type: dual_exp, epoch: 100, droupout: 0.3, tau_m: 4,"
        " tau_s: 1, filter_tau_m: 4, filter_tau_s: 1, membrane_filer: False,"
        " train_coefficients: True, train_bias: True}\n"
        "optimizer: {optimizer_choice: Adam, Adam: {lr: 1.0e-4}}\n"
        "scheduler: {scheduler_choice: MultiStepLR, MultiStepLR: {milestones: [50, 100], gamma: 0.1}}\n"
        "mnist_config: {max_rate: 1, use_transform: True}\n"
        "checkpoint_base_name: checkpoint_\nacc_file_name: acc\nsave_checkpoint: True\n"
        "checkpoint_base_path: ./checkpoint/\n"
        "test_checkpoint_path: ./checkpoint/checkpoint_snn_mlp_1_72_20200604\n"
    )
    notes = []
    settings = config.resolve(CONFIGS / "snn_mlp_1.yaml", file, warn=notes.append)
    assert settings["hyperparameters"]["dropout"] == 0.3
    assert settings["test_checkpoint_path"] == "./checkpoint/checkpoint_snn_mlp_1_72_20200604"
    assert sum(bool(re.search("droupout|membrane_filer", note)) for note in notes) == 2 and len(notes) == 4
