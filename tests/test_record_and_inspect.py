"""What `snn.record` keeps, --inspect and its page."""

import base64
import copy
import csv
import html
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scripts import TINY, TINY_NMNIST, same, words_of
from small import make_trainer, resolve
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import snn
from snn.data import datasets
from snn.data.base import Split
from snn.layers.encoders import Delta, Population
from snn.layers.layer import hidden_layers
from snn.layers.sequential import neuron, synapse
from snn.layers.synapses import Unfiltered
from snn.look import class_plots, filter_plots, health, inspection, layer_plots, plots, step_plots
from snn.look.board import Board
from snn.look.labels import layer_labels
from snn.run import train
from snn.run.cli import main
from snn.tasks import classification
from snn.tasks.association import Association


def make_net(membrane_filter=False):
    torch.manual_seed(0)
    net = snn.Sequential(
        snn.DualExpIIR((2, 6, 6), 4, 1), nn.Conv2d(2, 3, 3), snn.SpikingNeuron(4, membrane_filter), nn.Flatten(),
        snn.FirstOrderLowPass(48, 3), nn.Linear(48, 5), snn.SpikingNeuron(3, membrane_filter), snn.DualExpFilter(4, 1),
    )  # fmt: skip
    with torch.no_grad():
        net[5].weight.mul_(6)  # so that it spikes
    return net


@pytest.mark.parametrize("membrane_filter", [False, True])
@pytest.mark.parametrize("carried", [False, True])
def test_a_trace_is_what_the_layers_compute_step_by_step(membrane_filter, carried):
    """Their states after a single step are psp[t], v[t] and r[t]."""
    net, x = make_net(membrane_filter), 3 * torch.rand(12, 4, 2, 6, 6)
    state = net(3 * torch.rand(5, 4, 2, 6, 6))[1] if carried else None
    with snn.record(net) as trace:
        y, _ = net(x, state)
    assert set(trace.psp) == {"0", "4", "7"} and set(trace.v) == set(trace.reset) == set(trace.spikes) == {"2", "6"}
    assert trace.spikes["6"].sum() > 10 and trace.spikes["2"].shape == (12, 4, 3, 4, 4)
    assert torch.equal(trace.psp["7"], y)
    for t in range(12):
        _, state = net(x[t : t + 1], state)
        for layer in ("2", "6"):
            torch.testing.assert_close(trace.v[layer][t], state[int(layer)][0])
            torch.testing.assert_close(trace.reset[layer][t], state[int(layer)][1])
            fired = (trace.v[layer][t] > 1).float()
            assert torch.equal(trace.spikes[layer][t], fired)
        torch.testing.assert_close(trace.psp["0"][t], state[0][0])
        torch.testing.assert_close(trace.psp["4"][t], state[4])


def test_a_trace_can_be_of_some_layers_steps_and_samples():
    net, x = make_net(), 3 * torch.rand(12, 4, 2, 6, 6)
    with snn.record(net) as whole:
        net(x)
    with snn.record(net, layers=["6"], what=["v"], steps=slice(2, 12, 3), samples=slice(1, 3)) as trace:
        net(x)
    assert vars(trace).keys() == {"v"} and trace.v.keys() == {"6"}
    assert torch.equal(trace.v["6"], whole.v["6"][2:12:3, 1:3])
    assert trace.v["6"].untyped_storage().nbytes() == trace.v["6"].numel() * 4  # nothing more is kept alive
    assert not trace.v["6"].requires_grad


