"""Networks outside of eager torch: one step in ONNX Runtime, and any number of steps by torch.export."""

import json
import os

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

import snn
from snn.checkpoint import onnx
from snn.data import digits
from snn.layers.encoders import Delta, Population
from snn.layers.state import map_tensors

NETWORKS = "snn_mlp_1", "snn_conv_1_mnist", "time_series"


def input_of(network, samples):
    """Return an input `[T, B, *]`: digits at every step, or random values scaled as those of a series."""
    if network == "time_series":
        return torch.randn(26, samples, 24, generator=torch.Generator().manual_seed(1))
    shape = snn.load(network).input_shape
    images = digits.read()[1][0][:samples].float().div(255)
    return images.view(1, samples, *shape).repeat(25, *[1] * (1 + len(shape)))


def session_of(path):
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # One level more sums convolutions in another order, and a potential at the threshold may fall either way.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_steps(session, x):
    """Return the outputs of all steps `[T, B, *]`, with nothing from torch but the input."""
    sizes = {i.name: [x.shape[1] if size == "batch" else size for size in i.shape] for i in session.get_inputs()[1:]}
    states, outputs = {name: np.zeros(size, np.float32) for name, size in sizes.items()}, []
    for x_t in x.numpy():
        y, *new = session.run(None, {"x": x_t, **states})
        states = dict(zip(states, new))
        outputs.append(torch.from_numpy(y))
    return torch.stack(outputs)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return a function from a network's name to the path of its model, made once."""
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("exported")

    def path_of(network):
        path = folder / f"{network}.onnx"
        if not path.exists():
            snn.export_onnx(snn.load(network), path)
        return path

    return path_of


@torch.no_grad()
def check_spikes(network, path, samples):
    x, session = input_of(network, samples), session_of(path)
    spikes, _ = snn.load(network)(x)
    assert spikes.sum() > 2 * samples
    assert torch.equal(run_steps(session, x), spikes)
    assert torch.equal(run_steps(session, x[:, :3]), spikes[:, :3])


@pytest.mark.parametrize("network, samples", [("snn_mlp_1", 100), ("snn_conv_1_mnist", 4), ("time_series", 100)])
def test_no_spike_differs(exported, network, samples):
    check_spikes(network, exported(network), samples)


@pytest.mark.slow
def test_no_spike_of_the_cnn_differs_on_a_hundred_samples(exported):
    check_spikes("snn_conv_1_mnist", exported("snn_conv_1_mnist"), 100)


def test_a_model_says_all_that_a_runner_needs(exported):
    session = session_of(exported("time_series"))
    inputs, outputs = session.get_inputs(), session.get_outputs()
    states = ["1.psp", "1.psp_before", "3.v", "3.reset", "5.psp", "5.psp_before", "7.v", "7.reset"]
    assert [i.name for i in inputs] == ["x", *states]
    assert [o.name for o in outputs] == ["y", *(f"{name}_next" for name in states)]
    assert [i.shape for i in inputs[1:]] == [o.shape for o in outputs[1:]]
    assert inputs[0].shape == ["batch", 24] and inputs[3].shape == ["batch", 256] and outputs[0].shape == ["batch", 9]
    config = json.loads(session.get_modelmeta().custom_metadata_map["config"])
    assert config == snn.load("time_series").config and len(config["measured"]["classes"]) == 9


class GRU(nn.GRU):
    stateful = True


class Double(snn.Layer):
    def forward(self, x, state=None):
        return 2 * x, ()


def test_layers_of_every_kind(folder):
    """A state whose batch comes second, one without a name, none, a network in a network; in training as in eval."""
    pytest.importorskip("onnxscript")
    torch.manual_seed(1)
    neuron = snn.SpikingNeuron(4, membrane_filter=True, threshold=0.3)
    net = snn.Sequential(
        Delta(3, 0.2), Population(6, 2, 4), neuron,
        snn.Sequential(snn.FirstOrderLowPass(12, 5), GRU(12, 5), nn.Dropout()), nn.BatchNorm1d(5), Double(),
        neuron, snn.DualExpFilter(4, 1), nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 2, 3),
    )  # fmt: skip
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    snn.export_onnx(net, "net.onnx", shape=(3,))
    assert net.training and all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    session = session_of("net.onnx")
    shapes = {i.name: i.shape for i in session.get_inputs()}
    assert shapes["0.followed"] == ["batch", 3] and shapes["3.1.0"] == [1, "batch", 5] and len(shapes) == 12
    for samples in (1, 4):
        x = torch.randn(12, samples, 3)
        with torch.no_grad():
            torch.testing.assert_close(run_steps(session, x), net.eval()(x)[0], rtol=1e-4, atol=1e-5)


