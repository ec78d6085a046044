"""Answers out of a trained network: files of a test, predictions in Python and in files, and streams."""

import csv
import re

import numpy as np
import pytest
import torch
from scripts import ROOT, TINY, files_in, words_of
from torch import nn

import snn
from snn import checkpoint, config, experiments
from snn.base import ranks
from snn.data import datasets, digits
from snn.data.base import some
from snn.layers.start import initialize
from snn.run import step
from snn.run.cli import main
from snn.run.step import evaluate
from snn.tasks import answers
from snn.tasks.classification import Classification

NAN = float("nan")
DRAW = np.random.default_rng(3)
STEPS, SHIFTS = (29, 34, 15, 60, 44, 21), (0, 2, -3, 0, 2, -3)
X = [DRAW.normal([[5 + by], [40 * by - 300]], [[1.0], [40.0]], (2, steps)) for steps, by in zip(STEPS, SHIFTS)]
Y = ["up", "down", "still"] * 2
LENGTH = {"hyperparameters.length": TINY["hyperparameters.length"]}  # that `run` sets
TOY = LENGTH | {"dataset.name": "Toy", "hyperparameters.hidden": "[20]", "hyperparameters.init": "diverse"}


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def saved(folder, experiment, data=None, **overrides):
    """Save an experiment's network as it is before training, all awake; return its path."""
    awake = {"hyperparameters.init": "kaiming", "hyperparameters.threshold": 0.5, "device": "cpu"}
    words = words_of(awake | overrides)[1::2]
    settings = datasets.measured(config.resolve(ROOT / f"configs/{experiment}.yaml", overrides=words), data)
    torch.manual_seed(1)
    net = experiments.find(experiment).network(settings)
    initialize(net, settings["hyperparameters"])
    [*_, weight, _] = net.parameters()
    weight.data *= 3  # of the last layer: it answers
    path = folder / "own.pt"
    checkpoint.save(path, {"config": settings, "epoch": 3, "model": net.state_dict()})
    return path


def of_series(folder, **overrides):
    given = {f"dataset.{key}" if key == "differences" else f"hyperparameters.{key}": v for key, v in overrides.items()}
    given = {"ties" if key.endswith(".ties") else key: value for key, value in given.items()}
    data = snn.data.series.from_arrays(X, Y, X, Y, name="Toy")
    return saved(folder, "time_series", data, **TOY | given)


