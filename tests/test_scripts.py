"""The experiments' scripts as users run them, with tiny settings: training, resuming, testing, and mistakes."""

import csv
import errno
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from scripts import HEALTH, files_in, same
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from snn.look import inspection
from snn.tasks import recall

MLPS = ["snn_mlp_1", "snn_mlp_1_non_zero", "snn_mlp_1_poisson_input", "snn_mlp_2", "snn_mlp_2_poisson_input"]
CNNS = ["snn_conv_1_mnist", "snn_conv_1_mnist_poisson_input"]
EVENTS = [
    "snn_conv_1_nmnist", "snn_conv_1_gesture", "snn_conv_1_gesture_30", "snn_conv_1_gesture_max", "snn_conv_2_gesture",
]  # fmt: skip


@pytest.mark.parametrize("script", MLPS + CNNS + EVENTS)
def test_train_and_test(run, script, few_recordings):
    lines = run(script, "--train")
    assert run.status == 0, run.err
    total = 24 if script in MLPS else 6
    note = f"simulated {script.split('_')[3]} recordings" if script in EVENTS else "embedded digits"
    assert re.fullmatch(rf"test accuracy: \d+\.\d\d % \(\d+/{total}\), {note}", lines[-1])
    assert re.match(r"best epoch [01]: train .* %, dev .* %, test .* %", lines[-4])
    ended = [line.split(":")[0] for line in lines if re.match(r"epoch \d+:", line)]  # others say how far one is
    assert ended == ["epoch 0", "epoch 1"]
    metrics = run.metrics(script)
    assert list(metrics[0]) == ["epoch", "train_acc", "dev_acc", "train_loss", "dev_loss", "lr", *HEALTH]
    assert [row["epoch"] for row in metrics] == ["0", "1"]
    (run_folder,) = run.folder.glob(f"runs/{script}/*")
    assert (run_folder / "config.yaml").exists() and list(run_folder.glob("events.*"))
    assert run.checkpoint(script)["epoch"] == 1

    assert run(script, "--test")[-1] == lines[-1]
    assert run.status == 0


def test_associative_memory(run, monkeypatch, drawn):
    monkeypatch.setattr(recall, "GROWING", {"noise": (0, 0.1), "rows": (0, 150)})
    monkeypatch.setattr(recall, "DRAWS", 1)
    lines = run("associative_memory", "--train")
    assert run.status == 0, run.err
    assert re.fullmatch(r"test loss: 0\.\d{5}, embedded patterns", lines[-1])
    metrics = run.metrics("associative_memory")
    assert list(metrics[0]) == ["epoch", "train_loss", "dev_loss", "lr", *HEALTH]
    best = min(metrics, key=lambda row: float(row["dev_loss"]))
    assert lines[-4].startswith(f"best epoch {best['epoch']}: train loss ")
    assert run.checkpoint("associative_memory", "best")["epoch"] == int(best["epoch"])
    (run_folder,) = run.folder.glob("runs/associative_memory/*")
    shown = EventAccumulator(str(run_folder)).Reload().Tags()["images"]
    for name in ("recall", "recall_curves", "impulse_responses", "path"):
        assert Image.open(run_folder / f"{name}.png").size[0] > 600 and name in shown
    with open(run_folder / "recall.csv") as file:
        assert [row["corruption"] for row in csv.DictReader(file)] == ["noise", "noise", "rows", "rows"]

    monkeypatch.setattr(inspection, "report", lambda *_: {})  # the pictures were looked at, and take seconds
    assert run("associative_memory", "--test")[-1] == lines[-1]
    whole = run.checkpoint("associative_memory")
    run.folder = run.folder / "resumed"
    run.folder.mkdir()
    run("associative_memory", "--train", settings={"hyperparameters.epoch": 1})
    assert run("associative_memory", "--train", "--resume")[-1] == lines[-1]
    resumed = run.checkpoint("associative_memory")
    assert same(whole["model"], resumed["model"]) and run.metrics("associative_memory") == metrics


