"""Several ranks, started by torchrun: same gradients and counts as one process, dying ranks, other numbers of ranks."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import two_ranks
from scripts import ROOT, TINY, files_in, same, words_of
from small import make_net, make_split, make_trainer, resolve
from torch import nn

import snn
from snn.base import ranks
from snn.run import snapshot
from snn.run.train import Experiment

# Only the order of samples is random.
SETTINGS = TINY | {
    "hyperparameters.dropout": 0, "mnist_config.use_transform": "false", "dataset.train_size": 57,
    "dataset.dev_size": 21, "dataset.test_size": 25, "hyperparameters.epoch": 3, "precision": "tf32",
}  # fmt: skip


def torchrun(folder, ranks, *command):
    """Start torchrun in its own process group."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return subprocess.Popen(
        [*words, *map(str, command)], cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
    )  # fmt: skip


def alone(folder, *command):
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=folder, text=True, capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
    )  # fmt: skip


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Return what one process, and what each of two ranks, sees of the same epochs."""
    folder = tmp_path_factory.mktemp("ranks")
    two = torchrun(folder, 2, ROOT / "tests/two_ranks.py", "two")
    two_ranks.main(folder / "one")
    _, err = two.communicate()
    assert two.returncode == 0, err
    return [torch.load(folder / name, weights_only=True) for name in ("one0", "two0", "two1")]


@pytest.mark.parametrize("case", ["images", "events", "chunks"])
class TestTwoRanks:
    def test_gradients_are_those_of_one_process(self, seen, case):
        one, *two = (process[case]["gradients"] for process in seen)
        assert len(one) == len(two[0]) == len(two[1]) == 3
        for batch, expected in enumerate(one):
            assert all(value.abs().max() > 1e-6 for value in expected.values())
            for name, value in expected.items():
                assert torch.equal(two[0][batch][name], two[1][batch][name])
                torch.testing.assert_close(two[0][batch][name], value, rtol=1e-4, atol=1e-5 * value.abs().max().item())

    def test_every_sample_comes_once_in_the_batch_it_would_come_in(self, seen, case):
        one, *two = (process[case]["samples"] for process in seen)
        assert [len(batch) for batch in one] == [11, 11, 1]
        assert [len(batch) for batch in two[0]] == [6, 6, 1] and [len(batch) for batch in two[1]] == [5, 5, 0]
        for whole, first, second in zip(one, *two):
            assert torch.equal(whole, torch.cat([first, second]))

    def test_counts_are_of_all_ranks(self, seen, case):
        one, *two = (process[case] for process in seen)
        for rank in two:
            for part in ("train", "dev"):
                assert rank[part][1:] == one[part][1:]
                assert rank[part][0] == pytest.approx(one[part][0], rel=1e-6)
            assert rank["spikes"] == one["spikes"]
        assert one["dev"][2] == 23

    def test_each_rank_has_noise_of_its_own(self, seen, case):
        one, *two = (process[case]["noise"] for process in seen)
        assert torch.equal(one, two[0]) and not torch.equal(two[0], two[1])


def test_ranks_share_the_firsts_values_and_meet_again_in_later_groups(seen):
    assert [process["shared"].item() for process in seen] == [0, 0, 0]


def metrics(folder):
    (file,) = folder.glob("runs/snn_mlp_1/*/metrics.csv")
    return [[float(value) for value in line.split(",")[:6]] for line in file.read_text().splitlines()[1:]]


def test_a_training_on_two_ranks_that_dies_and_goes_on_with_one(run):
    """The numbers equal those of one process that never died, up to rounding."""
    whole, shared = run.folder / "whole", run.folder / "shared"
    whole.mkdir(), shared.mkdir()
    settings = SETTINGS | {"checkpoint_every": 1}
    script = ROOT / "snn_mlp_1.py"
    run.folder = whole
    run("snn_mlp_1", "--train", settings=settings)

    process = torchrun(
        shared, 2, script, "--train", *words_of(SETTINGS | {"checkpoint_every": 1, "hyperparameters.epoch": 500})
    )
    lines = [process.stdout.readline()]
    assert "57 train, 21 dev, 25 test; 2 ranks share every batch of 16" in lines[0]
    while not (shared / "checkpoint/snn_mlp_1/last.pt").exists():
        time.sleep(0.01)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(children[-1]), signal.SIGKILL)
    died = time.monotonic()
    out, err = process.communicate()
    assert time.monotonic() - died < 60
    assert process.returncode != 0
    assert "error: another rank has ended, or does not answer" in err and "--resume" in err
    assert err.count("note: precision tf32 is for CUDA") == 1

    run.folder = shared
    run("snn_mlp_1", "--train", "--resume", settings=settings)
    assert run.status == 0, run.err
    assert "note: ranks: 1 from now on, 2 so far" in run.err
    for actual, expected in zip(metrics(shared), metrics(whole), strict=True):
        assert actual == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
def test_two_ranks_that_are_stopped_go_on_as_if_they_never_were(tmp_path):
    """Each rank has its own dropout, augmentation and carried states."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir(), stopped.mkdir()
    settings = TINY | {"states": "preserved", "dataset.train_size": 400, "hyperparameters.epoch": 2}
    command = [2, ROOT / "snn_mlp_1.py", "--train", *words_of(settings)]
    process = torchrun(stopped, *command)
    process.stdout.readline(), process.stdout.readline()  # an epoch is over
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert err.count("stopped at epoch") == 1 and "the same torchrun and" in err
    saved = torch.load(stopped / "checkpoint/snn_mlp_1/last.pt", weights_only=True)
    assert saved["running"]["counts"]["train"]["batches"] > 0 and saved["epoch"] < 1
    assert not torch.equal(saved["random"][0]["torch"], saved["random"][1]["torch"])
    assert [state[0][0].shape[0] for state in saved["preserved"]] == [8, 8]

    processes = [torchrun(stopped, *command, "--resume"), torchrun(whole, *command)]
    assert [process.communicate() and process.returncode for process in processes] == [0, 0]
    assert metrics(stopped) == metrics(whole)
    one, two = (torch.load(folder / "checkpoint/snn_mlp_1/last.pt", weights_only=True) for folder in (whole, stopped))
    for part in ("model", "optimizer", "random", "preserved", "best_model"):
        assert same(one[part], two[part]), part