class Branch(snn.Layer):
    def forward(self, x, state=None):
        return (x if x.sum() > 1 else -x), x[-1]


class FromOnes(snn.Layer):
    states = ("v",)

    def forward(self, x, state=None):
        v = torch.ones_like(x[-1]) if state is None else state
        return x + v, v


class Whole(snn.Layer):
    def forward(self, x, state=None):
        return x.flip(0), None


FILTER = snn.DualExpIIR(4, 4, 1)


@pytest.mark.parametrize(
    "net, options, message",
    [
        (FILTER, {}, r"takes a snn.Sequential, not DualExpIIR"),
        (snn.Sequential(nn.Flatten()), {}, r"the first layer does not say the input's shape: pass shape="),
        (snn.Sequential(FILTER), {"shape": (5,)}, r"the network can't be exported: DualExpIIR takes \[T, B, 4\]"),
        (snn.Sequential(FILTER, Branch()), {}, r"the network can't be exported: .*data-dependent"),
        (snn.Sequential(FILTER, FromOnes()), {}, r"1.v differs if states start from zeros"),
        (snn.Sequential(FILTER, Whole()), {}, r"the network can't be exported: layer 1 \(Whole\) returns no state"),
    ],
)
def test_what_has_no_model(folder, net, options, message):
    pytest.importorskip("onnxscript")
    (folder / "net.onnx").write_text("kept")
    with pytest.raises(snn.UserError, match=f"^export_onnx:? {message}") as error:
        snn.export_onnx(net, "net.onnx", **options)
    assert "\n" not in str(error.value)
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("net.onnx", "kept")]


def test_a_path_that_can_not_be_written(folder):
    pytest.importorskip("onnxscript")
    (folder / "file").write_text("kept")
    for path, message in (("file/net.onnx", "a file or a dangling link is in the way"), (".", "is a folder")):
        with pytest.raises(snn.UserError, match=message):
            snn.export_onnx(snn.Sequential(FILTER), path)
    assert [path.name for path in folder.iterdir()] == ["file"]
    os.mkfifo("pipe")  # as a device, it would be gone after a rename
    with pytest.raises(snn.UserError, match="pipe is not an ordinary file"):
        snn.export_onnx(snn.Sequential(FILTER), "pipe")
    os.remove("pipe")
    snn.export_onnx(snn.Sequential(FILTER), "new/folder/net.onnx")
    assert [path.name for path in (folder / "new/folder").iterdir()] == ["net.onnx"]


def test_without_onnx_a_line_says_what_to_install(folder, monkeypatch):
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    with pytest.raises(snn.UserError, match="export_onnx needs onnx and onnxscript: pip install onnx onnxscript"):
        snn.export_onnx(snn.Sequential(FILTER), "net.onnx")


@pytest.mark.parametrize("network", NETWORKS)
def test_torch_export_takes_any_batch_and_any_number_of_steps(network):
    net, x, sizes = snn.load(network), input_of(network, 5), {0: Dim("time"), 1: Dim("batch")}
    with torch.no_grad():
        example = x[:3, :2].clone()
        program = torch.export.export(net, (example,), dynamic_shapes=(sizes,), strict=False).module()
        for part in (x[:12, :3], x[:1, :1]):
            y, state = net(part)
            found, found_state = program(part)
            assert torch.equal(found, y)
            map_tensors(torch.testing.assert_close, found_state, state)


def test_torch_export_with_states():
    net, x = snn.load("time_series"), input_of("time_series", 5)
    time, batch = Dim("time"), Dim("batch")
    with torch.no_grad():
        _, state = net(x[:9])
        example = map_tensors(torch.clone, (x[:3, :2], net(x[:2, :2])[1]))  # not views into others
        sizes = {0: time, 1: batch}, map_tensors(lambda _: {0: batch}, example[1])
        program = torch.export.export(net, example, dynamic_shapes=sizes, strict=False).module()
        assert torch.equal(program(x[9:], state)[0], net(x)[0][9:])