@pytest.mark.parametrize(
    "script, settings",
    [
        ("snn_mlp_1", {}),
        ("snn_mlp_1_non_zero", {"encoding": "poisson"}),
        ("snn_mlp_1", {"scheduler.scheduler_choice": "CyclicLR", "scheduler.CyclicLR.base_lr": 0.003,
                       "scheduler.CyclicLR.max_lr": 0.008, "scheduler.CyclicLR.step_size_up": 5}),
        ("snn_mlp_2", {"optimizer.optimizer_choice": "AdamW",
                       "scheduler.scheduler_choice": "CosineAnnealingWarmRestarts"}),
        ("snn_mlp_1", {"scheduler.scheduler_choice": "none", "hyperparameters.membrane_filter": "true",
                       "optimizer.Adam.lr": 0.001}),
        ("time_series", {"dataset.train_size": 0}),
    ],
)  # fmt: skip
def test_a_resumed_training_equals_one_that_never_stopped(run, script, settings, tmp_path):
    run.folder = tmp_path / "whole"
    run.folder.mkdir()
    last_line = run(script, "--train", settings=settings | {"hyperparameters.epoch": 3})[-1]
    whole, metrics = run.checkpoint(script), run.metrics(script)
    assert len({row["train_loss"] for row in metrics}) == 3  # it spikes: there is something to compare

    run.folder = tmp_path / "resumed"
    run.folder.mkdir()
    run(script, "--train", settings=settings | {"hyperparameters.epoch": 1})
    resumed_line = run(script, "--train", "--resume", settings=settings | {"hyperparameters.epoch": 3})[-1]
    assert run.status == 0, run.err
    resumed = run.checkpoint(script)
    assert run.metrics(script) == metrics
    assert resumed_line == last_line
    for part in ("model", "optimizer", "scheduler", "random", "preserved"):
        assert same(whole[part], resumed[part]), part


def test_the_seed_decides(run, tmp_path):
    results = []
    for name, seed in (("a", 2), ("b", 2), ("c", 3)):
        run.folder = tmp_path / name
        run.folder.mkdir()
        run("snn_mlp_1_poisson_input", "--train", settings={"pytorch_seed": seed})
        results.append((run.metrics("snn_mlp_1_poisson_input"), run.checkpoint("snn_mlp_1_poisson_input")["model"]))
    assert results[0][0] == results[1][0] and same(results[0][1], results[1][1])
    assert results[0][0] != results[2][0] and not same(results[0][1], results[2][1])


def test_demo_writes_beside_the_real_results(run):
    settings = {"hyperparameters.epoch": 1}
    lines = run("snn_mlp_1", "--demo", settings=settings)
    assert run.status == 0, run.err
    assert lines[-1].endswith("embedded digits")
    assert [path.name for path in (run.folder / "checkpoint").glob("[!.]*")] == ["snn_mlp_1-demo"]
    assert [path.name for path in (run.folder / "runs").iterdir()] == ["snn_mlp_1-demo"]
    assert run("snn_mlp_1", "--demo", "--test", settings=settings)[-1] == lines[-1]


def test_an_inspected_demo_trains_first(run, monkeypatch):
    monkeypatch.setattr(inspection, "inspect", lambda seen, task, folder, origin: seen.test(task))
    demo, best = ["snn_mlp_1", "--demo", "--inspect"], "checkpoint/snn_mlp_1-demo/best.pt"
    for number in range(2):  # in a fresh folder, and beside an older demo
        lines = run(*demo, settings={"hyperparameters.epoch": 1, "pytorch_seed": number})
        assert run.status == 0 and any(line.startswith("look at ") for line in lines), run.err
        assert run.checkpoint("snn_mlp_1-demo", "best")["config"]["pytorch_seed"] == number
    trained = files_in(run.folder / "checkpoint")
    for words in (["--test"], ["--checkpoint", best]):
        assert run(*demo, *words)[-1] == lines[-1] and files_in(run.folder / "checkpoint") == trained


def test_a_new_training_moves_the_older_checkpoints_aside(run):
    run("snn_mlp_1", "--train", settings={"hyperparameters.epoch": 1})
    before = (run.folder / "checkpoint/snn_mlp_1/best.pt").read_bytes()
    run("snn_mlp_1", "--train", settings={"hyperparameters.epoch": 1, "pytorch_seed": 5})
    (aside,) = run.folder.glob("checkpoint/snn_mlp_1_*")
    assert (aside / "best.pt").read_bytes() == before
    assert str(aside.relative_to(run.folder)) in run.err
    assert run.checkpoint("snn_mlp_1")["config"]["pytorch_seed"] == 5


def test_save_checkpoint_false_leaves_none(run):
    run("snn_mlp_1", "--train", settings={"save_checkpoint": "false"})
    assert run.status == 0 and not (run.folder / "checkpoint").exists()
    assert len(run.metrics("snn_mlp_1")) == 2


@pytest.mark.parametrize(
    "setting, frozen", [("train_bias", "bias"), ("train_coefficients", ("a1", "a2", "b1")), (None, ())]
)
def test_what_is_trained(run, setting, frozen):
    settings = {"hyperparameters.epoch": 1, "optimizer.Adam.lr": 0.01}
    run("snn_mlp_1", "--train", settings=settings | ({f"hyperparameters.{setting}": "false"} if setting else {}))
    first = run.checkpoint("snn_mlp_1")["model"]
    more = settings | {"hyperparameters.epoch": 3} | ({f"hyperparameters.{setting}": "false"} if setting else {})
    run("snn_mlp_1", "--train", "--resume", settings=more)
    later = run.checkpoint("snn_mlp_1")["model"]
    for name, value in later.items():
        assert torch.equal(value, first[name]) == (bool(frozen) and name.endswith(frozen)), name