def test_after_a_trace_nothing_is_left_on_the_network():
    net = make_net()
    with pytest.raises(RuntimeError), snn.record(net):
        raise RuntimeError
    with snn.record(net) as trace:
        pass
    net(torch.rand(2, 1, 2, 6, 6))
    assert not trace.spikes and not any(layer._forward_hooks for layer in net)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_compiled_network_that_has_run_is_seen(in_place):
    """Compiled code keeps to the hooks that were there when it was compiled."""
    net, x = make_net().eval(), 3 * torch.rand(6, 4, 2, 6, 6)
    with snn.record(net) as expected:
        net(x)
    call = net if in_place else torch.compile(net, backend="eager")
    if in_place:
        net.compile(backend="eager")
    with torch.no_grad():
        call(x)
        with snn.record(net) as trace, health.spikes_counted(net) as counts:
            call(x)
        call(x)
    assert torch.equal(trace.v["6"], expected.v["6"]) and trace.psp.keys() == expected.psp.keys()
    torch.testing.assert_close(counts["6"], expected.spikes["6"].sum((0, 1)))
    assert not any(layer._forward_hooks for layer in net)


def test_what_has_no_layers_over_time_can_not_be_recorded():
    with pytest.raises(ValueError, match="record: Linear has no layer over time"), snn.record(nn.Linear(3, 4)):
        pass


@pytest.mark.parametrize(
    "choice, message",
    [
        ({"layers": ["6", "conv"]}, r"no layer 'conv' .*there are 0 \(DualExpIIR\), 2 \(SpikingNeuron\), 4 \(First"),
        ({"layers": ["0"], "what": ["v"]}, r"no layer '0' with v; there are 2 \(SpikingNeuron\), 6 \(SpikingNeuron\)$"),
        ({"what": ["voltage"]}, "unknown quantity 'voltage'; there are psp, psp_before, spikes, v, reset, m, s"),
    ],
)
def test_an_unknown_layer_or_quantity_names_those_there_are(choice, message):
    with pytest.raises(ValueError, match=message), snn.record(make_net(), **choice):
        pass


COMMON = [
    "impulse_responses", "coefficients", "poles", "overview", "samples", "confusion", "rasters", "neurons",
    "firing_rates", "gradients",
]  # fmt: skip


def check_page(folder, names):
    """Check that no picture is missing or blank, and that the page embeds them all, of one width, with captions."""
    page = (folder / "index.html").read_text()
    facts = dict(re.findall("<dt>(.+)</dt><dd>(.+)</dd>", page))
    (checkpoint,) = re.findall(r"(checkpoint/.+/best\.pt), epoch (\d)$", facts["checkpoint"])
    assert checkpoint[1] == str(torch.load(checkpoint[0], weights_only=True)["epoch"])
    assert re.fullmatch(rf"python \S+\.py {re.escape(html.escape(shlex.join(sys.argv[1:])))}", facts["command"])
    assert re.fullmatch(r"\w+, \d+ test samples", facts["dataset"])
    assert re.search(r"<pre>layer +kind +parameters +spikes[^<]* synapses 1 ", page)
    figures = re.findall(r'<figure><img alt="([^"]+)" src="data:image/png;base64,([^"]+)"><figcaption>', page)
    assert len(figures) == page.count("<figure><img") >= len(names)
    assert "://" not in page and "<script" not in page
    embedded = [base64.b64decode(content) for _, content in figures]
    assert [embedded.index((folder / f"{name}.png").read_bytes()) for name in names[:2]] == [0, 1]
    for name in names:
        assert (folder / f"{name}.png").read_bytes() in embedded
        pixels = np.asarray(Image.open(folder / f"{name}.png").convert("L"))
        assert pixels.shape[1] == 1200 and (pixels < 100).sum() > 200, name


def test_inspect(run, trained, monkeypatch):
    """The counts that are drawn are those of the test, also where its batches do not start from zero."""
    samples, drawn = class_plots.samples, []
    monkeypatch.setattr(class_plots, "samples", lambda *of: drawn.append(of[2]) or samples(*of))
    shutil.copytree(trained / "checkpoint", run.folder / "checkpoint")
    words = "--set", "states=preserved", "hyperparameters.batch_size=5"
    tested = run("snn_mlp_1", "--test", *words)[-1]
    assert run("snn_mlp_1", "--inspect", *words)[-1] == tested
    assert run.status == 0, run.err
    (page,) = run.folder.glob("runs/snn_mlp_1/*/index.html")
    check_page(page.parent, [*COMMON, "mistakes"])
    with open(page.parent / "predictions.csv") as file:
        scores = [[float(row[f"score {n}"]) for n in range(10)] for row in csv.DictReader(file)]
    assert drawn[0].tolist() == scores[::6]