class TestTest:
    @pytest.mark.parametrize("ties", ["first", "potential"])
    def test_the_answers_are_those_that_the_score_counts(self, run, trained, ties):
        best = trained / "checkpoint/snn_mlp_1/best.pt"
        lines = run("snn_mlp_1", "--test", "--checkpoint", str(best), settings={"ties": ties})
        (folder,) = run.folder.glob("runs/snn_mlp_1/*")
        assert f"run folder: {folder.relative_to(run.folder)}" in lines
        rows, right = rows_of(folder / "predictions.csv"), int(re.search(r"\((\d+)/24\)", lines[-1])[1])
        assert [row["sample"] for row in rows] == [str(n) for n in range(24)]
        assert sum(row["true"] == row["answer"] for row in rows) == right
        _, (_, labels) = digits.read()
        assert [int(row["true"]) for row in rows] == labels[some(len(labels), 24)].tolist()
        for row in rows:
            scores = sorted((float(row[f"score {n}"]) for n in range(10)), reverse=True)
            assert float(row[f"score {row['answer']}"]) == scores[0]
            assert float(row["margin"]) == scores[0] - scores[1]
            assert row["tie"] == ("yes" if scores[0] == scores[1] else "no")
        ties = [line for line in lines if line.startswith("ties: ")]
        assert sum(row["tie"] == "yes" for row in rows) == (int(ties[0].split()[2]) if ties else 0)

    def test_each_class_has_its_precision_and_recall(self, folder):
        found = answers.Answers(torch.eye(3)[[0, 0, 1, 0]], torch.tensor([0, 0, 1, 0]), torch.tensor([0, 1, 1, 1]))
        answers.write(found, ["true", "tie", "c"], folder)
        assert rows_of("classes.csv") == [
            {"class": "true", "precision": "0.3333", "recall": "1.0000", "support": "1"},
            {"class": "tie", "precision": "1.0000", "recall": "0.3333", "support": "3"},
            {"class": "c", "precision": "", "recall": "", "support": "0"},
        ]
        assert [list(row.values()) for row in rows_of("confusion.csv")] == [
            ["true", "1", "0", "0"], ["tie", "2", "1", "0"], ["c", "0", "0", "0"]
        ]  # fmt: skip
        assert len(rows_of("predictions.csv")[0]) == 8  # no column is lost to a class of the same name

    def test_shares_of_ranks_come_in_the_order_of_the_samples(self, monkeypatch):
        """Each batch is shared by the ranks in turn; the last may leave one without a sample."""
        parts = [answers.Answers(torch.full((n, 3), n), torch.full((n,), n), torch.zeros(n)) for n in (3, 2, 1, 0)]
        monkeypatch.setattr(ranks, "gathered", lambda own: [own, [parts[1], parts[3]]])
        assert step._of_all_ranks([parts[0], parts[2]]).answers.tolist() == [3, 3, 3, 2, 2, 1]
        monkeypatch.setattr(ranks, "gathered", lambda own: None)  # on the other ranks
        assert step._of_all_ranks([parts[1], parts[3]]) is None

    def test_samples_with_a_rule_of_ones_own(self):
        """The table and the score go by the same answer: the class with the most spikes, by `counted`."""

        class Late(Classification):
            def counted(self, y, targets):
                return y[1:], targets

        y = torch.tensor([[[5.0, 0, 0]], [[0, 1, 1]], [[0, 1, 1]]])
        drive = torch.tensor([[[9.0, 0, 0]], [[0, 1, 2]], [[0, 1, 2]]])
        settled = Late().settled(y, drive, torch.tensor([2]))
        assert Late().answers(y, y, torch.tensor([1])).answers == 1
        assert Late().answers(y, y, torch.tensor([1])).scores.tolist() == [[0, 2, 2]]
        assert Late().score(y, torch.tensor([1])) == 1 and Late().ties(y, torch.tensor([1])) == 1
        assert settled.dtype == torch.float64


