"""Time series from files of every kind and from arrays, and splits by groups such as people."""

import re

import numpy as np
import pytest
import torch
from scripts import ROOT, words_of
from test_series import CPU, HEADER, QUICK, resolved, write_toy

import snn
from snn.base.errors import UserError
from snn.data import datasets, series, series_files
from snn.experiments import time_series
from snn.run.cli import main

NAN = float("nan")
ARFF = "% a comment\n@relation Toy\n@attribute att0 numeric\n@attribute target {up,'down'}\n\n@DATA\n"
RELATIONAL = ARFF.replace("att0 numeric", "r relational\n@attribute t0 numeric\n@end r")
ONE_CHANNEL = [[[0, NAN, 2, -30]], [[3, 2.5]], [[1, 1, 1]]]  # down, up, down
TWO_CHANNELS = [[[0, 1, 2], [NAN, 5, NAN]], [[3, 2], [1, 1]], [[5, NAN], [NAN, 0]]]
TEXTS = {
    "ts": (HEADER + "0,?,2,-3e1:down\n3,2.5:up\n1,1,1:down\n", ONE_CHANNEL),
    "tsv": ("down\t0\tNaN\t2\t-3e1\nup\t3\t2.5\tNaN\tNaN\ndown\t1\t1\t1\tNaN\n", ONE_CHANNEL),
    "arff": (ARFF + "0,?,2,-30,down\n3,2.5,?,?,'up'\n%\n1,1,1,?,down", ONE_CHANNEL),
    "csv": ("down,0,,2,-30\r\n\r\nup,3,2.5\r\n'down',1,1,1,,,\r\n".replace("'", '"'), ONE_CHANNEL),
    "relational.arff": (RELATIONAL + "'0,1,2\\n?,5,?',down\n\"3,2,?\\n1,1,?\",up\n'5,?\\n?,0',down\n", TWO_CHANNELS),
    "two.ts": (HEADER + "0,1,2:?,5,?:down\n3,2,?:1,1,?:up\n5,?:?,0:down\n", TWO_CHANNELS),
}


def write(folder, suffix, train, test=None):
    (folder / "Toy").mkdir(exist_ok=True)
    for part, content in (("_TRAIN", train), ("_TEST", train if test is None else test)):
        (folder / f"Toy/Toy{part}{suffix}").write_bytes(content if isinstance(content, bytes) else content.encode())


def write_npz(path, X, labels, **others):
    """Write series `[C, steps]` as an .npz holds them."""
    values = np.concatenate([np.array(x, float).T for x in X])
    np.savez(path, values=values, ends=np.cumsum([len(x[0]) for x in X]), labels=labels, **others)


def write_as(folder, suffix):
    """Write the toy of test_series in any kind of file; in .tsv and .csv its first channel."""
    write_toy(folder)
    if suffix == ".ts":
        return
    for path in sorted((folder / "Toy").glob("*.ts")):
        read = series_files.read(path)
        names, rows = [read.classes[label] for label in read.labels], [x[:, 0].tolist() for x in read.values]
        if suffix == ".npz":
            write_npz(path.with_suffix(suffix), [x.T for x in read.values], names)
        elif suffix == ".arff":
            channels = [r"\n".join(",".join(map(str, x)) for x in values.T.tolist()) for values in read.values]
            lines = [f"'{words}',{name}" for words, name in zip(channels, names)]
            path.with_suffix(suffix).write_text(RELATIONAL + "\n".join(lines))
        else:
            between = {".tsv": "\t", ".csv": ","}[suffix]
            lines = [between.join(map(str, [name, *row])) for row, name in zip(rows, names)]
            path.with_suffix(suffix).write_text("\n".join(lines))
        path.unlink()


def make_arrays(number=12, seed=0):
    rng = np.random.default_rng(seed)
    X = [rng.normal(size=(2, rng.integers(3, 9))).round(3) for _ in range(number)]
    return X, ["up" if n % 2 else "down" for n in range(number)]


def load(**overrides):
    return series.load(resolved(**overrides), CPU, None)[0]


@pytest.mark.parametrize("kind", TEXTS)
def test_every_kind_of_file_is_read_as_the_same_series(folder, kind):
    text, expected = TEXTS[kind]
    (folder / f"a.{kind}").write_bytes(text.encode())
    read = series_files.read(folder / f"a.{kind}")
    assert [read.classes[label] for label in read.labels] == ["down", "up", "down"]
    for values, series_expected in zip(read.values, expected, strict=True):
        np.testing.assert_equal(values, np.array(series_expected).T)