def test_inspect_events(folder, capsys, monkeypatch, few_recordings, drawn):
    def small(config):  # of the experiment's 197,000 filters the pictures take most of a minute
        p = config["hyperparameters"]
        return snn.Sequential(
            synapse((2, 34, 34), p), nn.Conv2d(2, 4, 3, stride=3), neuron(p), nn.Flatten(),
            synapse(484, p), nn.Linear(484, 10), neuron(p),
        )  # fmt: skip

    words = words_of(TINY | TINY_NMNIST | {"hyperparameters.epoch": 1})
    monkeypatch.setattr(sys, "argv", ["snn_conv_1_nmnist.py", "--train", "--inspect", *words])
    main("snn_conv_1_nmnist", small)
    assert "no picture" not in capsys.readouterr().err
    (page,) = folder.glob("runs/snn_conv_1_nmnist/*/index.html")
    check_page(page.parent, [*COMMON, "events", "mistakes"])


def test_an_epoch_that_a_killed_run_wrote_is_not_there_twice(folder):
    for first, epochs in ((0, (0, 1)), (1, (1,))):
        with Board(folder, first) as board:
            for epoch in epochs:
                board.writer.add_scalar("dev_acc", 10 * first + epoch, epoch)
    shown = EventAccumulator(str(folder)).Reload().Scalars("dev_acc")
    assert [(event.step, event.value) for event in shown] == [(0, 0), (1, 11)]


@pytest.mark.parametrize("frozen", [False, True])
def test_the_gradient_that_is_shown_is_the_losss_and_leaves_no_trace(frozen):
    net, x, target = make_net().eval(), 3 * torch.rand(12, 4, 2, 6, 6), torch.rand(12, 4, 5)
    net.append(snn.Dropout(0.5).eval())
    net[1].bias.requires_grad_(not frozen)
    for coefficient in net[4].parameters():
        coefficient.requires_grad_(not frozen)
    net(x)[0].sum().backward()
    before = copy.deepcopy([net.state_dict(), {name: value.grad for name, value in net.named_parameters()}])
    random = torch.get_rng_state()
    settings = {"precision": "float32", "hyperparameters": {"chunk": 0, "truncate": 0}}
    seen = inspection.View(net, None, None, settings, [], x, target, None, None, None, None)
    norms = inspection._gradient_norms(seen, Association())
    after = [net.state_dict(), {name: value.grad for name, value in net.named_parameters()}]
    assert same(after, before) and torch.equal(torch.get_rng_state(), random)
    net.zero_grad()
    Association().loss(net(x)[0], target).backward()
    gradients = {name: [v.grad.flatten() for v in layer.parameters() if v.requires_grad]
                 for name, layer in net.named_children()}  # fmt: skip
    expected = {name: torch.cat(of_layer).norm() for name, of_layer in gradients.items() if of_layer}
    torch.testing.assert_close(norms, expected)
    assert list(norms) == (["0", "1", "5"] if frozen else ["0", "1", "4", "5"])