class TestPredictor:
    @pytest.mark.parametrize("ties", ["first", "potential"])
    @pytest.mark.parametrize("hold, pool, differences", [(1, 1, True), (3, 1, False), (0, 3, True), (2, 0, True)])
    def test_series(self, folder, hold, pool, differences, ties):
        """The whole is as the test of the same series, and as the last of a stream; missing values too."""
        path = of_series(folder, hold=hold, pool=pool, differences=differences, ties=ties)
        predictor = snn.Predictor(path, device="cpu")
        given = [x.copy() for x in X]
        given[1][0, 3:6], given[2][:, 0], given[3][1, :] = NAN, NAN, NAN
        names, scores = predictor(given)
        data = snn.data.series.from_arrays(X, Y, given, Y, name="Toy")
        test = data.load(predictor.config, torch.device("cpu"), None)[0]["test"]
        result = evaluate(predictor.net, test, predictor.config, predictor.task)
        assert torch.equal(scores, result.answers.scores) and scores.sum() > 20
        assert sum(name == y for name, y in zip(names, Y)) == result.score
        assert len(set(names)) > 1 and set(names) <= set(Y)
        for x, name, score in zip(given, names, scores):
            stream, encode = predictor.stream(), predictor.samples.steps(torch.device("cpu"))
            *_, last = [stream(values) for values in x.T]
            assert last[0] == name and torch.equal(last[1], score)
            *steps, (end, _) = map(encode, x.T)
            whole = predictor.samples.split([x], "cpu").batch(torch.tensor([0]), None)[0]
            assert torch.equal(torch.cat([part for part, is_complete in steps if is_complete] + [end]), whole)

    def test_a_stream_has_an_answer_at_every_step(self, folder):
        predictor = snn.Predictor(of_series(folder, pool=3), device="cpu")
        stream = predictor.stream()
        for n, values in enumerate(X[3].T, 1):
            name, scores = stream(values)
            if n > 1:
                whole, of_whole = predictor([X[3][:, :n]])
                assert name == whole[0] and torch.equal(scores, of_whole[0]), n
        assert torch.equal(predictor.stream()(X[0][:, 0])[1], predictor.stream()(list(X[0][:, 0]))[1])

    def test_a_step_that_is_refused_changes_nothing(self, folder):
        predictor = snn.Predictor(of_series(folder), device="cpu")
        stream, disturbed = predictor.stream(), predictor.stream()
        for values in X[3].T:
            for wrong in "abc", [1, 2, 3], [np.inf, 0], [1e300, 0]:
                with pytest.raises(snn.UserError, match="step"):
                    disturbed(wrong)
            one, other = stream(values), disturbed(values)
            assert one[0] == other[0] and torch.equal(one[1], other[1])

    def test_series_longer_and_in_other_forms(self, folder):
        predictor = snn.Predictor(of_series(folder), device="cpu")
        long = DRAW.normal(5, 1, (3, 2, 50))
        scores = predictor(long)[1]
        assert torch.equal(predictor(list(long))[1], scores) and scores.shape == (3, 3)
        assert torch.equal(predictor(torch.tensor(long))[1], scores)

    def test_images(self, folder):
        predictor = snn.Predictor(saved(folder, "snn_mlp_1", **{"hyperparameters.length": 8}), device="cpu")
        images = digits.read()[1][0][:70]  # more than a batch
        names, scores = predictor(images)
        assert set(names) <= set("0123456789") and scores.shape == (70, 10) and scores.sum() > 100
        as_floats = (images.float() / 255).numpy()
        other_layout = np.asfortranarray(as_floats)
        for form in images.numpy().astype(np.int64), images.view(70, 1, 784), as_floats, list(as_floats), other_layout:
            assert torch.equal(predictor(form)[1], scores)
        stream = predictor.stream()
        *_, last = [stream(images[5]) for _ in range(8)]
        assert last[0] == names[5] and torch.equal(last[1], scores[5])

    def test_a_stream_of_a_task_that_counts_otherwise_is_refused(self, folder):
        class Weighted(Classification):
            def counted(self, y, targets):
                return y * torch.linspace(0, 1, len(y))[:, None, None], targets

        path = saved(folder, "snn_mlp_1", **{"hyperparameters.length": 8})
        predictor = snn.Predictor(path, task=Weighted(), device="cpu")
        predictor(digits.read()[1][0][:2])
        with pytest.raises(snn.UserError, match=r"as Classification does, and Weighted has another counted\(\)"):
            predictor.stream()

    def test_poisson_spikes_are_drawn_as_in_a_test(self, folder):
        path = saved(folder, "snn_mlp_2_poisson_input", **{"dataset.name": "digits", "hyperparameters.length": 8})
        predictor = snn.Predictor(path, device="cpu")
        splits, _ = datasets.load(predictor.config, torch.device("cpu"), (784,))
        tested = evaluate(predictor.net, splits["test"], predictor.config, predictor.task).answers
        assert torch.equal(predictor(digits.read()[1][0])[1], tested.scores)
        assert predictor.stream()(digits.read()[1][0][0])[1].shape == (10,)

    def test_recordings(self, folder):
        path = saved(folder, "snn_conv_1_nmnist", **{"hyperparameters.length": 4, "dataset.name": "nmnist"})
        predictor = snn.Predictor(path, device="cpu")
        events = [
            np.stack([np.sort(DRAW.integers(0, 300_000, n)), *DRAW.integers(0, 34, (2, n)), DRAW.integers(0, 2, n)], 1)
            for n in (3000, 2000)
        ]
        for row in events:
            row[0, 0] = 0  # so that bins begin there
        names, scores = predictor(events)
        assert scores.shape == (2, 10) and not torch.equal(scores[0], scores[1])
        stream = predictor.stream()
        for n in range(4):
            frame = np.zeros((2, 34, 34))
            of_bin = events[1][events[1][:, 0] // 75_000 == n]
            frame[of_bin[:, 3], of_bin[:, 1], of_bin[:, 2]] = 1
            last = stream(frame)
        assert last[0] == names[1] and torch.allclose(last[1], scores[1])
        with pytest.raises(snn.UserError, match=r"frame has the shape \[34, 34, 2\]: \[2, 34, 34\] is needed"):
            stream(frame.transpose(1, 2, 0))

    def test_recordings_of_another_length_are_told(self, folder, capsys):
        path = saved(folder, "snn_conv_1_nmnist", **{"hyperparameters.length": 4, "dataset.name": "nmnist"})
        samples, zeros = snn.Predictor(path, device="cpu").samples, np.zeros(200, int)
        late = "x.npy: 1 of 1 recordings go on after 4 bins of 75 ms, and what comes then is left out"
        short = "x.npy: 1 of 1 recordings fill less than half of 4 bins of 75 ms"
        for last, told in ((301_000, ""), (600_000, late), (300, short)):  # milliseconds
            samples.split([np.stack([np.linspace(0, last, 200).astype(int), zeros, zeros, zeros], 1)], "cpu", "x.npy")
            assert told in (found := capsys.readouterr().err) and bool(told) == bool(found)

    def test_a_run_of_another_name_needs_its_network_alone(self, folder):
        path = of_series(folder)
        before = snn.Predictor(path, device="cpu")(X)
        whole = torch.load(path, weights_only=True)
        whole["config"]["experiment_name"] = "wrist"
        torch.save(whole, path)
        with pytest.raises(snn.UserError, match="'wrist', which is not an experiment that ships"):
            snn.Predictor(path)
        names, scores = snn.Predictor(path, network=experiments.find("time_series").network, device="cpu")(X)
        assert names == before[0] and torch.equal(scores, before[1])
        assert snn.Predictor(snn.load(path, experiments.find("time_series").network), device="cpu")(X)[0] == names

    def test_a_network_that_snn_load_did_not_return_is_refused(self):
        with pytest.raises(snn.UserError, match="Predictor: this Linear has no config: pass what snn.load returned"):
            snn.Predictor(nn.Linear(2, 3))

    def test_a_network_without_classes_is_refused(self):
        with pytest.raises(snn.UserError, match="associative_memory has no classes to answer with"):
            snn.Predictor("associative_memory")

    def test_a_dataset_of_ones_own_has_labels(self, folder, monkeypatch):
        predictor = snn.Predictor(saved(folder, "snn_mlp_1"), device="cpu")
        module = type("bursts", (), {"NAMES": ("bursts",), "KEYS": {"dataset": {}}, "load": print})
        monkeypatch.setitem(datasets.TABLE, "bursts", module)
        predictor.net.config["dataset"]["name"] = "bursts"
        with pytest.raises(snn.UserError, match="dataset bursts takes no samples without labels"):
            snn.Predictor(predictor.net)


WRONG = {
    "a string": "abc", "none": None, "a number": 3, "nothing": [], "no samples": np.zeros((0, 2, 5)), "a set": {1, 2},
    "strings": np.array([["a", "b"]]), "objects": np.array([None, 1]), "complex": np.ones((1, 2, 5), complex),
    "too many dimensions": np.ones((1, 2, 2, 5, 5)), "a scalar": np.array(1.0), "infinite": np.full((1, 2, 5), np.inf),
    "ragged": [np.ones((2, 5)), np.ones((3, 5))], "ragged steps": [[[1, 2, 3], [1, 2]]],
    "other channels": np.ones((1, 7, 5)),
    "dates": np.zeros((1, 2, 5), "M8[s]"), "masked": np.ma.masked_all((1, 2, 5)), "empty series": [np.zeros((2, 0))],
    "negative": np.full((1, 28, 28), -1), "above white": np.full((1, 28, 28), 256),
    "too bright": np.full((1, 28, 28), 2.0),
    "no number": np.full((1, 28, 28), NAN), "meta": torch.empty((1, 2, 5), device="meta"), "a dict": {"a": 1},
    "events of floats": [np.ones((5, 4))], "three columns": [np.ones((5, 3), int)], "no events": [np.ones((0, 4), int)],
    "outside": [np.full((5, 4), 99)], "before": [np.full((5, 4), -1)], "bytes": b"abc", "far": [np.full((2, 9), 1e300)],
    "long": [np.array([[0, 1, 1, 1], [2**40, 1, 1, 1]])],
}  # fmt: skip


@pytest.mark.parametrize("of", ["series", "images", "recordings"])
def test_wrong_samples_are_one_line(folder, of):
    kind = {"series": "time_series", "images": "snn_mlp_1", "recordings": "snn_conv_1_nmnist"}[of]
    predictor = snn.Predictor(of_series(folder) if of == "series" else saved(folder, kind), device="cpu")
    for name, wrong in WRONG.items():
        if of == "series" and name == "long":
            continue  # two channels of four steps
        for predict in predictor, predictor.stream():
            with pytest.raises(snn.UserError) as raised:
                predict(wrong)
                pytest.fail(name)
            assert len(str(raised.value)) < 400, name


ONE = [x[:1].round(3) for x in X]
LINES = [",".join(map(str, x[0].tolist())) for x in ONE]
TABS = [line.replace(",", "\t") for line in LINES]
ARRAYS = {"values": np.concatenate([x[0] for x in ONE]), "ends": np.cumsum([x.shape[1] for x in ONE])}
FILES = {  # name: its lines, or arrays
    "a.ts": ["@classLabel true up down still", "@data", *map("{}:{}".format, LINES, Y)],
    "false.ts": ["@classLabel false", "@data", *LINES],
    "question.ts": ["@classLabel true up down still", "@data", *(f"{line}:?" for line in LINES)],
    "empty.ts": ["@classLabel true up down still", "@data", *(f"{line}:" for line in LINES)],
    "none.ts": ["@classLabel true up down still", "@data", *LINES],
    "no_line.ts": ["@data", *LINES],
    "a.tsv": list(map("{}\t{}".format, Y, TABS)),
    "question.tsv": [f"?\t{line}" for line in TABS],
    "a.csv": list(map("{},{}".format, Y, LINES)),
    "empty.csv": ["label", *(f",{line}" for line in LINES)],
    "a.arff": ["@attribute class {up,down,still}", "@data", *map("{},{}".format, LINES, Y)],
    "question.arff": ["@attribute class {up,down,still}", "@data", *(f"{line},?" for line in LINES)],
    "a.npz": ARRAYS | {"labels": Y},
    "none.npz": ARRAYS,
}


def write(path, content):
    if isinstance(content, dict):
        np.savez(path, **content)
    elif path.name == "empty.csv":  # the header has as many cells as the longest line
        path.write_text("\n".join(["label" + 60 * ",t", *content[1:]]))
    else:
        path.write_text("\n".join(content))
    return path


class TestFiles:
    """--predict and --out."""

    @pytest.fixture
    def predict(self, run):
        def predict(file, script="time_series", out="answers.csv"):
            words = "--predict", str(file), "--checkpoint", "own.pt", "--out", out
            return run(script, *words, settings={"dataset.name": "Toy" if script == "time_series" else "digits"})

        return predict

    def test_series(self, run, predict):
        data = snn.data.series.from_arrays(ONE, Y, ONE, Y, name="Toy")
        names, scores = snn.Predictor(saved(run.folder, "time_series", data, **TOY), device="cpu")(ONE)
        for name, content in FILES.items():
            lines = predict(write(run.folder / name, content), out=f"{name}.answers.csv")
            assert run.status == 0 and lines == [f"{name}.answers.csv: answers to 6 samples"], run.err
            rows = rows_of(run.folder / f"{name}.answers.csv")
            assert [row["answer"] for row in rows] == names, name
            assert [[float(row[f"score {of}"]) for of in ("down", "still", "up")] for row in rows] == scores.tolist()
        assert sorted(rows[0]) == sorted(
            ["sample", "answer", "score down", "score still", "score up", "margin", "tie"]
        )

    def test_draws_and_rounding_are_those_of_the_checkpoint(self, folder):
        """As for a Predictor, which knows no command line."""
        experiment, images = "snn_mlp_2_poisson_input", digits.read()[1][0][:40].numpy()
        own = {"precision": "bf16", "pytorch_seed": 5, "hyperparameters.batch_size": 7, "hyperparameters.length": 8}
        _, scores = snn.Predictor(saved(folder, experiment, **own | {"dataset.name": "digits"}), device="cpu")(images)
        np.save("images.npy", images)
        words = "--predict", "images.npy", "--out", "a.csv", "--checkpoint", "own.pt", "--device", "cpu"
        main(experiment, experiments.find(experiment).network, argv=words)
        assert [[float(row[f"score {n}"]) for n in range(10)] for row in rows_of("a.csv")] == scores.tolist()

    def test_a_column_of_groups_is_no_value(self, run, predict):
        """Numbers of people, whom a checkpoint's training files name, are left out where they are there."""
        data = snn.data.series.from_arrays(ONE, Y, ONE, Y, name="Toy")
        path = saved(run.folder, "time_series", data, **TOY | {"dataset.groups": "person"})
        names, _ = snn.Predictor(path, device="cpu")(ONE)
        for column, cell in ("person,", "7,"), ("person,", ","), ("", ""):
            lines = [f"?,{cell}{line}" for line in LINES]
            (run.folder / "new.csv").write_text("\n".join([f"label,{column}" + 60 * "t,", *lines]))
            predict("new.csv")
            assert "note: new.csv: the first cell of each line is the place of its label, and no value\n" in run.err
            assert [row["answer"] for row in rows_of(run.folder / "answers.csv")] == names, run.err

    def test_arrays_and_channels(self, run, predict):
        names, _ = snn.Predictor(of_series(run.folder), device="cpu")(X)
        np.save(run.folder / "a.npy", [x[:, :5] for x in X])
        (run.folder / "b.ts").write_text("@data\n" + "\n".join(":".join(",".join(map(str, c)) for c in x) for x in X))
        (run.folder / "answers.csv").write_text("older")
        lines = predict("b.ts")
        assert lines == ["answers.csv: answers to 6 samples, in place of what was there"], run.err
        assert [row["answer"] for row in rows_of(run.folder / "answers.csv")] == names
        assert predict("a.npy", out="short.csv") == ["short.csv: answers to 6 samples"], run.err

    def test_images(self, run, predict):
        images, _ = digits.read()[1]
        names, _ = snn.Predictor(saved(run.folder, "snn_mlp_1", **LENGTH), device="cpu")(images[:3])
        np.save(run.folder / "a.npy", images[:3].numpy())
        predict("a.npy", script="snn_mlp_1")
        assert [row["answer"] for row in rows_of(run.folder / "answers.csv")] == names, run.err

    @pytest.mark.parametrize("script", ["snn_conv_1_nmnist", "snn_conv_1_gesture"])
    def test_recordings(self, run, script):
        path, settings = saved(run.folder, script, **{"hyperparameters.length": 2}), {"dataset.name": script[11:]}
        rows = [(n % 30, 3 * n % 30, n % 2, 10 * n) for n in range(200)]
        events = np.array(rows)[:, [3, 0, 1, 2]]
        np.save(run.folder / "a.npy", events)
        words = "--predict", "a.npy", "--checkpoint", str(path), "--out", "answers.csv"
        run(script, *words, settings=settings | {"hyperparameters.length": 2})
        (name,), scores = snn.Predictor(path, device="cpu")([events])
        (row,) = rows_of(run.folder / "answers.csv")
        assert row["answer"] == name and float(row[f"score {name}"]) == scores.max(), run.err

    @pytest.mark.parametrize("script", ["time_series", "snn_mlp_1", "snn_conv_1_nmnist"])
    def test_what_does_not_fit_is_one_line_and_nothing_is_lost(self, run, script):
        path = of_series(run.folder) if script == "time_series" else saved(run.folder, script)
        (run.folder / "new.ts").write_text("@data\n1,2,3:1,2,3:1,2,3\n")
        (run.folder / "class.ts").write_text("@classLabel true up down\n@data\n1,2,3:1,2,3:down\n")
        (run.folder / "unlabelled.csv").write_text("0.5,0.1,0.2\n")  # without a place for the label
        (run.folder / "folder.ts").mkdir()
        (run.folder / "text.png").write_text("abc")
        np.save(run.folder / "objects.npy", np.array([None, {}]), allow_pickle=True)
        np.save(run.folder / "scalar.npy", 3)
        np.save(run.folder / "strings.npy", ["a"])
        (run.folder / "text.npy").write_text("abc")
        (run.folder / "answers.csv").write_text("older")
        (run.folder / "folder").mkdir()
        before = files_in(run.folder)
        names = ["missing.ts", "missing", *(file.name for file in run.folder.iterdir() if file.name != "answers.csv")]
        names.remove("class.ts")
        for name, out in [*((name, "answers.csv") for name in names), ("class.ts", "class.ts"), ("class.ts", "folder")]:
            run(script, "--predict", name, "--checkpoint", str(path), "--out", out, settings={"dataset.name": {
                "time_series": "Toy", "snn_mlp_1": "digits"}.get(script, "nmnist_simulated")})
            lines = [line for line in run.err.splitlines() if not line.startswith("note: ")]
            lines = [line for line in lines if "from the checkpoint, not" not in line]
            assert run.status == 2 and len(lines) == 1 and lines[0].startswith("error: "), (name, run.err)
            assert files_in(run.folder) == before, name

    def test_what_was_read_is_not_replaced(self, run):
        path = of_series(run.folder)
        (run.folder / "new.ts").write_text("@classLabel true up down\n@data\n1,2,3:1,2,3:down\n")
        (run.folder / "more.yaml").write_text("ties: potential\n")
        (run.folder / "link.pt").symlink_to(path)
        before = files_in(run.folder)
        words = "--predict", "new.ts", "--checkpoint", str(path), "--config_file", "more.yaml"
        for out in ("new.ts", str(path), "link.pt", "more.yaml"):
            run("time_series", *words, "--out", out, settings={"dataset.name": "Toy"})
            assert run.status == 2 and f"{out} is a file that was read, and would be lost" in run.err.splitlines()[-1]
            assert files_in(run.folder) == before
        run("time_series", *words, "--out", "answers.csv", settings={"dataset.name": "Toy"})
        assert run.status == 0

    def test_words(self, run):
        for words in (
            ["--predict", "a.ts"], ["--out", "a.csv"], ["--predict", "a.ts", "--out", ""],
            ["--predict", "a.ts", "--out", "b.csv", "--train"], ["--predict", "a.ts", "--out", "b.csv", "--test"],
        ):  # fmt: skip
            run("time_series", *words)
            assert run.status == 2 and len(run.err.splitlines()) == 1, words