def test_an_npz_is_read_as_the_same_series(folder):
    for expected in (ONE_CHANNEL, TWO_CHANNELS):
        longer = [np.pad(np.array(x, float), ((0, 0), (0, 2)), constant_values=NAN) for x in expected]
        write_npz("a.npz", longer, np.array([3, 1, 3], np.int16), exercise=["b", "a", "b"])
        read = series_files.read(folder / "a.npz")
        for values, series_expected in zip(read.values, expected, strict=True):
            np.testing.assert_equal(values, np.array(series_expected).T)
        assert read.classes == ["1", "3"] and read.labels.tolist() == [1, 0, 1]
        assert series_files.read(folder / "a.npz", labels="exercise").classes == ["a", "b"]


HEADERS = ["Label,1,2,3", "label,a,b,c", "Kind,a,b,c", "label,0,1,2", '"label", "0","1","2"']
HEADERS += ["class,0,1,2", "class,1,2,3", "0,1,2,3,4", ",0,1,2", "class,0.0,0.1,0.2", "Target,10,20,40"]


@pytest.mark.parametrize("header", HEADERS)
def test_a_csv_may_have_a_header(folder, header):
    (folder / "a.csv").write_text(f"{header}\nup,1,2,3\n10,4,5\n9,4,5")
    read = series_files.read(folder / "a.csv")
    assert read.classes == ["9", "10", "up"] and list(map(len, read.values)) == [3, 2, 2]
    (folder / "b.csv").write_text(f"\n \n{header}\nup,1,2,3\n\n10,4,5\n9,4,5")
    np.testing.assert_equal(series_files.read(folder / "b.csv").values, read.values)


def test_a_first_series_is_no_header(folder):
    for text in (
        "up,1,2,3\ndown,4,5\nup,1,2,4", '"up","1","2","3"\n"down","4","5"\n"up","1","2"', "up ,1,2\ndown,4,5\nup ,1,2",
        "0,1,2\n1,4,5\n0,7,8", "class,0.0,0.1\ndown,4,5\nclass,7,8", "kind,0.0,0.1\ndown,4,5\nup,7,8",
    ):  # fmt: skip
        (folder / "a.csv").write_text(text)
        assert len(series_files.read(folder / "a.csv").values) == 3
    (folder / "a.csv").write_text(",1,2,3\n,4,5,6\n,7,8,9")
    assert len(series_files.read(folder / "a.csv", labelled=False).values) == 3
    (folder / "a.csv").write_text("up,,,\ndown,4,5\nup,1,2,4")
    with pytest.raises(UserError, match="line 1: a series of one step or none"):
        series_files.read(folder / "a.csv")


