"""Checkpoints with other fields, names that are bytes, links, runs by any name: read, or one line that says what."""

import copy
import json
import math
import os
import shutil
import sys
import tarfile
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from recordings import frames, load, some_nmnist, write_gesture, write_nmnist
from scripts import ROOT, TINY, files_in
from small import make_trainer
from test_config import resolve
from test_report import write_run
from torch import nn

import snn
from snn import checkpoint, report
from snn.base.errors import UserError
from snn.base.files import written_beside
from snn.base.keys import plain, typed_path
from snn.checkpoint.__main__ import convert, release
from snn.checkpoint.__main__ import main as checkpoint_main
from snn.data import event_cache, patterns
from snn.run import folders, snapshot

TENSORS = {
    "float64": torch.Tensor.double, "int64": torch.Tensor.long, "bool": torch.Tensor.bool,
    "complex64": lambda x: x.to(torch.complex64), "float8": lambda x: x.to(torch.float8_e4m3fn),
    "qint8": lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "no ordinary tensor": torch.Tensor.to_sparse,
    "no ordinary": lambda x: x.to("meta"), "shape": lambda x: x[None], "not finite": lambda x: x * math.inf,
    "is no ordinary": lambda x: x.tolist(),
}  # fmt: skip


def network(config=None):
    torch.manual_seed(0)
    return snn.Sequential(snn.FirstOrderLowPass(3, 4), nn.Linear(3, 2))


def saved():
    return {"config": resolve()[0], "epoch": 3, "model": network().state_dict()}


def read(content, path="c.pt"):
    torch.save(content, path)
    return snn.load(path, network)


@pytest.mark.filterwarnings("ignore")  # torch's, of kinds of tensors that are deprecated
@pytest.mark.parametrize("what", TENSORS)
def test_tensors_that_are_not_what_the_network_needs(folder, what):
    content = saved()
    weight = content["model"]["1.weight"]
    content["model"]["1.weight"] = TENSORS[what](weight)
    with pytest.raises(UserError, match=f"c.pt.*(1.weight.*{what}|of tensors)") as error:
        read(content)
    assert "\n" not in str(error.value)
    content["model"]["1.weight"] = weight.bfloat16()
    assert torch.equal(read(content)[1].weight, weight.bfloat16().float())


CONFIGS = [
    ({"experiment_name": ""}, "experiment_name"), ({"experiment_name": ".."}, "experiment_name"),
    ({"experiment_name": "-demo"}, "experiment_name"), ({"experiment_name": "a\0b"}, "experiment_name"),
    ({"pytorch_seed": 10**400}, "it may hold strings, numbers"), ({"pytorch_seed": torch.tensor(2)}, "it may hold"),
    ({"hyperparameters": {"threshold": math.nan}}, "hyperparameters.threshold: nan"),
    ({"hyperparameters": {"tau_m": 1, "tau_s": 2}}, "hyperparameters.tau_m: 1"),
    ({"dataset": []}, "dataset.name is missing"), ({"dataset": {"name": 5}}, "dataset.name is missing"),
    ({"hyperparameters": 5}, "hyperparameters: keys and values expected"),
    ({"hyperparameters": {"neuron": "nowhere.X"}}, "No module named 'nowhere'"),
    ({"hyperparameters": {"surrogate_arguments": {"sigma": torch.tensor(1.0)}}}, "it may hold"),
]  # fmt: skip


@pytest.mark.parametrize("change, message", CONFIGS)
def test_configs_that_yaml_would_not_pass(folder, change, message):
    with pytest.raises(UserError, match=f"c.pt: .*{message}"):
        read(saved() | {"config": saved()["config"] | change})


def test_a_config_that_holds_itself(folder):
    content = saved()
    content["config"]["dataset"]["again"] = content["config"]
    with pytest.raises(UserError, match="c.pt: config: it may hold"):
        read(content)


def test_keys_of_a_dataset_of_ones_own_stay(folder):
    content = saved()
    content["config"]["dataset"] = {"name": "mine", "rows": [1, 2.5, None]}
    read(content)
    assert checkpoint.load("c.pt")["config"]["dataset"] == {"name": "mine", "rows": [1, 2.5, None]}