def test_a_run_starts_as_init_says(run):
    settings = {"hyperparameters.init": "kaiming", "hyperparameters.threshold": 0.8, "hyperparameters.epoch": 1}
    run("snn_mlp_1", "--train", settings=settings)
    model = run.checkpoint("snn_mlp_1")["model"]
    assert model["1.bias"].mean().item() == pytest.approx(0.4, abs=0.02)


def test_a_test_on_other_data_than_the_runs_is_said(run):
    run("snn_mlp_1", "--train")
    said = "note: dataset.name: {}, where the checkpoint's run had {}\n"
    run("snn_mlp_1", "--test")
    assert "where the checkpoint's run had" not in run.err
    run("snn_mlp_1", "--test", settings={"dataset.name": "mnist", "dataset.download": "false"})
    assert run.status == 2 and said.format("mnist", "digits") in run.err
    run("associative_memory", "--test", settings={"dataset.patterns": "own.npy"})
    assert "note: dataset.patterns: own.npy, where the checkpoint's run had what ships\n" in run.err


def test_learning_rate_steps_after_the_epoch(run):
    settings = {"hyperparameters.epoch": 3, "scheduler.MultiStepLR.milestones": "[2]"}
    run("snn_mlp_1", "--train", settings=settings)
    assert [float(row["lr"]) for row in run.metrics("snn_mlp_1")] == [0.005, 0.005, 0.0005]


def test_test_takes_the_network_from_the_checkpoint(run, trained):
    words = ["--test", "--checkpoint", str(trained / "checkpoint/snn_mlp_1/best.pt")]
    as_trained = run("snn_mlp_1", *words)[-1]
    (run.folder / "longer.yaml").write_text("hyperparameters: {length: 9}")
    lines = run("snn_mlp_1", *words, "--config_file", "longer.yaml", settings={"hyperparameters.length": 12})
    assert lines[-1] == as_trained
    assert run.status == 0


MISTAKES = {
    "no action": ([], {}, "nothing to do: add --train, --test, --inspect, --predict, --show or --demo"),
    "unknown option": (["--trian"], {}, "unrecognized arguments: --trian"),
    "a part of an option": (["--train", "--seed", "5"], {}, "unrecognized arguments: --seed 5"),
    "resume without train": (["--test", "--resume"], {}, "add --train"),
    "resume alone": (["--resume"], {}, "--resume continues a run: add --train"),
    "checkpoint with train": (["--train", "--checkpoint", "x.pt"], {}, "leave one out"),
    "empty checkpoint": (["--test", "--checkpoint", ""], {}, "an option has an empty value"),
    "empty config file": (["--test", "--config_file", ""], {}, "an option has an empty value"),
    "empty device": (["--test", "--device", ""], {}, "an option has an empty value"),
    "unknown key": (["--train"], {"hyperparameters.epochs": 3}, "did you mean hyperparameters.epoch?"),
    "value out of range": (["--train"], {"hyperparameters.tau_s": 4}, "must be above hyperparameters.tau_s, 4"),
    "unknown device": (["--train", "--device", "gpu"], {}, "use auto, cpu, cuda or cuda:<number>"),
    "absent device": (["--train", "--device", "cuda:99"], {}, "device cuda:99 is missing"),
    "no config": (["--train", "--config_file", "none.yaml"], {}, "config none.yaml: No such file"),
    "no data": (["--train"], {"dataset.name": "mnist", "dataset.download": "false"}, "MNIST is not in data/MNIST/raw"),
    "nothing to resume": (
        ["--train", "--resume"],
        {},
        "no checkpoint at checkpoint/snn_mlp_1/last.pt: there is no run to resume",
    ),
    "no checkpoint": (["--test"], {"experiment_name": "mine"}, "no checkpoint at checkpoint/mine/best.pt: train first"),
    "text as checkpoint": (["--test", "--checkpoint", "text.pt"], {}, "(torch.save did not write it, or it holds more"),
    "cut checkpoint": (["--test", "--checkpoint", "cut.pt"], {}, "cut.pt is not a checkpoint or is cut short"),
    "weights alone": (["--test", "--checkpoint", "weights.pt"], {}, "has no config, epoch and model"),
    "another's checkpoint": (["--test", "--checkpoint", "other.pt"], {}, "is of snn_mlp_2, not of snn_mlp_1"),
    "another shape": (["--test", "--checkpoint", "shape.pt"], {}, "has 1.weight of shape [500, 100], not [500, 784]"),
    "a missing layer": (["--test", "--checkpoint", "short.pt"], {}, "lacks 1.weight"),
}