@pytest.mark.parametrize("suffix", ["tsv", "csv", "arff", "ts"])
@pytest.mark.parametrize("letter", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_only_newlines_end_a_line(folder, suffix, letter):
    text, _ = TEXTS[suffix]
    commented = {"ts": f"#a{letter}b\n{text}", "arff": f"%a{letter}b\n{text}"}.get(suffix)
    if commented:
        (folder / f"a.{suffix}").write_text(commented, newline="")
        assert len(series_files.read(folder / f"a.{suffix}").values) == 3
    between = {"tsv": "\t", "csv": ","}.get(suffix, ",")
    (folder / f"a.{suffix}").write_text(text.replace(f"2{between}-3", f"2{letter}{between}-3"), newline="")
    with pytest.raises(UserError, match=r"line \d+: channel 1: '2.*' is not a finite number"):
        series_files.read(folder / f"a.{suffix}")


def test_one_file_beside_a_test_set_is_refused(folder):
    write(folder, ".csv", "up,1,2\ndown,3,4\n" * 3)
    (folder / "Toy/Toy_TRAIN.csv").rename(folder / "Toy/Toy.csv")
    with pytest.raises(UserError, match="Toy has Toy_TEST.csv, but no Toy_TRAIN: call Toy.csv that, with this suffix"):
        load()


def test_the_first_suffix_is_read_and_said(folder, capsys):
    write(folder, ".csv", "up,1,2\ndown,3,4\n" * 3)
    assert load()["train"].values.shape[1] == 2
    assert not capsys.readouterr().err
    write(folder, ".tsv", "up\t1\t2\t3\ndown\t3\t4\t5\n" * 3)
    assert load()["train"].values.shape[1] == 3
    assert "note: Toy: Toy_TRAIN.tsv is read, not .csv" in capsys.readouterr().err


def test_missing_values_inside_a_series_are_held_and_those_at_its_end_are_not(folder, capsys):
    write(folder, ".tsv", "up\t1\t2\tNaN\t4\tNaN\ndown\t3.5\tNaN\t5\tNaN\tNaN\n" * 3)
    splits = load(**{"hyperparameters.hold": 1})
    assert splits["test"].ends.tolist() == [4, 3] * 3 and splits["test"].values.shape[1] == 4
    up, down = splits["test"].values[:2, :, 0]
    assert up[2] == up[1] != 0 and down[1] == down[0] != 0 and down[3] == 0
    assert "12 missing values" in capsys.readouterr().err


class TestTheDocuments:
    PART = (ROOT / "docs/data.md").read_text().split("\n## Time series\n")[1].split("\n## ")[0]

    @pytest.mark.parametrize("suffix", ["ts", "tsv", "arff", "csv"])
    def test_the_files_shown_are_read(self, folder, suffix):
        block = re.search(rf"- `\.{suffix}`(?s:.*?)\n\n((?:      .*\n)+)", self.PART)[1]
        (folder / f"a.{suffix}").write_text(block.replace("      ", ""))
        read = series_files.read(folder / f"a.{suffix}")
        up = [[0.1, 5], [0.2, NAN], [0.3, 7]] if suffix == "ts" else [[0.1], [NAN], [0.3]]
        np.testing.assert_equal(read.values[0], up)
        assert read.classes[read.labels[0]] == "up" and all(len(values) == 2 for values in read.values[1:])

    def test_the_npz_shown_is_read(self, folder):
        X, y = make_arrays()
        exec(re.search(r"      (np\.savez.*)", self.PART)[1], {"np": np, "X": [x.T for x in X], "y": y})
        read = series_files.read(folder / "Wrist_TRAIN.npz")
        np.testing.assert_equal(read.values, [x.T for x in X])

    def test_the_code_shown_runs(self, folder, capsys):
        X, y = make_arrays()
        code = re.search(r"```python\n(.*?)```", self.PART, re.S)[1]
        quick = code.replace('"wrist"', '"wrist", "hyperparameters": {"epoch": 1}')
        names = {"snn": snn, "X": X, "y": y, "X_test": X, "y_test": y, "X_new": X[:2]}
        exec(quick, names)
        assert "['down', 'up']" in capsys.readouterr().out and {*names["names"]} <= {"up", "down"}
        later = re.search(r"`(snn\.Predictor\(.*?\))`", self.PART)[1]
        exec(f"import snn.experiments.time_series; again, _ = {later}(X_new)", names)
        assert names["again"] == names["names"]


BAD = {
    "tsv, a word": (".tsv", "up\t1\tx\n", "Toy_TRAIN.tsv, line 1: channel 1: 'x' is not a finite number"),
    "tsv, commas": (".tsv", "up,1,2\n", "line 1: a single cell: tabs part a label and its values"),
    "tsv, no label": (".tsv", "\t1\t2\n", "line 1: its label is missing"),
    "tsv, an empty value": (".tsv", "up\t1\t\t2\n", "line 1: channel 1: '' is not"),
    "tsv, missing to the end": (".tsv", "up\t1\tNaN\tNaN\n", "line 1: a series of one step or none"),
    "tsv, bytes": (".tsv", b"u\xffp\t1\t2\n", r"line 1: its label is not printable \(UTF-8\)"),
    "csv, a word": (".csv", "up,1,2\nup,1,x,\n", "Toy_TRAIN.csv, line 2: channel 1: 'x' is not"),
    "csv, semicolons": (".csv", "up;1;2\ndown;1;2\n", "line 1: a single cell: commas part a label"),
    "csv, quotes": (".csv", 'up,1,2\nup,"1"x,2\n', "line 2: not a line of a .csv file"),
    "csv, label last": (".csv", "t0,t1,Label\n1,2,up\n", "line 1: 'Label' is column 3: put it first"),
    "csv, an index": (".csv", ",class,t0,t1\n0,up,1,2\n", "line 1: 'class' is column 2: put it first"),
    "csv, label missing": (".csv", "up,1,2\n?,1,2\n", "line 2: its label is missing"),
    "csv, label of R": (".csv", "up,1,2\nNA,1,2\n", "line 2: its label is missing"),
    "tsv, label nan": (".tsv", "nan\t1\t2\n", "line 1: its label is missing"),
    "tsv, UTF-16": (".tsv", "up\t1\t2\n".encode("utf-16"), "Toy_TRAIN.tsv is not in UTF-8"),
    "ts, a class twice": (".ts", "@classLabel true a b a\n@data\n1,2:a\n", "line 1: .* or more are needed, once each"),
    "csv, group NA": (".csv", "label,who,a,b\nup,NA,1,2\n", "its group is missing", {"dataset.groups": "who"}),
    "tsv, a header": (".tsv", "class\t0\t1\nup\t1\t2\n", "Toy_TRAIN.tsv: its first line is a header"),
    "csv, header alone": (".csv", "label,a,b\n", "Toy_TRAIN.csv has no series"),
    "csv, longer than its header": (".csv", "label,a,b\nup,1,2,3\n", "line 2: 4 cells, where the header has 3"),
    "arff, no @data": (".arff", "@relation Toy\n", "Toy_TRAIN.arff has no line @data"),
    "arff, no class": (".arff", "@attribute a numeric\n@data\n1,2\n", "its last @attribute must be the class"),
    "arff, one class": (".arff", "@attribute a {up}\n@data\n1,2,up\n", "its last @attribute must be the class"),
    "arff, text above": (".arff", "hello\n@data\n", "line 1: neither a line with @ nor a comment with %"),
    "arff, label": (".arff", ARFF + "1,2,left\n", "line 7: label 'left' is not among the classes .*: up down"),
    "arff, sparse": (".arff", ARFF + "{1 2, 3 up}\n", "line 7: "),
    "arff, channels": (".arff", RELATIONAL + "1,2,up\n", r"line 9: the channels, in quotes and with \\n between them"),
    "arff, unequal": (".arff", RELATIONAL + "'1,2\\n3',up\n", "line 9: its channels have 2, 1 values"),
    "npz, no zip": (".npz", "up,1,2", "Toy_TRAIN.npz can't be read: File is not a zip file"),
    "a long label": (".tsv", "u" * 999 + "\t1\t2\n", "line 1: its label is too long"),
    "empty": (".csv", "", "Toy_TRAIN.csv is empty"),
    "groups": (".tsv", "up\t1\t2\n", "can't hold the groups of dataset.groups", {"dataset.groups": "who"}),
    "groups, no header": (".csv", "up,1,2\n", "line 1: dataset.groups needs a header", {"dataset.groups": "who"}),
    "groups, none": (".csv", "label,who,a,b\nup,,1,2\n", "line 2: its group is missing", {"dataset.groups": "who"}),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_bad_files_are_one_line(folder, bad):
    suffix, train, message, *settings = BAD[bad]
    write(folder, suffix, train)
    with pytest.raises(UserError, match=message):
        series.measure(resolved(**(settings[0] if settings else {})))


BAD_NPZ = [
    ({"ends": [2, 4, 5]}, "ends must be the places"),
    ({"ends": [2, 2, 6]}, "ends must be the places"),
    ({"ends": [2.0, 4.0, 6.0]}, "ends must be the places"),
    ({"ends": 6}, "who: 3 for 1 series"),
    ({"values": np.zeros((6, 2), complex)}, "series 1 holds complex128"),
    ({"values": np.full((6, 2), np.inf)}, "series 1 holds an infinite value"),
    ({"values": np.zeros((6, 1, 2))}, "has the shape"),
    ({"labels": ["a", "b"]}, "labels: 2 for 3 series"),
    ({"labels": [1, 2, NAN]}, "labels: that of series 3 is nan"),
    ({"labels": [[1, 0], [0, 1], [0, 1]]}, "labels: one for each series is needed"),
    ({"labels": np.array([None, 1, 2])}, "can't be read: Object arrays"),
    ({"labels": None}, "it has no array 'labels': .* it has ends, values, who"),
    ({"who": [1, 2]}, "who: 2 for 3 series"),
]


@pytest.mark.parametrize("change, message", BAD_NPZ)
def test_a_bad_npz_is_one_line(folder, change, message):
    arrays = {"values": np.zeros((6, 2)), "ends": [2, 4, 6], "labels": ["a", "b", "a"], "who": [1, 1, 2]} | change
    np.savez("a.npz", **{name: value for name, value in arrays.items() if value is not None})
    with pytest.raises(UserError, match=rf"a\.npz.*{message}"):
        series_files.read(folder / "a.npz", groups="who")


def test_a_folder_without_files_of_series_says_which(run):
    (run.folder / "Toy").mkdir()
    run("time_series", "--train", settings=QUICK)
    assert run.status == 2 and "Toy has no Toy_TRAIN with .ts, .tsv, .arff, .csv, .npz" in run.err


class TestArrays:
    def test_they_train_as_files_do_and_the_checkpoint_needs_neither(self, folder):
        write_toy(folder)
        train, test = (series_files.read(folder / f"Toy/Toy_{part}.ts") for part in ("TRAIN", "TEST"))
        given = [[x.T for x in train.values], train.labels, [x.T for x in test.values], test.labels]
        quick = {"device": "cpu", "hyperparameters": {"epoch": 2}}
        arrays = snn.train("time_series", quick, dataset=series.from_arrays(*given, name="Own"))
        files = snn.train("time_series", quick | {"dataset": {"name": "Toy", "root": "."}})
        assert arrays.net.state_dict().keys() == files.net.state_dict().keys()
        assert all(torch.equal(arrays.net.state_dict()[key], value) for key, value in files.net.state_dict().items())
        measured = arrays.config["measured"]
        assert arrays.config["dataset"]["name"] == "Own" and measured["classes"] == ["0", "1"]
        assert measured["scaling"] == files.config["measured"]["scaling"]
        assert snn.load(next(folder.glob("checkpoint/time_series_*/best.pt"))).config["measured"] == measured

    def test_a_network_and_a_script_of_ones_own_take_them(self, folder, monkeypatch, capsys):
        monkeypatch.setattr(datasets, "TABLE", dict(datasets.TABLE))
        X, y = make_arrays()
        data = series.from_arrays(X, y, X[:4], y[:4], name="Taken")
        settings = {"experiment_name": "own", "device": "cpu", "hyperparameters": {"epoch": 1}}
        made = snn.train(time_series.network, settings, time_series.task, dataset=data)
        assert made.test.total == 4 and made.config["dataset"]["name"] == "Taken"
        (folder / "own.yaml").write_text("experiment_name: own\ndataset: {name: Taken}\ndevice: cpu")
        words = ["--train", *words_of({"hyperparameters.epoch": 1})]
        main("own", time_series.network, time_series.task, data, folder / "own.yaml", words)
        assert f"{made.test.score:.0f}/4), Taken" in capsys.readouterr().out
        (folder / "new.ts").write_text("@data\n1,2,3:1,2,3\n")
        main("own", time_series.network, time_series.task, data, folder / "own.yaml",
             ["--predict", "new.ts", "--out", "new.csv"])  # fmt: skip
        assert "new.csv: answers to 1 samples" in capsys.readouterr().out

    def test_sizes_are_of_series_not_of_how_often_they_come(self, capsys):
        X, y = make_arrays()
        data = series.from_arrays(X, y, X[:4], y[:4], name="Taken")
        asked = {"dataset.name": "Taken", "hyperparameters.batches": 9, "hyperparameters.batch_size": 4}
        loaded = {}
        for size in (3, len(X)):
            settings = resolved(**asked | {"dataset.train_size": size})
            splits, _ = datasets.load(datasets.measured(settings, data), CPU, None, data)
            loaded[size] = splits["train"]
        few, all_of_them = loaded.values()
        assert len(few) // few.repeats == 3 and len(few) >= 36 and few.repeats > all_of_them.repeats
        samples = len(all_of_them) // all_of_them.repeats
        assert f"note: dataset.train_size: {len(X)}, but Taken has {samples} train samples\n" in capsys.readouterr().err

    @pytest.mark.parametrize("form", ["list", "array", "one channel", "list of one channel", "tensor", "lists"])
    def test_all_forms_are_the_same_series(self, form):
        X = np.random.default_rng(1).normal(size=(3, 1, 5)).astype(np.float32)
        forms = {
            "list": list(X), "array": X, "one channel": X[:, 0], "list of one channel": list(X[:, 0]),
            "tensor": torch.from_numpy(X), "lists": X.tolist(),
        }  # fmt: skip
        read = series_files.of_arrays("X", forms[form], [0, 1, 0])
        np.testing.assert_equal(np.stack(read.values), X.transpose(0, 2, 1))
        assert read.values[0].dtype == np.float64

    def test_missing_values_at_the_end_are_none_of_the_series(self):
        X = np.full((2, 2, 6), NAN)
        X[0, 0, :4], X[0, 1, :2], X[1, :, 1:3] = 1, 2, 3
        read = series_files.of_arrays("X", X, [0, 1])
        assert list(map(len, read.values)) == [4, 3] and np.isnan(read.values[0]).sum() == 2

    @pytest.mark.parametrize(
        "labels, classes",
        [
            (["b", "a", "b"], ["a", "b"]), ([10, 9, 10], ["9", "10"]), (np.array([1.0, 2.0, 1.0]), ["1", "2"]),
            (np.array(["x", "y", "x"]), ["x", "y"]), ([True, False, True], ["False", "True"]),
            ([0.5, "b", 2], ["0.5", "2", "b"]), (torch.tensor([1, 0, 1]), ["0", "1"]),
            ([np.int8(-1), np.float32(1), 1], ["-1", "1"]),
        ],
    )  # fmt: skip
    def test_labels_of_any_kind(self, labels, classes):
        assert series_files.of_arrays("X", np.zeros((3, 4)), labels).classes == classes

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"X": np.zeros(5)}, r"X: series 1 has the shape \[\]"),
            ({"X": np.zeros((4, 2, 5, 1))}, "X: series 1 has the shape"),
            ({"X": np.zeros((4, 2, 0))}, "X: series 1 has the shape"),
            ({"X": np.zeros((4, 1))}, "X: series 1: a series of one step"),
            ({"X": np.full((4, 2, 5), NAN)}, "X: series 1: a series of one step or none"),
            ({"X": np.full((4, 2, 5), np.inf)}, "X: series 1 holds an infinite value"),
            ({"X": np.ma.array(np.zeros((4, 5)), mask=np.eye(4, 5))}, "X: series 1 holds masked values"),
            ({"X": ["a"] * 4}, "X: series 1 holds <U1: numbers are needed"),
            ({"X": [[[1, 2], [3]]] * 4}, "X: series 1 is no array"),
            ({"X": [np.zeros((2, 5))] * 3 + [np.zeros((5, 2))]}, r"X: series 4 has 5 channels, the first 2"),
            ({"X": []}, "X holds no series"),
            ({"X": 3}, "X is int: an array"),
            ({"y": [0, 1]}, "y: 2 for 4 series"),
            ({"y": 1}, "y: one for each series is needed"),
            ({"y": np.eye(4)}, "y: one for each series is needed"),
            ({"y": [0, 1, None, 1]}, "y: that of series 3 is None"),
            ({"y": np.array(["a", "b", np.nan, "a"])}, "y, series 3: its name is missing"),
            ({"y": ["", "a", "b", "a"]}, "y, series 1: its name is missing"),
            ({"y": np.ma.array([0, 1, 1, 2], mask=[0, 0, 1, 1])}, "y holds masked values"),
            ({"y": [0, 0, 0, 0]}, "X: all series are of class 0"),
            ({"y_test": None}, "y_test: one for each series"),
            ({"X_test": None}, "X_test is NoneType"),
            ({"X_test": np.zeros((2, 5))}, "X_test has 1 channels, the network takes 2"),
            ({"y_test": [0, 7]}, "X_test has classes that the network does not know: 7"),
            ({"X_test": None, "y_test": None}, "X has no test set beside it"),
            ({"groups": [1]}, "groups: 1 for 4 series"),
            ({"groups": [1] * 4}, "X has one group to learn from"),
            ({"name": "digits"}, "from_arrays: name is 'digits': the name of a time series begins with a capital"),
            ({"name": 3}, "from_arrays: name is 3: "),
            ({"name": "MNIST"}, "dataset.name: 'MNIST' is not allowed"),
        ],
    )
    def test_bad_ones_are_one_line(self, folder, change, message):
        X = np.random.default_rng(0).normal(size=(6, 2, 5))
        given = {"X": X[:4], "y": [0, 1, 0, 1], "X_test": X[4:], "y_test": [0, 1]}
        with pytest.raises(UserError, match=message):
            snn.train("time_series", {"device": "cpu"}, dataset=series.from_arrays(**given | change))