def test_pictures_name_layers_by_what_they_are():
    assert list(layer_labels(make_net()).values())[1:] == [
        "synapses 1", "Conv2d 1", "hidden 1", "Flatten 1", "synapses 2", "Linear 1", "output", "DualExpFilter 1",
    ]  # fmt: skip
    net = snn.Sequential(Population(2, 3, 4), snn.Linear(6, 2), nn.Sequential(nn.BatchNorm1d(2), snn.SpikingNeuron(4)))
    assert {"0": "encoder", "2.0": "BatchNorm1d 1", "2.1": "output"}.items() <= layer_labels(net).items()
    assert layer_labels(nn.Linear(2, 3)) == {"": "Linear 1"}
    readout = snn.Sequential(snn.SpikingNeuron(4), snn.DualExpIIR(3, 4, 1), snn.Linear(3, 2), snn.DualExpFilter(4, 1))
    assert layer_labels(readout)["0"] == "hidden 1" and list(hidden_layers(readout)) == ["0"]
    assert list(hidden_layers(nn.Sequential(nn.Sequential(readout[0]), nn.Linear(3, 2)))) == ["0.0"]
    by_name = nn.ModuleDict({"neuron": readout[0], "weights": nn.Linear(3, 3)})  # in which order they run is not known
    assert not hidden_layers(by_name) and layer_labels(by_name)["neuron"] == "output"
    figure = layer_plots.rasters(net, {"0": torch.ones(5, 6), "2.1": torch.ones(5, 2)})
    assert [axis.get_title().split(":")[0] for axis in figure.axes[:2]] == ["spikes of encoder", "spikes of output"]


@pytest.mark.parametrize("copied", [False, True])
def test_an_input_that_is_a_copy_is_drawn_once(copied):
    x = torch.rand(1 if copied else 7, 2, 784).expand(7, 2, 784)
    encoded = classification.Classification().encoded(SimpleNamespace(x=x))
    assert encoded is (None if copied else x)
    assert classification.Classification().encoded(SimpleNamespace(x=torch.rand(7, 2, 1))) is None  # drawn over time
    labels, answers = torch.tensor([[0, 1], [0, 2]])
    figure = class_plots.samples(x, encoded, torch.ones(2, 3), labels, answers, ["a", "b", "c"])
    assert [axis.get_title() for axis in figure.axes][: 2 - copied] == ["input", "encoded"][: 2 - copied]
    assert len(figure.axes) == (4 if copied else 6)
    titles = [axis.get_title("right") for axis in figure.axes[2 - copied :: 3 - copied]]
    assert titles == ["label a,\nanswer a", "label b,\nanswer c"]  # counts are equal: the task says the answer


@pytest.mark.parametrize("shape", [(), (1,), (5,), (40,)])
def test_samples_of_pictures_have_their_own_targets(shape):
    class Numbered(Split):
        device = torch.device("cpu")

        def __len__(self):
            return 12

        def batch(self, indices, generator):
            targets = indices.view(-1, *[1] * len(shape)).expand(-1, *shape)
            return indices.float().view(1, -1, 1).expand(5, -1, 3), targets

    x, targets = inspection._samples(Numbered(), 5, lambda: None, [1, 7, 11])
    assert x[0, :, 0].tolist() == [1, 7, 11] and targets.shape == (3, *shape)
    assert torch.equal(targets.reshape(3, -1)[:, 0], x[0, :, 0].long())


@pytest.mark.filterwarnings("error")
def test_classes_are_called_by_their_names():
    gesture = datasets.class_names({"dataset": {"name": "gesture_simulated", "classes": 10}}, 11)
    assert gesture[0] == "hand clapping" and gesture[9:] == ["air guitar", "output 10"]
    assert datasets.class_names({"dataset": {"name": "mnist"}}, 3) == ["0", "1", "2"]
    alike = ["Activity of the left upper arm A", "Activity of the left upper arm B", 28 * "x" + "$"]
    for names in (gesture, ["$a$", "\x1b[2J" + 50 * "b"], alike):
        classes = class_plots.class_labels(names)
        assert len(set(classes)) == len(names)
        figure = class_plots.confusion(torch.eye(len(classes), dtype=torch.long), classes)
        for side in figure.axes[0].xaxis, figure.axes[0].yaxis:
            assert [text.get_text() for text in side.get_ticklabels()] == classes
        figure.draw_without_rendering()
        class_plots.mistakes(torch.rand(3, 1, 784), [(1, 0)], classes).draw_without_rendering()