def write_checkpoint(file, trained):
    """Write a checkpoint with the fault that its name says."""
    whole = (trained / "checkpoint/snn_mlp_1/best.pt").read_bytes()
    good = torch.load(trained / "checkpoint/snn_mlp_1/best.pt", weights_only=True)
    short = {name: value for name, value in good["model"].items() if name != "1.weight"}
    faulty = {
        "text": b"weights", "cut": whole[: len(whole) // 2], "weights": good["model"],
        "other": good | {"config": good["config"] | {"experiment_name": "snn_mlp_2"}},
        "shape": good | {"model": good["model"] | {"1.weight": torch.zeros(500, 100)}},
        "short": good | {"model": short},
    }[file.stem]  # fmt: skip
    file.write_bytes(faulty) if isinstance(faulty, bytes) else torch.save(faulty, file)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_changes_nothing(run, trained, mistake):
    words, settings, message = MISTAKES[mistake]
    if words[:2] == ["--test", "--checkpoint"] and words[2]:
        write_checkpoint(run.folder / words[2], trained)
    before = files_in(run.folder)

    run("snn_mlp_1", *words, settings=settings)
    assert run.status == 2
    assert message in run.err.splitlines()[-1]
    assert run.err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in run.err
    assert files_in(run.folder) == before
    if mistake != "no action":  # which prints the help too
        assert len([line for line in run.err.splitlines() if not line.startswith("note: ")]) == 1


SECRET = {
    "checkpoint": ("snn_mlp_1", ["--test", "--checkpoint", "secret/x.pt"], {}),
    "checkpoints": ("snn_mlp_1", ["--test"], {"checkpoint_base_path": "secret"}),
    "MNIST": ("snn_mlp_1", ["--train"], {"dataset.name": "mnist", "dataset.root": "secret"}),
    "time series": ("time_series", ["--train"], {"dataset.name": "Wrist", "dataset.root": "secret"}),
    "N-MNIST": ("snn_conv_1_nmnist", ["--train"], {"dataset.name": "nmnist", "dataset.root": "secret"}),
    "gestures": ("snn_conv_1_gesture", ["--train"], {"dataset.name": "gesture", "dataset.root": "secret"}),
    "patterns": ("associative_memory", ["--train"], {"dataset.patterns": "secret"}),
    "config": ("snn_mlp_1", ["--train", "--config_file", "secret/x.yaml"], {}),
    "answers": ("time_series", ["--predict", "new.ts", "--out", "secret/x.csv"], {}),
}


@pytest.mark.parametrize("what", SECRET)
def test_what_only_other_users_may_look_into_is_one_line(run, what):
    """Path.exists and its like raise then, up to Python 3.13."""
    stat, (script, words, settings) = Path.stat, SECRET[what]

    def refused(path, **options):
        if "secret" in path.parts:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **options)

    (run.folder / "new.ts").write_text("@data\n" + ":".join(["1,2,3"] * 12) + "\n")
    run.monkeypatch.setattr(Path, "stat", refused)
    run(script, *words, settings=settings)
    lines = [line for line in run.err.splitlines() if not line.startswith("note: ")]
    assert run.status == 2 and len(lines) == 1 and "secret" in lines[0] and "Traceback" not in run.err


def test_help(run):
    run("snn_conv_1_mnist", "--help")
    assert run.status == 0
    for expected in ("usage: snn_conv_1_mnist.py", "32C3-32C3-64C3-P2-64C3-P2-512-10", "--config_file F"):
        assert expected in run.out


def test_show_shows_the_device_that_was_asked_for(run):
    assert any(
        re.match(r"device: cpu +# .*\[--device\]", line) for line in run("snn_mlp_1", "--show", "--device", "cpu")
    )


def test_set_takes_several_keys(run):
    lines = run("snn_mlp_1", "--show", "--set", "hyperparameters.tau_m=5", "ties=potential", "--set", "precision=bf16")
    shown = "\n".join(lines)
    for key, value in {"tau_m": 5, "ties": "potential", "precision": "bf16"}.items():
        assert re.search(rf"^ *{key}: {value} .*\[--set\]", shown, re.M), key
    run("snn_mlp_1", "--show", "--set", "ties=potential", "epoch")
    assert run.status == 2 and run.err == "error: --set epoch: write key=value, such as --set hyperparameters.epoch=1\n"