def test_a_batch_smaller_than_the_number_of_ranks(run, monkeypatch):
    monkeypatch.setattr(ranks, "ranks", lambda: 2)
    run("snn_mlp_1", "--train", settings={"hyperparameters.batch_size": 1})
    assert run.status == 2
    assert "error: hyperparameters.batch_size: 1 samples can't be shared by 2 ranks" in run.err
    assert not list(run.folder.iterdir())


@pytest.mark.parametrize("layers, count", [([nn.BatchNorm1d(784)], 1), ([nn.LayerNorm(784)], 0)])
def test_that_batchnorm_is_another_on_several_ranks_is_said(folder, monkeypatch, capsys, layers, count):
    for name, stand_in in (("ranks", lambda: 2), ("check_same", lambda _: None), ("parallel", lambda net: net)):
        monkeypatch.setattr(ranks, name, stand_in)
    net = snn.Sequential(snn.DualExpIIR(784, 4, 1), *layers, nn.Linear(784, 10), snn.SpikingNeuron(4))
    make_trainer(folder, net=net)
    assert capsys.readouterr().err.count("BatchNorm takes the mean of each rank's own share") == count


@pytest.mark.slow
def test_two_ranks_test_an_associative_memory(tmp_path):
    """Rank 0 also reports its recall, of all patterns, and the result is that of one process."""
    clean = {"corruption.probability": 0, "corruption.noise": 0}  # each rank would draw its own
    sizes = words_of({f"dataset.{part}_size": 12 for part in ("train", "dev", "test")} | clean)
    command = [ROOT / "associative_memory.py", "--test", *sizes, "--set", "hyperparameters.batch_size=6"]
    shared = torchrun(tmp_path, 2, *command)
    out, err = shared.communicate()
    own = alone(tmp_path, *command)
    assert shared.returncode == own.returncode == 0, err
    figures = [float(text.splitlines()[-1].split()[2].strip(",")) for text in (out, own.stdout)]
    assert figures[0] == pytest.approx(figures[1], abs=1.1e-5) and figures[1] > 1e-4
    assert len(list(tmp_path.glob("runs/associative_memory/*/recall.png"))) == 2