@pytest.mark.filterwarnings("error")
def test_unusual_outputs_and_inputs_are_drawn():
    """Potentials below 0, fewer steps than windows, more classes than colours, and two lines of spikes to a state."""
    figure = class_plots.samples(
        torch.rand(7, 1, 784), None, torch.tensor([[-2.0, -5.0]]), [0], [0], ["a", "b"]
    )  # fmt: skip
    axis = figure.axes[-1]
    assert axis.get_xlabel() == "output, summed" and axis.get_xlim()[0] < -5 and "answer a" in axis.get_title("right")
    figure = class_plots.event_windows(torch.rand(3, 2, 4, 5))
    assert [axis.get_title() for axis in figure.axes] == [f"steps {n} to {n}" for n in range(3)]
    figure.draw_without_rendering()
    names = [f"kind {n}" for n in range(12)]
    figure = step_plots.steps(torch.rand(12, 1, 4), torch.arange(12)[:, None], torch.eye(12)[:, None], names)
    shown = figure.axes[1].images[0]
    bands = [tuple(shown.cmap(shown.norm(n))) for n in range(12)]
    legend = [tuple(line.get_color()) for line in figure.axes[0].lines[-12:]]
    assert bands == legend and len(set(bands)) == 12
    assert [text.get_text() for text in figure.legends[0].texts] == [f"class {name}" for name in names]
    net, x = snn.Sequential(Delta(3, 0.1), nn.Linear(6, 2), snn.SpikingNeuron(4)), -torch.arange(9.0)[:, None, None]
    with snn.record(net, samples=slice(1)) as trace:
        net(x.expand(9, 1, 3))
    traced = {
        what: {name: of[:, 0] for name, of in getattr(trace, what).items()}
        for what in ("spikes", "followed", "v", "reset")
    }
    assert traced["spikes"]["0"][:, :3].sum() == 0 < traced["spikes"]["0"][:, 3:].sum()  # falls alone
    figure = layer_plots.neurons(net, traced)
    assert "neuron" in figure.axes[0].get_title()
    assert {text.get_text() for text in figure.legends[0].texts} >= {"followed", "reset", "threshold"}


def test_filters_that_start_unlike_are_drawn_as_they_start():
    before, after = snn.Sequential(snn.DualExpIIR(6, 4, 1)), snn.Sequential(snn.DualExpIIR(6, 4, 1))
    (alike,) = filter_plots.impulse_responses(before, after).axes
    assert [line.get_color() for line in alike.lines].count(plots.ORANGE) == 1 and alike.get_xlim()[1] < 45
    before[0].a1.data.copy_(torch.linspace(1.2, 1.98, 6))
    before[0].a2.data.copy_(-(before[0].a1.data / 2) ** 2 + 1e-5)
    (unlike,) = filter_plots.impulse_responses(before, after).axes
    drawn = [line for line in unlike.lines if line.get_color() == plots.ORANGE and len(line.get_xdata())]
    assert len(drawn) == 6 and unlike.get_xlim()[1] > 100
    rows = filter_plots.coefficients(before, after).axes
    assert rows[0].get_xlabel() == "a1" and not any(len(line.get_xdata()) for line in rows[0].lines)  # a histogram


@pytest.mark.parametrize("values", [[1e-9, 0.0, 0.1], [0.0, 0.0, 0.0]])
@pytest.mark.filterwarnings("error")
def test_layers_without_a_gradient_are_drawn(values):
    (axis,) = layer_plots.gradients(make_net(), dict(zip("014", map(torch.tensor, values)))).axes
    assert [text.get_text() for text in axis.texts] == [f"{value:.2g}" for value in values]
    axis.figure.draw_without_rendering()


def test_samples_that_do_not_stack_are_tested_without_pictures(folder, capsys):
    class Trimmed(Split):
        device = torch.device("cpu")

        def __len__(self):
            return 12

        def batch(self, indices, generator):
            return torch.rand(3 + int(indices[0]), len(indices), 784, generator=generator), indices % 10

    splits = dict.fromkeys(("train", "dev", "test"), Trimmed())
    settings = resolve("hyperparameters.batch_size=4", "hyperparameters.epoch=1")
    net = snn.Sequential(nn.Linear(784, 10), snn.SpikingNeuron(4))
    experiment = train.Experiment(lambda _: net, settings, classification.Classification(), splits)
    run = experiment.train(inspect="a command")
    assert run.test.total == 12 and (run.folder / "result.json").exists()
    assert "note: no pictures: stack expects each tensor to be equal size" in capsys.readouterr().err


