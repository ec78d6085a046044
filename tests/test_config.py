"""Configs: the shipped ones, the precedence of overlays, and what is refused."""

import copy
import re
import shlex
from dataclasses import dataclass

import pytest
import yaml
from scripts import ROOT

from snn import config
from snn.base.errors import UserError
from snn.kernels.surrogates import Surrogate, m

CONFIGS = ROOT / "configs"
DEFAULT = CONFIGS / "snn_mlp_1.yaml"


def resolve(*overrides, **options):
    notes = []
    return config.resolve(DEFAULT, overrides=overrides, warn=notes.append, **options), notes


def flat(settings, prefix=""):
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.fixture
def laid_over(tmp_path):
    """Return a function that writes a YAML and resolves the config with it as an overlay."""

    def write(text, **options):
        file = tmp_path / "mine.yaml"
        file.write_text(text)
        return resolve(config_file=file, **options)

    return write


VARIANTS = {
    "snn_mlp_1_non_zero": ("snn_mlp_1", {"states": "preserved"}),
    "snn_mlp_1_poisson_input": ("snn_mlp_1", {"encoding": "poisson"}),
    "snn_mlp_2": ("snn_mlp_1", {"hyperparameters.synapse_type": "first_order"}),
    "snn_mlp_2_poisson_input": ("snn_mlp_2", {"encoding": "poisson"}),
    "snn_conv_1_mnist": ("snn_mlp_1", {}),
    "snn_conv_1_mnist_poisson_input": ("snn_conv_1_mnist", {"encoding": "poisson", "hyperparameters.batch_size": 32}),
    "sequential_mnist_permuted": (
        "sequential_mnist",
        {
            "encoding": "permuted",
            "hyperparameters.epoch": 30,
            "scheduler.CosineAnnealingWarmRestarts.T_0": 30,
        },
    ),
    "snn_conv_1_gesture_30": ("snn_conv_1_gesture", {"hyperparameters.length": 30}),
    "snn_conv_1_gesture_max": ("snn_conv_1_gesture_30", {"encoding": "max", "hyperparameters.batch_size": 64}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_differs_from_its_sibling_in_nothing_else(name):
    sibling, differences = VARIANTS[name]
    mine, other = (dict(flat(config.resolve(CONFIGS / f"{which}.yaml"))) for which in (name, sibling))
    assert {key for key in mine if mine[key] != other[key]} == {"experiment_name", *differences}
    assert {key: mine[key] for key in differences} == differences


def test_published_settings():
    settings = dict(flat(resolve()[0]))
    expected = {
        "pytorch_seed": 2, "hyperparameters.length": 25, "hyperparameters.batch_size": 64, "hyperparameters.epoch": 100,
        "hyperparameters.tau_m": 4, "hyperparameters.tau_s": 1, "hyperparameters.dropout": 0.3,
        "optimizer.optimizer_choice": "Adam", "optimizer.Adam.lr": 1e-4, "scheduler.MultiStepLR.milestones": [50, 100],
        "scheduler.MultiStepLR.gamma": 0.1, "transform.RandomApply.probability": 0.5,
        "transform.RandomResizedCrop.scale": [0.85, 1], "transform.RandomRotation.angle": 15,
    }  # fmt: skip
    assert {key: settings[key] for key in expected} == expected
    assert resolve()[1] == []


@pytest.mark.parametrize(
    "name, length, batch_size, encoding",
    [("snn_conv_1_nmnist", 30, 48, "or"), ("snn_conv_1_gesture", 50, 128, "or")],
)
def test_published_settings_of_event_data(name, length, batch_size, encoding):
    """They equal those of snn_mlp_1, except the data, the length and the batch size."""
    mine, other = (dict(flat(config.resolve(CONFIGS / f"{which}.yaml"))) for which in (name, "snn_mlp_1"))
    own = {"hyperparameters.length": length, "hyperparameters.batch_size": batch_size, "encoding": encoding}
    assert {key: mine[key] for key in own} == own
    shared = [key for key in mine if not key.startswith(("dataset.", "experiment_name")) and key not in own]
    assert {key: mine[key] for key in shared} == {key: other[key] for key in shared}


@pytest.mark.parametrize("name, message", [("", "experiment_name is missing"), ("experiment_name: 5\n", "folder name")])
def test_a_demo_needs_a_name_too(tmp_path, name, message):
    file = tmp_path / "own.yaml"
    file.write_text(f"{name}dataset: {{name: digits}}\ndemo: {{hyperparameters: {{epoch: 1}}}}\n")
    with pytest.raises(UserError, match=message):
        config.resolve(file, demo=True)


@dataclass(frozen=True)
class Two(Surrogate):
    a: float = 1.0
    b: float = 2.0

    @property
    def constants(self):
        return self.a, self.b, 0.0

    @staticmethod
    def gradient(x, a, b, c):
        return a / (b + m.abs(x))


@pytest.mark.parametrize("own, expected", [(["a=5", "b=7"], {"a": 5, "b": 7}), (["a=5", "={b: 7}"], {"b": 7})])
def test_one_of_several_arguments_leaves_the_others(own, expected):
    key = "hyperparameters.surrogate_arguments"
    words = [f"{key}{text}" if text.startswith("=") else f"{key}.{text}" for text in own]
    settings, _ = resolve("hyperparameters.surrogate=test_config.Two", *words)
    assert settings["hyperparameters"]["surrogate_arguments"] == expected


def test_set_beats_demo_beats_file(laid_over):
    settings, _ = laid_over("hyperparameters: {epoch: 7, length: 9}\n", demo=True)
    assert (settings["hyperparameters"]["epoch"], settings["hyperparameters"]["length"]) == (15, 9)
    assert settings["experiment_name"] == "snn_mlp_1-demo"
    settings, _ = resolve("hyperparameters.epoch=3", demo=True)
    assert settings["hyperparameters"]["epoch"] == 3


def test_a_number_without_a_point_is_a_number():
    assert resolve("optimizer.Adam.lr=1e-4")[0]["optimizer"]["Adam"]["lr"] == 1e-4


def test_keys_of_the_published_configs(laid_over):
    settings, notes = laid_over(
        "hyperparameters: {droupout: 0.2, membrane_filer: true}\nacc_file_name: accuracy\n"
        "checkpoint_base_name: checkpoint_\ntransform: {RandomResizedCrop: {interpolation: PIL.Image.NEAREST}}\n"
    )
    assert settings["hyperparameters"]["dropout"] == 0.2
    assert settings["hyperparameters"]["membrane_filter"] is True
    assert settings["transform"]["RandomResizedCrop"]["interpolation"] == "nearest"
    text = "\n".join(notes)
    for own in "hyperparameters: {dropout: 0.2, init: kaiming}", "experiment_name: a\nhyperparameters: {dropout: 0.2}":
        assert not laid_over(own)[1]  # then it is no copy of that code's
    for expected in (
        "hyperparameters.droupout is read as hyperparameters.dropout", "membrane_filer is read as", "acc_file_name",
        "checkpoint_base_name", "hyperparameters.dropout: 0.2 here; the published code read no such key",
    ):  # fmt: skip
        assert text.count(expected) == 1, expected


@pytest.mark.parametrize(
    "override, words",
    [
        ("hyperparameters.epochs=3", ["hyperparameters.epochs", "did you mean hyperparameters.epoch?"]),
        ("nothing.at.all=3", ["nothing", "unknown key"]),
        ("hyperparameters=3", ["hyperparameters", "is a group"]),
        ("hyperparameters.epoch", ["write key=value"]),
        ("hyperparameters.epoch={", ["not YAML"]),
        ("epoch=3", ["epoch", "did you mean hyperparameters.epoch?"]),
        ("optimizer.lr=0.1", ["did you mean optimizer.Adam.lr or optimizer.AdamW.lr or optimizer.SGD.lr?"]),
        ("lr=0.1", ["lr", "did you mean optimizer.Adam.lr or optimizer.AdamW.lr or optimizer.SGD.lr?"]),
        ("hyperparameters.epoch=0", ["--set: hyperparameters.epoch", "0", "at least 1"]),
        ("hyperparameters.epoch=2.5", ["hyperparameters.epoch", "2.5", "an integer"]),
        ("hyperparameters.epoch=true", ["hyperparameters.epoch", "True", "an integer"]),
        ("hyperparameters.length=0", ["hyperparameters.length", "0", "at least 1"]),
        ("hyperparameters.batch_size=many", ["hyperparameters.batch_size", "'many'", "an integer"]),
        ("hyperparameters.tau_s=4", ["hyperparameters.tau_m", "above hyperparameters.tau_s, 4"]),
        ("hyperparameters.tau_m=.nan", ["hyperparameters.tau_m", "nan", "above 0"]),
        ("hyperparameters.filter_tau_m=1", ["hyperparameters.filter_tau_m", "above hyperparameters.filter_tau_s"]),
        ("hyperparameters.dropout=1", ["hyperparameters.dropout", "below 1"]),
        ("hyperparameters.synapse_type=iir", ["'iir'", "dual_exp or first_order"]),
        ("hyperparameters.train_bias=maybe", ["hyperparameters.train_bias", "true or false"]),
        ("optimizer.optimizer_choice=LBFGS", ["'LBFGS'", "Adam or AdamW or SGD"]),
        ("optimizer.Adam.lr=-1", ["optimizer.Adam.lr", "-1", "above 0"]),
        ("optimizer.Adam.lr=small", ["optimizer.Adam.lr", "'small'", "above 0"]),
        ("scheduler.MultiStepLR.milestones=[50,50]", ["scheduler.MultiStepLR.milestones", "[50, 50]", "increasing"]),
        ("scheduler.MultiStepLR.milestones=50", ["scheduler.MultiStepLR.milestones", "50", "a list"]),
        ("scheduler.CyclicLR.max_lr=1.0e-6", ["scheduler.CyclicLR.max_lr", "above scheduler.CyclicLR.base_lr"]),
        ("precision=fp8", ["precision", "float32 or tf32 or bf16"]),
        ("encoding=latency", ["encoding", "copy or poisson"]),
        ("states=kept", ["states", "zero or preserved"]),
        ("mnist_config.max_rate=2", ["mnist_config.max_rate", "0 to 1"]),
        ("transform.RandomResizedCrop.size=[32,32]", ["RandomResizedCrop.size", "[28, 28]"]),
        ("transform.RandomResizedCrop.scale=[0.5,2]", ["RandomResizedCrop.scale", "at most 1"]),
        ("transform.RandomResizedCrop.ratio=[1.0e-300,1]", ["RandomResizedCrop.ratio", "0.01 to 100"]),
        ("dataset.root=", ["--set: dataset.root: ''", "a folder; . is the current one"]),
        ("checkpoint_base_path=''", ["--set: checkpoint_base_path: ''", "a folder"]),
        ("transform.RandomRotation.angle=200", ["RandomRotation.angle", "0 to 180"]),
        ("experiment_name=a/b", ["experiment_name", "'a/b'"]),
        ("pytorch_seed=-1", ["pytorch_seed", "at least 0"]),
    ],
)
def test_what_is_refused(override, words):
    with pytest.raises(UserError) as error:
        resolve(override)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"hyperparameters: {epoch: 3\n", ["line 2", "not YAML"]),
        (b"hyperparameters: 3\n", ["hyperparameters: keys and values expected"]),
        (b"- a\n- b\n", ["holds no keys"]),
        (b"", ["holds no keys"]),
        (b"\xff\xfe\x00", ["not a text file"]),
        (b"hyperparameter: {epoch: 3}\n", ["unknown key; did you mean hyperparameters?"]),
        (b"hyperparameters: {epoch: ten}\n", ["mine.yaml: hyperparameters.epoch: 'ten' is not allowed"]),
        (b"a: !!python/object/apply:os.system ['true']\n", ["not YAML"]),
    ],
)
def test_files_that_are_refused(tmp_path, content, words):
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError) as error:
        resolve(config_file=file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("path", ["nowhere.yaml", "."])
def test_a_config_file_that_can_not_be_read(tmp_path, path):
    with pytest.raises(UserError, match="must name a YAML file"):
        resolve(config_file=tmp_path / path)


def test_a_key_that_is_missing_has_its_default(tmp_path):
    file = tmp_path / "short.yaml"
    file.write_text("experiment_name: short\ndataset: {name: mnist}\n")
    settings = config.resolve(file)
    own, _ = resolve()
    assert settings == own | {"experiment_name": "short"}
    file.write_text("dataset: {name: mnist}\n")
    with pytest.raises(UserError, match="experiment_name is missing"):
        config.resolve(file)


def test_a_config_that_is_shown_is_whole_and_says_where_values_come_from():
    sources = {}
    settings, _ = resolve("pytorch_seed=5", demo=True, sources=sources)
    text = config.as_yaml(settings, sources)
    assert yaml.safe_load(text) == settings
    for line in (
        r"  epoch: 15 .*number of epochs \[--demo\]", r"pytorch_seed: 5 .*\[--set\]", r"  tau_m: 4 .*snn_mlp_1.yaml",
        r"  membrane_filter: false .*low-pass.*\[default\]",
    ):  # fmt: skip
        assert re.search(rf"^{line}", text, re.M), line
    assert all("#" in line for line in text.splitlines() if line and not line.endswith(":"))


def test_configs_are_short():
    lengths = {file.name: len(file.read_text().splitlines()) for file in CONFIGS.glob("*.yaml")}
    assert len(lengths) == 17 and max(lengths.values()) <= 40 and sum(lengths.values()) <= 620, lengths


OVERLAYS = sorted(CONFIGS.glob("*/*.yaml"))


@pytest.mark.parametrize("overlay", OVERLAYS, ids=[file.stem for file in OVERLAYS])
def test_overlays_lie_over_their_experiment_and_end_with_a_low_learning_rate(overlay):
    command = re.search(r"^# python (\w+)\.py --train --config_file (\S+)$", overlay.read_text(), re.M)
    experiment, path = command.groups() if command else (overlay.parent.name, overlay.relative_to(CONFIGS.parent))
    assert CONFIGS.parent / path == overlay
    settings = config.resolve(CONFIGS / f"{experiment}.yaml", overlay, warn=lambda _: None)
    assert settings["scheduler"]["CosineAnnealingWarmRestarts"]["T_0"] == settings["hyperparameters"]["epoch"]


def test_a_checkpoint_from_before_a_key_counts_as_the_default():
    """Even if the experiment now sets the key to another value."""
    now, _ = resolve("hyperparameters.threshold=0.5", "hyperparameters.surrogate=ATan")
    saved, _ = resolve()
    for key in ("threshold", "surrogate", "surrogate_arguments", "neuron"):
        del saved["hyperparameters"][key]
    notes = []
    followed = config.follow_checkpoint(now, saved, warn=notes.append)
    assert followed == resolve()[0] and len(notes) == 2
    config.check_resumed(resolve()[0], saved, 1)
    with pytest.raises(UserError, match=r"hyperparameters.threshold \(was 1.0, now 0.5\)"):
        config.check_resumed(now, saved, 1)


def test_a_longer_run_is_told_of_a_restart_of_the_learning_rate():
    cosine = "scheduler.scheduler_choice=CosineAnnealingWarmRestarts", "scheduler.CosineAnnealingWarmRestarts.T_0=5"
    said = {}
    for epochs, scheduler in ((10, cosine), (9, cosine), (5, cosine), (5, ())):
        saved, now = (resolve(f"hyperparameters.epoch={n}", *scheduler)[0] for n in (epochs, 12))
        notes = []
        config.check_resumed(now, saved, epochs - 1, notes.append)
        said[epochs, bool(scheduler)] = [note for note in notes if "full learning rate" in note]
    of_ten, of_nine, of_five, without = said.values()
    (note,) = of_ten
    assert note == "epoch 10 starts again at the full learning rate: scheduler.CosineAnnealingWarmRestarts.T_0 is 5"
    assert of_nine == of_ten
    assert of_five[0].startswith("epoch 5 ") and not without
    notes = []
    config.check_resumed(saved, saved, 4, notes.append)
    assert not notes


@pytest.mark.parametrize(
    "override, message",
    [
        ("hyperparameters.surrogate=Sigmoid", "Gaussian or FastSigmoid or ATan, or module.Class"),
        ("hyperparameters.surrogate=nowhere.Sigmoid", "No module named 'nowhere'"),
        ("hyperparameters.surrogate=os.sytem", "os has no sytem"),
        ("hyperparameters.surrogate=os.system", "os.system is no subclass of Surrogate"),
        ("hyperparameters.surrogate=snn.Layer", "snn.Layer is no subclass of Surrogate"),
        ("hyperparameters.neuron=[1]", "SpikingNeuron, or module.Class"),
        ("hyperparameters.neuron.x=1", "SpikingNeuron, or module.Class"),
        ("hyperparameters.neuron=torch.nn.Linear", "your own subclass of Layer"),
        ("hyperparameters.neuron=snn.DualExpFilter", "a class with a class method from_config"),
        ("hyperparameters.synapse_type=snn.SpikingNeuron", "your own subclass of Synapse"),
        ("hyperparameters.surrogate_arguments={slope: 3}", "Gaussian takes sigma"),
        ("hyperparameters.surrogate_arguments={sigma: 0}", "Gaussian needs a finite sigma > 0, got 0"),
        ("hyperparameters.surrogate_arguments={sigma: -1}", "Gaussian needs a finite sigma > 0, got -1"),
        ("hyperparameters.surrogate_arguments={sigma: abc}", "Gaussian needs a finite sigma > 0, got 'abc'"),
        ("hyperparameters.surrogate_arguments={sigma: null}", "Gaussian needs a finite sigma > 0, got None"),
        ("hyperparameters.surrogate_arguments={sigma: .inf}", "Gaussian needs a finite sigma > 0, got inf"),
        ("hyperparameters.surrogate_arguments={sigma: true}", "Gaussian needs a finite sigma > 0, got True"),
        ("hyperparameters.surrogate_arguments={sigma: 1.0e-300}", "is not allowed"),
        ("hyperparameters.surrogate_arguments=3", "a mapping, such as"),
        ("optimizer.coefficients_lr_factor=0", "a number above 0"),
        ("hyperparameters.neuron=./my.Class", "SpikingNeuron, or module.Class: your own subclass of Layer"),
        ("hyperparameters.neuron=..X", "SpikingNeuron, or module.Class: your own subclass of Layer"),
        ("hyperparameters.neuron=raises.X", "(module raises raises ValueError in line 2 of raises.py: my own)"),
        ("hyperparameters.surrogate=exits.X", "(module exits raises SystemExit in line 1 of exits.py: 0)"),
        ("hyperparameters.synapse_type=broken.X", "(module broken raises SyntaxError: "),
        ("hyperparameters.neuron=asks.X", "(module asks raises KeyError in line 1 of asks.py: 'X')"),
    ],
)
def test_classes_that_are_refused(override, message, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "raises.py").write_text("\nraise ValueError('my own')")
    (tmp_path / "exits.py").write_text("import sys; sys.exit(0)")
    (tmp_path / "broken.py").write_text("def f(:")
    (tmp_path / "asks.py").write_text("def __getattr__(name): raise KeyError(name)")
    with pytest.raises(UserError) as error:
        resolve(override)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_checkpoint_says_what_the_network_is():
    now, _ = resolve("hyperparameters.length=10", "hyperparameters.batch_size=8")
    saved, _ = resolve("hyperparameters.synapse_type=first_order", "hyperparameters.length=20", "encoding=poisson")
    notes = []
    merged = config.follow_checkpoint(now, saved, ["hyperparameters.length=10"], notes.append)
    p = merged["hyperparameters"]
    assert (p["synapse_type"], merged["encoding"]) == ("first_order", "poisson")
    assert (p["length"], p["batch_size"]) == (10, 8)
    assert len(notes) == 2
    assert now["encoding"] == "copy"
    leaks, _ = resolve("hyperparameters.membrane_filter=true")  # as --set sets it, also misspelt
    assert config.follow_checkpoint(leaks, saved, ["hyperparameters.membrane_filer=true"], notes.append)[
        "hyperparameters"
    ]["membrane_filter"]


def test_the_batch_size_is_the_checkpoints_where_states_are_carried_in_its_rows():
    now, saved = (resolve("states=preserved", f"hyperparameters.batch_size={size}")[0] for size in (8, 7))
    notes = []
    assert config.follow_checkpoint(now, saved, warn=notes.append)["hyperparameters"]["batch_size"] == 7
    assert [note.split(":")[0] for note in notes] == ["hyperparameters.batch_size"]
    by_hand = config.follow_checkpoint(now, saved, ["hyperparameters.batch_size=8"], notes.append)
    assert by_hand["hyperparameters"]["batch_size"] == 8 and len(notes) == 1
    from_zero = now | {"states": "zero"}
    assert config.follow_checkpoint(from_zero, saved, ["states=zero"])["hyperparameters"]["batch_size"] == 8


def test_a_checkpoint_from_before_empty_folders_were_refused_is_read():
    saved = copy.deepcopy(resolve()[0]) | {"checkpoint_base_path": ""}
    saved["dataset"]["root"] = ""
    read = config.of_checkpoint(saved)
    assert read["checkpoint_base_path"] == read["dataset"]["root"] == "."


def test_ten_gestures_stay_ten_when_tested():
    """A checkpoint from before the key has eleven."""
    now = config.resolve(CONFIGS / "snn_conv_1_gesture.yaml")
    ten = config.resolve(CONFIGS / "snn_conv_1_gesture.yaml", overrides=["dataset.classes=10"])
    assert config.follow_checkpoint(now, ten, warn=lambda _: None)["dataset"]["classes"] == 10
    before = copy.deepcopy(now)
    del before["dataset"]["classes"]
    assert config.follow_checkpoint(ten, before, warn=lambda _: None)["dataset"]["classes"] == 11
    for refused in (9, 12, "ten", True):
        with pytest.raises(UserError, match="dataset.classes: .* at least 10, below 12"):
            config.resolve(CONFIGS / "snn_conv_1_gesture.yaml", overrides=[f"dataset.classes={refused}"])


def test_keys_of_other_experiments(tmp_path):
    """A published YAML may hold keys that had no effect; --set of one prints a note too."""
    notes = []
    file = tmp_path / "mine.yaml"
    file.write_text("mnist_config: {max_rate: 0.5}\nhyperparameters: {length: 20}")
    settings = config.resolve(CONFIGS / "snn_conv_1_gesture.yaml", file, warn=notes.append)
    assert settings["hyperparameters"]["length"] == 20 and "mnist_config" not in settings
    assert notes == [f"{file}: mnist_config has no effect in this experiment"]
    for key in ("dataset.dev_split=subject", "encoding=or", "dataset.name=gesture"):
        with pytest.raises(UserError, match=key.partition("=")[0]):
            resolve(key)


def unread_notes(experiment, *overrides):
    """Return the notes on keys of an experiment's config that nothing reads, with overrides."""
    notes, sources = [], {}
    settings = config.resolve(CONFIGS / f"{experiment}.yaml", overrides=overrides, sources=sources, warn=lambda _: None)
    config.note_unread(settings, sources, notes.append)
    return notes


def test_what_a_note_on_a_checkpoints_mapping_advises_can_be_typed():
    file, notes = CONFIGS / "time_series.yaml", []
    now = config.resolve(file, overrides=["hyperparameters.surrogate_arguments={alpha: 1}"])
    config.follow_checkpoint(now, config.resolve(file), warn=notes.append)
    (note,) = [note for note in notes if note.startswith("hyperparameters.surrogate_arguments")]
    option, override = shlex.split(note.partition("override it with ")[2])
    assert option == "--set" and config.resolve(file, overrides=[override]) == now


@pytest.mark.parametrize(
    "experiment, override, unread, read",
    [
        ("snn_mlp_1", "optimizer.AdamW.lr=1", "optimizer.optimizer_choice=Adam", "optimizer.optimizer_choice=AdamW"),
        ("snn_mlp_1", "optimizer.Adam.lr=1", "scheduler.scheduler_choice=CyclicLR", "scheduler.scheduler_choice=none"),
        ("ecg", "scheduler.MultiStepLR.gamma=2", "scheduler.scheduler_choice=none",
         "scheduler.scheduler_choice=MultiStepLR"),
        ("ecg", "hyperparameters.filters.longest=9", "hyperparameters.filters.start=published",
         "hyperparameters.filters.start=spread"),
        ("ecg", "hyperparameters.filters.rotating=0", "hyperparameters.synapse_type=first_order",
         "hyperparameters.synapse_type=dual_exp"),
        ("ecg", "hyperparameters.tau_s=2", "hyperparameters.synapse_type=first_order",
         "hyperparameters.synapse_type=dual_exp"),
        ("snn_mlp_1", "hyperparameters.stable_filters=true", "hyperparameters.train_coefficients=false",
         "hyperparameters.train_coefficients=true"),
        ("time_series", "hyperparameters.delta=1", "encoding=bank", "encoding=delta"),
        ("snn_mlp_1", "mnist_config.max_rate=0.5", "encoding=copy", "encoding=poisson"),
        ("snn_mlp_1", "transform.RandomRotation.angle=9", "mnist_config.use_transform=false",
         "mnist_config.use_transform=true"),
        ("snn_mlp_1", "checkpoint_every=9", "save_checkpoint=false", "save_checkpoint=true"),
    ],
)  # fmt: skip
def test_a_key_that_nothing_reads_brings_a_note(experiment, override, unread, read):
    key, (other, value) = override.partition("=")[0], unread.split("=")
    assert unread_notes(experiment, override, read) == []
    assert unread_notes(experiment, override, unread) == [f"--set: {key} has no effect here: {other} is {value}"]


@pytest.mark.parametrize("name", ["..", ".", ".hidden", "a/b", "a\\nb", "", "/"])
def test_names_that_name_no_folder_of_ours(name):
    with pytest.raises(UserError, match="experiment_name"):
        resolve(f'experiment_name="{name}"')


@pytest.mark.parametrize("value, name", [(0, "nearest"), (2, "bilinear"), ("PIL.Image.BILINEAR", "bilinear")])
def test_interpolation_by_number_or_name(value, name):
    settings, _ = resolve(f"transform.RandomResizedCrop.interpolation={value}")
    assert settings["transform"]["RandomResizedCrop"]["interpolation"] == name


def test_ranks_may_have_their_data_in_folders_of_their_own():
    one, other, else_where = (resolve(key)[0] for key in ("dataset.root=a", "dataset.root=b", "pytorch_seed=9"))
    assert config.shared(one) == config.shared(other) != config.shared(else_where)


def test_a_name_may_be_a_number_on_the_command_line():
    settings, _ = resolve("experiment_name=2024")
    assert settings["experiment_name"] == resolve('experiment_name="2024"')[0]["experiment_name"] == "2024"