@pytest.mark.parametrize("name", ["WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"])
def test_ranks_that_torchrun_did_not_start(run, monkeypatch, name):
    monkeypatch.setenv(name, "2")
    run("snn_mlp_1", "--train")
    assert run.status == 2 and f"{name} is 2, but torchrun did not start this process" in run.err
    assert files_in(run.folder) == {}


def test_ranks_with_different_settings_stop_at_once(run, monkeypatch):
    """As when each process takes its config from a file of its own; two ranks that agree are in the trainings above."""

    def gathered(of_all, own):
        of_all[:] = own, own | {"optimizer.Adam.lr": 0.002}

    monkeypatch.setattr(ranks, "ranks", lambda: 2)
    monkeypatch.setattr(ranks.dist, "all_gather_object", gathered)
    run("snn_mlp_1", "--train")
    assert run.status == 2 and "rank 1 has optimizer.Adam.lr 0.002, rank 0 0.005: start all ranks alike" in run.err
    assert not list(run.folder.iterdir())


def test_what_all_ranks_counted_is_not_added_to_what_one_counts_on(monkeypatch):
    monkeypatch.setattr(ranks, "ranks", lambda: 2)
    monkeypatch.setattr(ranks.dist, "all_reduce", lambda tensor: tensor.mul_(2))
    sums = torch.ones(3)
    assert ranks.total(sums).tolist() == [2, 2, 2] and sums.tolist() == [1, 1, 1]


def test_a_gradient_counts_by_the_share_of_the_batch(folder):
    trainer, norms = make_trainer(folder), []
    start = {name: value.clone() for name, value in trainer.net.state_dict().items()}
    batch = next(iter(trainer.pass_over("train")))
    for share in (1, 2):
        trainer.net.load_state_dict(start)
        trainer._train(batch._replace(share=share))
        norms.append(trainer.watch.norm.item())
    assert norms[1] == pytest.approx(2 * norms[0]) and norms[0] > 0


def test_rank_1_counts_nothing_of_what_was_counted_before(folder, monkeypatch):
    trainer = make_trainer(folder)
    monkeypatch.setattr(ranks, "rank", lambda: 1)
    counts = {"batches": 2, "samples": 16, "sums": [3.0, 4.0, 0.0], "spikes": {}}
    snapshot._restore_running(trainer, {"lr": 1e-4, "seconds": 1, "counts": {"train": counts}})
    of_pass = trainer.passes["train"]
    assert (of_pass.batches, of_pass.samples, of_pass.sums.tolist()) == (2, 0, [0, 0, 0, 0])


def test_rank_1_has_dropout_of_its_own(monkeypatch):
    monkeypatch.setattr(ranks, "rank", lambda: 1)
    splits = {part: make_split(8) for part in ("train", "dev", "test")}
    Experiment(lambda _: make_net(), resolve("device=cpu"), None, splits)
    drawn = torch.rand(3)
    torch.manual_seed(ranks.own_seed(2))
    assert torch.equal(drawn, torch.rand(3))


def test_dev_is_of_one_ranks_statistics(folder, monkeypatch):
    net, seen = snn.Sequential(nn.BatchNorm1d(784), *make_net()), []
    monkeypatch.setattr(ranks, "broadcast", lambda tensors: seen.append([value.data_ptr() for value in tensors]))
    make_trainer(folder, net=net).fit()
    assert seen == [[value.data_ptr() for value in net.buffers()]]


def test_the_card_of_a_rank_is_that_of_its_place_on_its_machine(monkeypatch):
    monkeypatch.setattr(ranks, "ranks", lambda: 16)
    monkeypatch.setenv("RANK", "11")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert ranks.device_of_rank("cuda") == "cuda:3" and ranks.device_of_rank("cpu") == "cpu"