@pytest.mark.parametrize("clip", [0, 1e-3])
def test_tensorboard_has_the_norm_before_clipping(folder, clip):
    trainer = make_trainer(folder, f"optimizer.clip={clip}")
    trainer.fit()
    written = EventAccumulator(str(trainer.run_folder)).Reload()
    (whole,) = (event.value for event in written.Scalars("gradient_norm_of_last_batch"))
    assert whole == pytest.approx(trainer.watch.norm.item()) and whole > 0.01
    of_layers = {tag.partition("/")[0] for tag in written.Tags()["scalars"] if "gradient_norm/" in tag}
    assert of_layers == {"clipped_gradient_norm" if clip else "gradient_norm"}


def test_synapses_without_a_filter_are_drawn_and_counted_as_none():
    net = snn.Sequential(Unfiltered(3), nn.Linear(3, 2), snn.SpikingNeuron(4))
    assert filter_plots.synapses(net, net) == [] and health.filters_in(net) == ""


def test_filters_far_apart_have_a_logarithmic_axis_and_rings_where_they_start_alike():
    before, after = snn.Sequential(snn.FirstOrderLowPass(40, 4)), snn.Sequential(snn.FirstOrderLowPass(40, 4))
    with torch.no_grad():
        after[0].a1.copy_((-1 / torch.logspace(0, 3, 40)).exp())
    scales = [axis.get_xscale() for axis in filter_plots.coefficients(before, after).axes]
    assert scales == ["linear", "log"]
    rings = [axis.collections[2] for axis in filter_plots.poles(before, after).axes]
    assert [len(ring.get_offsets()) for ring in rings] == [1, 1]
    assert [len(axis.collections) for axis in filter_plots.poles(after, after).axes] == [2, 2]


def test_an_overview_shows_all_hidden_layers_of_a_readout_and_calls_its_sums_so():
    net = snn.Sequential(snn.DualExpIIR(784, 4, 1), nn.Linear(784, 5), snn.SpikingNeuron(4), nn.Linear(5, 2))
    spikes, classes = {"2": torch.ones(7, 5)}, ["a", "b"]
    figure = class_plots.overview(net, net, torch.rand(7, 784), torch.tensor([1.5, 2.0]), 0, 1, spikes, classes)
    assert "spikes of hidden 1:" in figure.axes[2].get_title() and figure.axes[3].get_xlabel() == "output, summed"


def test_neurons_in_a_recurrent_layer_are_drawn_once_and_states_by_their_name():
    class Other(snn.Layer):
        output, states = "spikes", ("u", "v")

        def step(self, x, state=None):
            return (x > 0.5).float(), (x, 2 * x)

    net = snn.Sequential(snn.Recurrent(snn.SpikingNeuron(4), snn.DualExpIIR(6, 4, 1)), Other())

    class Sixes(Split):
        device = torch.device("cpu")

        def __len__(self):
            return 3

        def batch(self, indices, generator):
            return 2 * torch.rand(9, len(indices), 6, generator=generator), indices

    seen = inspection.view(net, net, Sixes(), resolve(), torch.Generator)
    assert seen.trace.spikes.keys() == {"0", "1"} and seen.trace.v.keys() == {"0.neuron", "1"}
    traced = vars(seen.trace).items()
    figure = layer_plots.neurons(net, {what: {name: of[:, 0] for name, of in found.items()} for what, found in traced})
    recurrent, other = ({line.get_label(): line.get_color() for line in axis.lines} for axis in figure.axes)
    assert recurrent.keys() == {"potential", "reset", "threshold"} and other.keys() == {"u", "potential"}
    assert other["potential"] == recurrent["potential"] and other["u"] not in recurrent.values()


