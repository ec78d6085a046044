"""The weights that ship: how they are made, that they are intact, and that --test uses them."""

import hashlib
import importlib
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from scripts import ROOT, TINY, TINY_CNN

import snn
from snn import checkpoint, config
from snn.base.errors import UserError
from snn.checkpoint import published
from snn.checkpoint.__main__ import main as checkpoint_main
from snn.checkpoint.__main__ import release
from snn.experiments import snn_mlp_1
from snn.run import cli

SHIPPED = sorted((ROOT / "weights").glob("*.pt"))
MEASURED = "time_series", "sequential_mnist_permuted"  # what their answers depend on besides weights


@pytest.mark.parametrize("half", [False, True])
def test_release(trained, tmp_path, half):
    source, target = trained / "checkpoint/snn_mlp_1/best.pt", tmp_path / "snn_mlp_1.pt"
    checkpoint_main(["release", str(source), str(target), *(["--half"] if half else [])])
    saved, released = torch.load(source, weights_only=True), checkpoint.load(target, "snn_mlp_1")
    assert released.keys() == {"config", "epoch", "model"} and released["epoch"] == saved["epoch"]
    assert released["config"]["hyperparameters"]["length"] == 12  # as it was trained
    assert released["config"]["dataset"]["name"] == "mnist"  # as the project's config has it
    for name, value in saved["model"].items():
        rounded = half and name.endswith(("weight", "bias"))
        assert torch.equal(released["model"][name], value.half() if rounded else value)
    digest, name = (tmp_path / "snn_mlp_1.pt.sha256").read_text().split()
    assert name == target.name and digest == hashlib.sha256(target.read_bytes()).hexdigest()
    assert target.stat().st_size < source.stat().st_size / (7 if half else 3.5)  # source: Adam's moments, and the best


@pytest.mark.parametrize("command", ["release", "convert"])
def test_what_is_read_is_not_replaced(command, trained, tmp_path, capsys):
    source, other = tmp_path / "last.pt", tmp_path / "other.pt"
    shutil.copy(trained / "checkpoint/snn_mlp_1/last.pt", source)
    (tmp_path / "link.pt").symlink_to(source)
    other.write_text("older")
    whole = source.read_bytes()
    for target in (source, tmp_path / "link.pt"):
        with pytest.raises(SystemExit, match="2"):
            checkpoint_main([command, str(source), str(target)])
        assert f"error: {target} is a file that was read, and would be lost" in capsys.readouterr().err
        assert source.read_bytes() == whole
    checkpoint_main([command, str(source), str(other)])
    assert capsys.readouterr().out == f"{other} written, in place of what was there\n"


def test_a_conversion_over_released_weights_has_their_digest_too(trained, tmp_path):
    source, target = trained / "checkpoint/snn_mlp_1/best.pt", tmp_path / "w.pt"
    for command in "release", "convert":
        checkpoint_main([command, str(source), str(target)])
    assert published.is_published(checkpoint.load(target))


def test_release_of_the_public_codes_checkpoint(tmp_path):
    states = {"epoch": 0, "snn_state_dict": {}, "optimizer_state_dict": {}, "loss": 0.0}
    torch.save(states, tmp_path / "theirs")
    with pytest.raises(UserError, match="convert it first"):
        release(tmp_path / "theirs", tmp_path / "out.pt")


def test_weights_that_are_not_as_their_digest_says(trained, tmp_path):
    target = tmp_path / "snn_mlp_1.pt"
    release(trained / "checkpoint/snn_mlp_1/best.pt", target)
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 1
    target.write_bytes(content)
    with pytest.raises(UserError, match=r"its SHA-256 is not the one in snn_mlp_1.pt.sha256"):
        checkpoint.load(target)


@pytest.mark.parametrize("change", [{"config": []}, {"config": {}}, {"model": []}, {"model": {"1.weight": 0.5}}])
def test_checkpoints_with_other_things_in_them(trained, tmp_path, change):
    saved = torch.load(trained / "checkpoint/snn_mlp_1/best.pt", weights_only=True)
    torch.save(saved | change, tmp_path / "odd.pt")
    with pytest.raises(UserError, match="odd.pt has no config, epoch and model"):
        checkpoint.load(tmp_path / "odd.pt")


@pytest.mark.parametrize("states", [[1], {"a": 0.5}, {1: torch.zeros(2)}, None])
def test_the_public_codes_checkpoint_with_other_things_in_it(tmp_path, states):
    torch.save({"epoch": 0, "snn_state_dict": states}, tmp_path / "odd")
    with pytest.raises(UserError, match="odd has no config, epoch and model, and no snn_state_dict, of tensors"):
        checkpoint.load(tmp_path / "odd")


def test_a_config_in_which_no_network_can_be_made(trained):
    with pytest.raises(UserError, match="best.pt: the network of its config can't be made: DualExpIIR needs tau_m >"):
        snn.load(trained / "checkpoint/snn_mlp_1/best.pt", lambda config: snn.DualExpIIR(3, 1, 2))


def test_a_run_under_a_name_of_its_own_converts(trained, tmp_path):
    saved = torch.load(trained / "checkpoint/snn_mlp_1/best.pt", weights_only=True)
    saved["config"]["experiment_name"] = "my_snn_mlp_1"
    torch.save(saved, tmp_path / "mine.pt")
    checkpoint_main(["convert", str(tmp_path / "mine.pt"), str(tmp_path / "theirs")])
    states = checkpoint.load(tmp_path / "theirs")["snn_state_dict"]
    assert torch.equal(states["axon1.dual_exp_iir_cell.alpha_1"], saved["model"]["0.a1"])