def test_what_arrays_may_be_by_mistake_is_told(folder, capsys):
    X, y = np.random.default_rng(0).normal(size=(12, 9, 3)), ["a", "b", "c", "c"] * 3
    data = series.from_arrays(X, y, groups=[name if name != "c" else "bc"[n // 6] for n, name in enumerate(y)])
    assert "X: a series of 3 steps with 9 channels; [N, channels, steps] is expected" in capsys.readouterr().err
    settings = resolved(**{"dataset.name": "Arrays", "dataset.folds": 3, "dataset.refit": True})  # no a is left
    data.load(settings | {"measured": data.measure(settings)}, CPU, None)
    assert "no series of a is in train: the network can't learn to answer with that" in capsys.readouterr().err
    series.from_arrays(X.transpose(0, 2, 1), y, X.transpose(0, 2, 1), y)
    assert not capsys.readouterr().err


class TestGroups:
    def splits(self, groups, test=False, **overrides):
        X, y = make_arrays(len(groups))
        for number, x in enumerate(X):  # the mean tells which series it is
            x += number
        settings = resolved(**{"dataset.name": "Arrays", "hyperparameters.hold": 1} | overrides)
        data = series.from_arrays(X, y, *((X[:3], y[:3]) if test else ()), groups=groups)
        settings["measured"] = data.measure(settings)
        splits, _ = data.load(settings, CPU, None)
        means = np.array([x.mean() for x in X])
        found, whose = {}, {}
        for name, split in splits.items():
            kept = [split.values[n, :end] * split.std + split.mean for n, end in enumerate(split.ends)]
            found[name] = sorted(int(np.abs(means - float(x.mean())).argmin()) for x in kept)
            whose[name] = {groups[n] for n in found[name]}
        return splits, found, whose

    def test_dev_and_test_are_of_people_who_are_not_in_train(self):
        people = [n % 7 for n in range(40)]
        _, found, whose = self.splits(people, **{"dataset.folds": 3, "dataset.fold": 1})
        assert sorted(sum(found.values(), [])) == list(range(40))
        assert whose["test"] == {1, 4} and len(whose["dev"]) == 1 and len(whose["train"]) == 4
        assert not (whose["dev"] | whose["test"]) & whose["train"] and not whose["dev"] & whose["test"]

    def test_every_person_is_in_one_fold_of_any_seed(self):
        people = [f"p{n % 11}" for n in range(30)]
        for seed in (1, 2):
            tested = [self.splits(people, pytorch_seed=seed, **{"dataset.fold": fold})[2]["test"] for fold in range(5)]
            assert sorted(sum(map(list, tested), [])) == sorted(set(people))
        devs = [self.splits(people, pytorch_seed=seed)[2]["dev"] for seed in range(5)]
        assert len(set(map(frozenset, devs))) > 1

    def test_a_test_set_leaves_the_people_to_train_and_dev(self):
        splits, found, whose = self.splits(["a", "b", "c", "d"] * 5, test=True)
        assert len(found["test"]) == 3 and whose["train"] | whose["dev"] == set("abcd") and len(whose["dev"]) == 1
        _, _, whose = self.splits(["a", "b", "c", "d"] * 5, test=True, **{"dataset.refit": True})
        assert whose["train"] == set("abcd") and len(whose["dev"]) == 1

    def test_a_fold_beside_a_test_set_is_told(self, folder, capsys):
        write_toy(folder)
        series.measure(resolved(**{"dataset.name": "Toy", "dataset.root": ".", "dataset.fold": 3}))
        assert "dataset.fold: 3 has no effect: Toy/Toy_TRAIN.ts has a test set beside it" in capsys.readouterr().err

    def test_scaling_and_length_are_not_of_the_test_people(self):
        X, y = make_arrays(10)
        X[0] = np.full((2, 50), 1000.0)
        data = series.from_arrays(X, y, groups=["b", "a", "a", "c", "c"] * 2)
        measured = data.measure(resolved(**{"dataset.folds": 3, "dataset.fold": 1}))
        assert measured["longest"] < 10 and abs(measured["scaling"][0][0]) < 10

    @pytest.mark.parametrize(
        "settings, message",
        [({"dataset.folds": 4}, "dataset.folds: 4, but X has 3 groups: 1, 2, 10"),
         ({"dataset.folds": 3, "dataset.fold": 3}, "dataset.fold: 3 is none of 3 folds"),
         ({"dataset.folds": 2}, "one group to learn from.*refit=true")],
    )  # fmt: skip
    def test_folds_that_are_not_there(self, settings, message):
        people = [1, 2, 10] * 4 if settings["dataset.folds"] > 2 else [1, 1, 2, 2] * 2
        with pytest.raises(UserError, match=message):
            self.splits(people, **settings)

    @pytest.mark.parametrize("suffix", [".csv", ".npz"])
    def test_one_file_with_people_and_a_checkpoint_knows_its_fold(self, run, suffix):
        X, y = make_arrays(15)
        people = ["ann", "bo", "cy"] * 5
        (run.folder / "Toy").mkdir()
        if suffix == ".npz":
            write_npz(run.folder / "Toy/Toy.npz", X, y, person=people)
        else:
            cells = ([name, *x[0, :2], who, *x[0, 2:]] for x, name, who in zip(X, y, people))
            rows = [",".join(map(str, row)) for row in cells]
            (run.folder / "Toy/Toy.csv").write_text("label,t0,t1,person,t2,t3,t4,t5,t6,t7\n" + "\n".join(rows))
        settings = QUICK | {"dataset.groups": "person", "dataset.folds": 3, "dataset.fold": 2}
        trained = run("time_series", "--train", settings=settings)
        assert run.status == 0 and trained[-1].endswith("/5), Toy"), run.err
        tested = run("time_series", "--test", settings={"dataset.name": "Toy", "dataset.root": "."})
        assert tested[-1] == trained[-1] and "dataset.fold: 2 from the checkpoint, not 0" in run.err
        other = {"dataset.name": "Toy", "dataset.root": ".", "dataset.fold": 1}  # whose people it has seen
        assert run("time_series", "--test", settings=other)[-1] == trained[-1]
        assert "the test set is what the checkpoint's run left out, cy, whatever the folds are now" in run.err
        mine = {"experiment_name": "mine", "dataset.fold": 1}
        run("time_series", "--train", "--init_from", "checkpoint/time_series/best.pt", settings=settings | mine)
        assert "best.pt may have learned from bo, on whom this run is tested" in run.err
        if suffix == ".csv":
            with open(run.folder / "Toy/Toy.csv", "a") as file:  # folds are dealt in the order of names
                file.write("\nup,1,2,al,3,4\ndown,1,2,al,3,4\n")
            again = run("time_series", "--test", settings={"dataset.name": "Toy", "dataset.root": "."})
            assert again[-1] == trained[-1]
            more = {"dataset.name": "Toy", "dataset.root": ".", "dataset.folds": 9}  # than there are groups
            assert run("time_series", "--test", settings=more)[-1] == trained[-1]
            (run.folder / "Toy/Toy.csv").write_text("label,person,t0,t1\nup,al,1,2\ndown,di,1,2\nup,ed,1,2\n")
            run("time_series", "--test", settings={"dataset.name": "Toy", "dataset.root": "."})
            assert run.status == 2 and "has none of the groups that the checkpoint's run left out: cy" in run.err
        run("time_series", "--train", settings=QUICK)
        assert run.status == 2 and re.search("has no test set beside it|is not a finite number", run.err)


def test_people_beside_a_test_set_in_files(folder):
    lines = "".join(f"{('up', 'down')[n % 2]},{n % 4},{n},2,3\n" for n in range(16))
    write(folder, ".csv", f"label,who,a,b,c\n{lines}")
    splits = load(**{"dataset.groups": "who"})
    assert [len(splits[part]) for part in ("train", "dev", "test")] == [12, 4, 16]
    settings = resolved(**{"dataset.groups": "class"})
    write(folder, ".csv", f"label,class,a,b,c\n{lines}")  # a school's
    assert len(series.load(settings, CPU, None)[0]["test"]) == 16
    settings["measured"] = series.measure(settings)
    (folder / "Toy/Toy_TRAIN.csv").rename(folder / "Toy/Toy.csv")
    (folder / "Toy/Toy_TEST.csv").unlink()
    with pytest.raises(UserError, match="Toy.csv has no test set beside it, as that of the run had"):
        series.load(settings, CPU, None)  # else it would be tested on what it has learned
    write(folder, ".csv", f"label,who,a,b,c\n{lines}")
    (folder / "Toy/Toy_TEST.csv").write_text("label,a,b,c\nup,0,2,3\n")  # whose nobody asks
    assert len(load(**{"dataset.groups": "who"})["test"]) == 1
    (folder / "Toy/Toy_TEST.csv").write_text("up,7,0,2,3\n")
    with pytest.raises(UserError, match="line 1: dataset.groups needs a header"):
        load(**{"dataset.groups": "who"})
    (folder / "Toy/Toy_TEST.csv").write_text("label,who,a,b,c\nup,,0,2,3\n")
    splits = load(**{"dataset.groups": "who"})
    assert len(splits["test"]) == 1 and splits["test"].length == splits["train"].length


@pytest.mark.parametrize("name, text", [
    ("a.csv", "label,a,b\nup,1,2\ndown,2,3\n"), ("a.tsv", "up\t1\t2\ndown\t2\t3\n"),
    ("a.ts", "@classLabel true up down\n@data\n1,2:up\n2,3:down\n"),
])  # fmt: skip
def test_a_mark_of_utf_8_is_no_part_of_the_file(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8-sig")
    read = series_files.read(folder / name)
    assert sorted(read.classes) == ["down", "up"] and len(read.values) == 2