def test_plain_values():
    assert plain({"a": (1, [None, True, 0.5, "x"])}) == {"a": [1, [None, True, 0.5, "x"]]}
    for value in ({1: 2}, 2**63, b"x", torch.ones(1), {"a": {"b": object()}}):
        with pytest.raises(ValueError):
            plain(value)


def test_weights_that_half_precision_does_not_hold(trained, tmp_path):
    content = torch.load(trained / "checkpoint/snn_mlp_1/best.pt", weights_only=True)
    content["model"]["1.weight"][0, 0] = 1e6
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(UserError, match="c.pt: 1.weight has values above float16's largest: leave out --half"):
        release(tmp_path / "c.pt", tmp_path / "out.pt", half=True)
    assert not (tmp_path / "out.pt").exists()


@pytest.fixture(scope="module")
def run_in_dev(tmp_path_factory):
    """A run's checkpoint in the middle of dev of its second epoch, with preserved states."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_trainer(folder, *PRESERVED).fit()
    return torch.load(folder / "checkpoint/snn_mlp_1/previous.pt", weights_only=True)


PRESERVED = "states=preserved", "checkpoint_every=2", "hyperparameters.epoch=2"
BAD = torch.full((784,), math.nan)
ODD = {
    "history": [("history", []), ("history", [{"epoch": 0}]), ("history", "x"), ("history.0.epoch", 1),
                ("history.0.dev_acc", math.nan), ("history.0.dev_acc", torch.tensor(1.0))],
    "lr": [("optimizer.param_groups.0.lr", math.nan), ("optimizer.param_groups.0.lr", -1), ("running.lr", "x"),
           ("optimizer.param_groups.0.lr", torch.ones(2)), ("running.seconds", None)],
    "moments": [("optimizer.state", {}), ("optimizer.state.0", {}), ("optimizer.state.0.exp_avg", BAD),
                ("optimizer.state.0.step", "x"), ("optimizer.state.0.exp_avg", torch.zeros(784, dtype=torch.int64)),
                ("optimizer.state.0.step", torch.tensor(-1.0)), ("optimizer.state.0.step", torch.tensor(0.5)),
                ("optimizer.state.0.exp_avg_sq", torch.full((784,), -1.0)), ("optimizer.state.99", {}),
                ("optimizer.param_groups", []), ("optimizer", None)],
    "scheduler": [("scheduler.last_epoch", -5), ("scheduler._last_lr", math.inf), ("scheduler", {}),
                  ("scheduler", None)],
    "best model": [("best_model", None), ("best_model", {}), ("best_model.0.a1", BAD)],
    "random": [("random", []), ("random", {}), ("random.0", {}), ("random.0.torch", torch.zeros(0, dtype=torch.uint8)),
               ("random.0.data", torch.zeros(5056)), ("device", torch.ones(2)), ("device", "tpu")],
    "preserved": [("preserved", []), ("preserved", [None]), ("preserved", [(None,)]), ("preserved", [3])],
    "counts": [("running.counts.dev.spikes", {"2": torch.zeros(3)}), ("running.counts.train", {"batches": -1}),
               ("running.counts.dev.samples", 1), ("running.counts.train.batches", 100),
               ("running.counts", {"dev": {"batches": 2}}), ("running.counts.train.sums", [1]), ("running", [])],
    "others": [("version", torch.ones(2)), ("data", []), ("epoch", "3")],
}  # fmt: skip


@pytest.mark.parametrize("what", ODD)
def test_what_a_run_resumes_from(folder, run_in_dev, what):
    place = Path("checkpoint/snn_mlp_1")
    place.mkdir(parents=True)

    def resume(content):
        torch.save(content, place / "last.pt")
        saved, _ = checkpoint.load_to_resume(place, "snn_mlp_1")
        return make_trainer(folder, *PRESERVED, resume_from=saved)

    for key, value in ODD[what]:
        content = copy.deepcopy(run_in_dev)
        *parents, last = (int(name) if name.isdigit() else name for name in key.split("."))
        if parents[:1] == ["best_model"]:
            parents, last = ["best_model"], "0.a1"
        inside = content
        for name in parents:
            inside = inside[name]
        inside[last] = value
        with pytest.raises(UserError, match="last.pt") as error:
            resume(content)
        assert "\n" not in str(error.value), (key, value)
    assert resume(run_in_dev).passes.keys() == {"train", "dev"}


def test_moments_that_share_their_memory(folder, run_in_dev):
    """A fused optimizer would write past the end of a tensor that is expanded from one value."""
    content = copy.deepcopy(run_in_dev)
    moments = content["optimizer"]["state"]
    moments[0]["exp_avg"] = torch.zeros(1).expand(784)
    moments[1]["exp_avg"] = moments[2]["exp_avg"] = torch.ones(784)
    trainer = make_trainer(folder, *PRESERVED, resume_from=read_back(content))
    kept = [trainer.optimizer.state[parameter]["exp_avg"] for parameter in list(trainer.net.parameters())[:3]]
    assert all(value.untyped_storage().nbytes() == 4 * 784 for value in kept)
    assert len({value.data_ptr() for value in kept}) == 3


def read_back(content):
    place = Path("checkpoint/snn_mlp_1")
    place.mkdir(parents=True)
    torch.save(content, place / "last.pt")
    return checkpoint.load_to_resume(place, "snn_mlp_1")[0]


def test_one_list_in_many_places(folder, monkeypatch):
    monkeypatch.setattr("snn.base.keys.MOST_VALUES", 10_000)  # counting to a million takes a second
    content, bomb = saved(), [1]
    for _ in range(9):
        bomb = [bomb] * 20
    for change in ({"config": content["config"] | {"odd": bomb}}, {"history": bomb}):
        with pytest.raises(UserError, match="c.pt"):
            read(content | change)


@pytest.mark.parametrize(
    "experiment, measured, message", [
        ("time_series", {"longest": 0}, "measured.longest: 0 is not allowed"),
        ("time_series", {"scaling": [["a", "b"]]}, "measured.scaling: "),
        ("sequential_mnist_permuted", {"order": [9999] * 784}, "measured.order: "),
    ],
)  # fmt: skip
def test_what_was_measured_of_an_unknown_dataset_is_checked_as_of_the_one_that_it_goes_to(
    run, experiment, measured, message
):
    content = torch.load(ROOT / f"weights/{experiment}.pt", weights_only=True)
    content["config"]["hyperparameters"]["hold"] = 0
    content["config"]["measured"] |= measured
    content["config"]["dataset"]["name"] = "foo"
    torch.save(content, run.folder / "foo.pt")
    np.save(run.folder / "x.npy", np.zeros((2, 28, 28), np.uint8))
    run(experiment, "--predict", "x.npy", "--out", "x.csv", "--checkpoint", "foo.pt")
    assert run.status == 2 and f"error: checkpoint foo.pt: config: {message}" in run.err.splitlines()[-1], run.err
    with suppress(UserError):  # of a dataset that nobody knows, what the network reads counts
        snn.load("foo.pt")


def test_a_network_that_the_config_does_not_fit(folder):
    content = torch.load(ROOT / "weights/time_series.pt", weights_only=True)
    content["config"]["hyperparameters"]["hidden"] = [2**31 - 1]
    torch.save(content, "large.pt")
    del content["config"]["measured"]
    content["config"]["dataset"]["name"], content["config"]["encoding"] = "digits", "copy"
    torch.save(content, "digits.pt")
    for file, message in (("large.pt", "it has .* of shape"), ("digits.pt", "can't be made: 'measured'")):
        with pytest.raises(UserError, match=f"{file}: .*{message}"):
            snn.load(file)
    with pytest.raises(UserError, match="layer 0, Copies.* is unknown to the public code"):
        convert(ROOT / "weights/time_series.pt", "out")
    content = torch.load(ROOT / "weights/snn_mlp_2.pt", weights_only=True)
    content["config"]["hyperparameters"]["filters"] = {"start": "spread"}
    gains = {name.replace("a1", "gain"): a1 for name, a1 in content["model"].items() if name.endswith("a1")}
    torch.save(content | {"model": content["model"] | gains}, "gains.pt")
    with pytest.raises(UserError, match="layer 0, FirstOrderLowPass.* is unknown to the public code"):
        convert("gains.pt", "out")


@pytest.mark.parametrize("target", [".", "/", ""])
def test_a_target_that_is_a_folder(folder, target):
    with pytest.raises(UserError, match="is a folder: name a file in it"):
        release(ROOT / "weights/time_series.pt", target)


class TestCaches:
    SHAPE = (2, 34, 34)

    @pytest.fixture
    def cache(self, folder):
        with written_beside("c.h5") as file:
            writer = event_cache._Writer(file, self.SHAPE)
            for n in range(3):
                ones = np.ones(5, np.int64)
                writer.add(event_cache.Recording(f"r{n}", n, 1000 * np.arange(5), ones, ones, ones))
            writer.finish()
        return "c.h5"

    def change(self, key, values):
        with h5py.File("c.h5", "a") as file:
            del file[key]
            if isinstance(values, h5py.ExternalLink):
                file[key] = values
            else:
                file.create_dataset(key, data=values)

    @pytest.mark.parametrize(
        "key, values, message", [
            ("offsets", np.array([0, 2**63 - 1, -(2**63) + 11, 15]), "offsets do not fit"),
            ("time", np.array([0, 2000, 1000, 3000, 4000] * 3, np.int32), "not in order"),
            ("label", h5py.ExternalLink("other.h5", "label"), "column label is not in it"),
        ],
    )  # fmt: skip
    def test_what_build_does_not_write(self, cache, key, values, message):
        event_cache.read(cache, event_cache.COLUMNS, self.SHAPE, 10)
        os.mkfifo("other.h5")
        self.change(key, values)
        with pytest.raises(UserError, match=message):
            event_cache.read(cache, event_cache.COLUMNS, self.SHAPE, 10)

    def test_a_column_that_is_not_stored(self, cache):
        with h5py.File(cache, "a") as file:
            del file["time"]
            file.create_dataset("time", (1 << 40,), np.int32, chunks=(1 << 20,))
        with pytest.raises(UserError, match="at most 0 are read"):
            event_cache.read(cache, event_cache.COLUMNS, self.SHAPE, 10)


@pytest.mark.parametrize("name", ["a\0b", "", ".x", "-x", "a/b", "..", "\ud800", "x" * 300])
def test_run_folders_that_are_none(name):
    assert folders.own_run_folder(f"runs/a/{name}", "a") is None
    assert folders.own_run_folder("runs/a/b", "a") == Path("runs/a/b")


@pytest.mark.parametrize("value", ["a\0b", "\ud800", "x" * 256, "x/" * 2100])
def test_paths_that_no_system_takes(value):
    with pytest.raises(ValueError, match="a path"):
        typed_path(value)


class TestNamesAreBytes:
    """Recordings and folders whose names are Latin-1."""

    def rename(self, folder):
        for file in [*folder.rglob("*04.bin"), *folder.rglob("user02_*"), *folder.rglob("trials*")]:
            if file.name.startswith("trials"):
                file.write_bytes(file.read_bytes().replace(b"user02_led", b"user02_copi\xe9"))
            else:
                file.rename(os.fsdecode(os.fsencode(file).replace(b"led", b"copi\xe9").replace(b"04", b"\xe9")))

    def test_nmnist(self, folder):
        write_nmnist(folder, some_nmnist())
        self.rename(folder)
        splits = load("snn_conv_1_nmnist", ".")
        labels = torch.cat([splits[part].labels[splits[part].indices] for part in ("train", "dev")])
        assert sorted(labels.tolist()) == list(range(6))

    @pytest.mark.parametrize("packed", [False, True])
    def test_gesture(self, folder, packed):
        write_gesture(folder)
        self.rename(folder)
        if packed:
            files = [file for file in folder.iterdir() if file.is_file()]
            with tarfile.open("DvsGesture.tar.gz", "w:gz") as archive:
                for file in files:
                    archive.add(file, f"DvsGesture/{file.name}")
                    file.unlink()
        splits = load("snn_conv_1_gesture", ".", "hyperparameters.length=2", "dataset.dev_split=subject")
        assert len(splits["train"]) + len(splits["dev"]) == 6 and frames(splits["train"])[0].any()


class TestSkipBad:
    def test_files_that_nobody_needs(self, folder):
        write_gesture(folder)
        (folder / "notes.txt").symlink_to("/nowhere")
        (folder / "other.csv").symlink_to("/nowhere")
        (folder / "x.aedat").mkdir()
        splits = load("snn_conv_1_gesture", ".", "hyperparameters.length=2")
        assert len(splits["train"]) + len(splits["dev"]) == 6

    @pytest.mark.parametrize("name", ["user02_led.aedat", "user02_led_labels.csv"])
    @pytest.mark.parametrize("make", [lambda file: file.symlink_to("/nowhere"), lambda file: file.mkdir()])
    def test_gesture_files_that_can_not_be_read(self, folder, capsys, name, make):
        write_gesture(folder)
        (folder / name).unlink()
        make(folder / name)
        with pytest.raises(UserError, match=f"{name} can't be read: .*; set dataset.skip_bad=true"):
            load("snn_conv_1_gesture", ".", "hyperparameters.length=2")
        splits = load("snn_conv_1_gesture", ".", "hyperparameters.length=2", "dataset.skip_bad=true")
        assert len(splits["train"]) + len(splits["dev"]) == 4
        assert "1 bad train recordings are left out" in capsys.readouterr().out


class TestArrays:
    @pytest.mark.parametrize("dtype", [">f4", ">u2", "<i8", "longdouble", "float16", "bool"])
    def test_every_type_of_number(self, tmp_path, dtype):
        spikes = np.random.default_rng(0).integers(0, 2, (2, 300, 300))
        np.save(tmp_path / "p.npy", spikes.astype(dtype))
        read = patterns.read(tmp_path / "p.npy", 300)
        assert read.dtype == torch.float32 and np.array_equal(read.numpy().transpose(0, 2, 1), spikes)

    def test_a_bool_that_is_neither(self, tmp_path):
        np.save(tmp_path / "p.npy", np.full((1, 300, 300), 7, np.uint8).view(bool))
        with pytest.raises(UserError, match="p.npy holds values other than 0 and 1"):
            patterns.read(tmp_path / "p.npy", 300)


class TestReport:
    def write(self, folder, name, *more, at="a"):
        write_run(folder / f"runs/{at}/{len(list(folder.rglob('config.yaml')))}", "x", *more)
        for file in folder.glob(f"runs/{at}/*/config.yaml"):
            file.write_text(file.read_text().replace("experiment_name: x\n", f"experiment_name: {json.dumps(name)}\n"))

    @pytest.mark.parametrize("name", ["$x_$", "a b", "caf\u00e9", "{reason}", "100%"])
    def test_any_name(self, folder, capsys, name):
        self.write(folder, name)
        report.main(["runs"])
        assert f"| {name} 0 |" in capsys.readouterr().out and (folder / f"runs/{name}.png").stat().st_size > 5000

    @pytest.mark.parametrize("name", ["a\0b", "\ud800", "", "..", "-x"])
    def test_no_name(self, folder, capsys, name):
        self.write(folder, name)
        with pytest.raises(SystemExit) as end:
            report.main(["runs"])
        assert end.value.code == 2 and "holds no readable run (experiment_name is" in capsys.readouterr().err

    def test_two_metrics_under_one_name(self, folder, capsys):
        self.write(folder, "snn_mlp_1")
        self.write(folder, "snn_mlp_1", [(0, 0.3, 0.2), (1, 0.2, 0.1)])
        report.main(["runs"])
        assert capsys.readouterr().out.count("| snn_mlp_1 ") == 2
        assert {file.name for file in Path("runs").glob("*.png")} == {"snn_mlp_1_acc.png", "snn_mlp_1_loss.png"}

    def test_links_and_folders_that_are_not_utf8(self, folder, capsys):
        self.write(folder, "x", at="elsewhere")
        (folder / "runs/elsewhere").rename(folder / "caf\udce9")
        (folder / "runs/x").symlink_to(folder / "caf\udce9")
        (folder / "caf\udce9/loop").symlink_to(folder / "runs")
        (folder / "caf\udce9/0").rename(folder / "caf\udce9/0\udce9")
        report.main(["runs"])
        assert "| x 0? |" in capsys.readouterr().out

    def test_a_value_that_is_not_finite(self, folder, capsys):
        self.write(folder, "x", [(0, 90.0, math.nan, 0.4, 0.3)])
        with pytest.raises(SystemExit):
            report.main(["runs"])
        assert "metrics.csv: dev_acc is nan, not a number" in capsys.readouterr().err


class TestRunFolders:
    def test_a_dangling_link_for_runs(self, run):
        (run.folder / "runs").symlink_to("/nowhere/else")
        run("snn_mlp_1", "--train")
        assert (
            run.status == 2 and "runs/snn_mlp_1 can't be written: a file or a dangling link" in run.err.splitlines()[-1]
        )

    def test_a_link_to_a_folder(self, run, capsys):
        (run.folder / "elsewhere").mkdir()
        (run.folder / "runs").mkdir()
        (run.folder / "runs/snn_mlp_1").symlink_to(run.folder / "elsewhere")
        run("snn_mlp_1", "--train", settings={"hyperparameters.epoch": 1, "hyperparameters.length": 2})
        assert run.status == 0 and len(list(run.folder.glob("elsewhere/*/metrics.csv"))) == 1
        report.main(["runs"])
        assert "| snn_mlp_1 20" in capsys.readouterr().out


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", [["--test"], ["--show"]])
def test_a_result_that_can_not_be_written(run, trained, monkeypatch, words):
    shutil.copytree(trained / "checkpoint", run.folder / "checkpoint")
    run("snn_mlp_1", *words, settings=TINY)
    assert run.status == 0
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        run("snn_mlp_1", *words, settings=TINY)
    assert run.status == 1
    assert run.err == "error: the result can't be written to standard output: No space left on device\n"


def test_a_name_that_is_not_utf8_is_printed(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    checkpoint_main(["release", str(trained / "checkpoint/snn_mlp_1/best.pt"), "caf\udce9.pt"])
    assert Path("caf\udce9.pt").exists() and "written" in capsys.readouterr().out


@pytest.mark.parametrize(
    "folder", ["/elsewhere", "runs/other/x", "runs/snn_mlp_1/..", "../runs/snn_mlp_1/x", ".", "", "runs"]
)
def test_a_checkpoints_run_folder_is_not_trusted(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    trainer = make_trainer(tmp_path)
    trainer.fit()
    saved = torch.load(trainer.folder / "last.pt", weights_only=True)
    before = files_in(tmp_path)
    again = make_trainer(tmp_path, "hyperparameters.epoch=2")
    snapshot.restore(again, saved | {"run_folder": folder})
    assert again.run_folder is None and "is not one in runs/" in capsys.readouterr().err
    snapshot.restore(again, saved)
    assert again.run_folder == trainer.run_folder and files_in(tmp_path) == before


def test_moments_of_another_shape_are_not_resumed(run, trained):
    shutil.copytree(trained / "checkpoint", run.folder / "checkpoint")
    last = run.folder / "checkpoint/snn_mlp_1/last.pt"
    saved = torch.load(last, weights_only=True)
    saved["optimizer"]["state"][0]["exp_avg"] = torch.zeros(3)
    torch.save(saved, last)
    run("snn_mlp_1", "--train", "--resume", settings={"hyperparameters.epoch": 2})
    assert run.status == 2 and "last.pt: it has exp_avg of parameter 0 of shape [3], not [784]" in run.err