@pytest.mark.parametrize("name", ["planted", "snn_mlp_1.planted", "tests"])
def test_a_checkpoint_imports_no_module_that_it_names(trained, folder, monkeypatch, name):
    monkeypatch.syspath_prepend(folder)
    (folder / "planted.py").write_text("raise RuntimeError('imported')")
    saved = torch.load(trained / "checkpoint/snn_mlp_1/best.pt", weights_only=True)
    saved["config"]["experiment_name"] = name
    torch.save(saved, "odd.pt")
    with pytest.raises(UserError, match="is of '.*', which is not an experiment that ships: .* network=") as error:
        snn.load("odd.pt")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="which has no configs/"):
        release("odd.pt", "out.pt")
    net = snn.load("odd.pt", network=snn_mlp_1.network)
    assert torch.equal(net[1].weight, saved["model"]["1.weight"])


def test_a_module_named_as_an_experiment_is_not_taken_for_it(trained, folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "snn_mlp_1", raising=False)
    (folder / "snn_mlp_1.py").write_text("raise RuntimeError('imported')")
    assert len(snn.load(trained / "checkpoint/snn_mlp_1/best.pt")) == 11


@pytest.mark.parametrize("name", ["snn_mlp_1", "weights/snn_mlp_1.pt"])
def test_what_ships_loads_by_name_from_any_folder(folder, name):
    model = torch.load(ROOT / "weights/snn_mlp_1.pt", weights_only=True)["model"]
    (folder / "snn_mlp_1").mkdir()  # as in checkpoint/
    assert torch.equal(snn.load(name)[1].weight, model["1.weight"].float())


@pytest.mark.parametrize("name", ["snn_mlp_1.pt", "gone/snn_mlp_1.pt", "snn_conv_2_gesture"])
def test_nothing_else_loads_what_ships(folder, name):
    with pytest.raises(UserError, match=f"no checkpoint at {name}: pass .* weights that ship: .*snn_mlp_1, "):
        snn.load(name)


def test_release_of_a_demo(trained, tmp_path):
    saved = torch.load(trained / "checkpoint/snn_mlp_1/best.pt", weights_only=True)
    torch.save(saved | {"config": saved["config"] | {"experiment_name": "snn_mlp_1-demo"}}, tmp_path / "demo.pt")
    with pytest.raises(UserError, match="which has no configs/snn_mlp_1-demo.yaml"):
        release(tmp_path / "demo.pt", tmp_path / "out.pt")


def test_test_takes_what_ships_where_there_is_no_own_checkpoint(run, trained, monkeypatch):
    best = trained / "checkpoint/snn_mlp_1/best.pt"
    monkeypatch.setattr(cli, "WEIGHTS", run.folder / "weights")
    (run.folder / "weights").mkdir()
    release(best, run.folder / "weights/snn_mlp_1.pt")
    as_trained = run("snn_mlp_1", "--test", "--checkpoint", str(best))[-1]
    assert "ships" not in run.err
    assert run("snn_mlp_1", "--test")[-1] == as_trained
    assert "there is no checkpoint/snn_mlp_1/best.pt: evaluating " in run.err and "snn_mlp_1.pt, which ships" in run.err
    shutil.copytree(trained / "checkpoint", run.folder / "checkpoint")
    (run.folder / "weights/snn_mlp_1.pt").write_text("not read")
    assert run("snn_mlp_1", "--test")[-1] == as_trained
    assert run.status == 0 and "ships" not in run.err


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_ships(path):
    content = path.read_bytes()
    digest, name = Path(f"{path}.sha256").read_text().split()
    assert name == path.name and digest == hashlib.sha256(content).hexdigest()
    assert len(content) < 6e6
    saved, own = checkpoint.load(path, path.stem), config.resolve(ROOT / "configs" / f"{path.stem}.yaml")
    settings = config.completed(saved["config"])
    net = importlib.import_module(path.stem).network(settings)
    assert ("measured" in settings) == (path.stem in MEASURED)
    settings.pop("measured", None)
    assert saved.keys() == {"config", "epoch", "model"} and settings == own
    checkpoint.load_model(net, saved, path)


WITH_DATA = "time_series", "ecg", "associative_memory"
QUICK = WITH_DATA[:2]


@pytest.mark.parametrize(
    "path",
    [path if path.stem in QUICK else pytest.param(path, marks=pytest.mark.slow) for path in SHIPPED],
    ids=lambda path: path.stem,
)
def test_what_ships_gives_the_reported_figure(run, path):
    """Up to two images of 10,000, or 1 % of a loss, since half precision rounds."""
    datasets = os.environ.get("SNN_DATASETS")
    if not datasets and path.stem not in WITH_DATA:
        pytest.skip("SNN_DATASETS names no folder with MNIST/raw and N-MNIST")
    (file,) = (ROOT / "results" / path.stem).glob("*/result.json")
    trained = yaml.safe_load((file.parent / "config.yaml").read_text())
    values = {key: config.get(trained, key) for key in TINY | TINY_CNN}
    settings = {key: value for key, value in values.items() if value is not None}
    roots = {"mnist": datasets, "nmnist": f"{datasets}/N-MNIST"}
    if root := roots.get(trained["dataset"]["name"]):
        settings["dataset.root"] = root
    figure = float(run(path.stem, "--test", settings=settings)[-1].split()[2].rstrip(","))
    loss = "loss" in run.out.splitlines()[-1]
    reported = json.loads(file.read_text())["test"]
    assert figure == pytest.approx(reported, **({"rel": 0.01} if loss else {"abs": 0.0201}))