def test_tensorboard_has_a_picture_and_the_gradient_norm_of_each_layer(trained):
    (folder,) = trained.glob("runs/snn_mlp_1/*")
    written = EventAccumulator(str(folder)).Reload()
    assert written.Tags()["images"]
    norms = {tag: written.Scalars(tag)[0].value for tag in written.Tags()["scalars"] if tag.startswith("gradient_norm")}
    whole = norms.pop("gradient_norm_of_last_batch")
    labels = "synapses 1", "Linear 1", "synapses 2", "Linear 2", "synapses 3", "Linear 3"
    assert list(norms) == [f"gradient_norm/{label}" for label in labels]
    assert math.hypot(*norms.values()) == pytest.approx(whole, rel=1e-4) and all(norms.values())


def test_the_worst_mistakes_are_those_with_the_largest_gap(run, monkeypatch):
    """Their pictures show the samples with wrong answers."""
    shown, splits, found = {}, [], []

    def mistakes(inputs, read, classes):
        shown.update(inputs=inputs, answers=read)
        return class_plots.Figure()

    original, write = train.evaluate, inspection.write_picture

    def evaluate(net, split, *others):
        splits.append(split)
        found.append(original(net, split, *others))
        return found[-1]

    monkeypatch.setattr(class_plots, "mistakes", mistakes)
    monkeypatch.setattr(inspection, "write_picture", lambda path, _: write(path, class_plots.Figure()))
    monkeypatch.setattr(train, "evaluate", evaluate)
    run("snn_mlp_1", "--train", "--inspect", settings={"hyperparameters.init": "kaiming", "hyperparameters.epoch": 1})
    assert run.status == 0, run.err
    scores, predictions, labels = found[-1].answers
    margins = (scores.gather(1, labels[:, None]) - scores.gather(1, predictions[:, None]))[:, 0]
    wrong = (predictions != labels).nonzero()[:, 0]
    worst = wrong[margins[wrong].argsort(stable=True)][: classification.MISTAKES]
    places = []
    for x, (label, answer) in zip(shown["inputs"].unbind(1), shown["answers"]):
        (place,) = [n for n in wrong.tolist() if torch.equal(splits[-1].images[n].view(-1) / 255, x[0])]
        assert (labels[place], predictions[place]) == (label, answer)
        places.append(place)
    assert margins[places].tolist() == margins[worst].tolist() and len(margins[worst].unique()) > 1


BROWSER = """
import sys
from PyQt6.QtCore import QTimer, QUrl
from PyQt6.QtWebEngineWidgets import QWebEngineView
from PyQt6.QtWidgets import QApplication
application, view = QApplication(sys.argv), QWebEngineView()
view.resize(1250, 6000)
view.load(QUrl.fromLocalFile(sys.argv[1]))
view.show()
shoot = lambda: (view.grab().save(sys.argv[2]), application.quit())
view.loadFinished.connect(lambda _: QTimer.singleShot(2000, shoot))
application.exec()
"""


@pytest.mark.slow
def test_the_page_in_a_browser(run, tmp_path):
    """In headless Qt Chromium, all pictures are shown, one below the other."""
    pytest.importorskip("PyQt6.QtWebEngineWidgets", reason="needs a browser: pip install PyQt6 PyQt6-WebEngine")
    run("snn_mlp_1", "--train", "--inspect", settings={"hyperparameters.epoch": 1})
    (page,) = run.folder.glob("runs/snn_mlp_1/*/index.html")
    shot = tmp_path / "page.png"
    headless = {"QT_QPA_PLATFORM": "offscreen", "QTWEBENGINE_CHROMIUM_FLAGS": "--no-sandbox --disable-gpu"}
    subprocess.run([sys.executable, "-c", BROWSER, page, shot], check=True, timeout=120, env=os.environ | headless)
    pixels = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    blue = (abs(pixels - [0, 114, 178]).sum(2) < 30).any(1).nonzero()[0]  # of the pictures, down the page
    assert blue.min() < 800 and blue.max() > 3000
    assert (pixels[:, 1225:] > 200).all()  # nothing sticks out
