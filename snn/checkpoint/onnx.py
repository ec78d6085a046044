"""Write one time step of a network as an ONNX model, for runtimes without torch."""

import copy
import json
from importlib.util import find_spec

import torch
from torch import nn

from snn.base.drawn import drawn_apart
from snn.base.errors import UserError
from snn.base.files import check_writable, user_path, written_beside
from snn.kernels import in_plain_torch
from snn.layers.layer import state_names
from snn.layers.sequential import Sequential
from snn.layers.state import map_tensors


def export_onnx(net, path, shape=None):
    """Write one time step of a network as an ONNX model: `snn.export_onnx(snn.load("snn_mlp_1"), "mlp.onnx")`.

    Its inputs are x `[batch, *shape]` and the states, all zeros before the first step. "2.v" is the state v of layer 2.
    Its outputs are y `[batch, *]` and the states for the next step in the same order, such as "2.v_next". The batch may
    have any size, numbers are float32, dropout is off. The metadata hold `net.config`, if there is one, as JSON.

    Args:
        net: a `Sequential`; it stays as it is.
        path: of the file.
        shape: of the input at one step, without the batch; None takes what the first layer or the config says.
    Raises UserError if onnx or onnxscript is not installed, for a network that can't run step by step, for a layer that
    torch can't export or that does not start from zeros, and if the file can't be written.
    """
    missing = [name for name in ("onnx", "onnxscript") if not find_spec(name)]
    if missing:
        raise UserError(f"export_onnx needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    if not isinstance(net, Sequential):
        raise UserError(f"export_onnx takes a snn.Sequential, not {type(net).__name__}: put layers into one")
    path, config = user_path(path), getattr(net, "config", {})
    check_writable(path)  # now, since what follows takes seconds
    scaling = config.get("measured", {}).get("scaling", ())  # of each channel of a time series
    shape = shape or net.input_shape or len(scaling)
    if not shape:
        raise UserError("export_onnx: the first layer does not say the input's shape: pass shape=, without the batch")
    try:
        with torch.no_grad(), drawn_apart(torch.device("cpu")):
            model = _model(copy.deepcopy(net).cpu().float().eval(), [shape] if isinstance(shape, int) else shape)
    except Exception as error:  # torch's exporter raises anything
        if type(error) is UserError:  # of `_model`, not of a layer
            raise
        while error.__cause__:  # what it says itself is where in the exporter that was
            error = error.__cause__
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"export_onnx: the network can't be exported: {reason}") from None
    if config:
        model.metadata_props.add(key="config", value=json.dumps(config))
    with written_beside(path) as file:
        file.write(model.SerializeToString())


def _model(net, shape):
    """Return the ONNX model of a network's step."""
    x = torch.rand(3, *shape)
    (y, state), (_, smaller) = net.step(x), net.step(x[:2])
    names, ends = list(_names(net, state)), _tensors(state)
    step, inputs = _Step(net, state), (x, tuple(torch.zeros(end.shape, dtype=end.dtype) for end in ends))
    again, ends_again = step(*inputs)
    for name, end, other in zip([*names, "y"], [*ends, y], [*ends_again, again]):
        if end.shape != other.shape or not torch.allclose(end, other, equal_nan=True):
            raise UserError(f"export_onnx: {name} differs if states start from zeros, as in ONNX, and not from None")
    batch = torch.export.Dim("batch")
    dims = [
        {dim: batch for dim, size in enumerate(end.shape) if size != other.shape[dim]}
        for end, other in zip(ends, _tensors(smaller))
    ]
    with in_plain_torch():
        program = torch.export.export(step, inputs, dynamic_shapes=({0: batch}, tuple(dims)), strict=False)
    outputs = ["y", *(f"{name}_next" for name in names)]
    names = ["x", *names]
    model = torch.onnx.export(program, dynamo=True, input_names=names, output_names=outputs, verbose=False).model_proto
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    symbol = values[0].type.tensor_type.shape.dim[0].dim_param  # torch's own name, such as s77
    for dim in (dim for value in values for dim in value.type.tensor_type.shape.dim if dim.dim_param == symbol):
        dim.dim_param = "batch"
    return model


class _Step(nn.Module):
    """A network's step with its states in a tuple: x, states -> y, states for the next step."""

    def __init__(self, net, state):
        super().__init__()
        self.net, self.state = net, state  # whose tensors do not matter, but their places

    def forward(self, x, states):
        states = iter(states)
        y, state = self.net.step(x, map_tensors(lambda _: next(states), self.state))
        return y, tuple(_tensors(state))


def _tensors(state):
    """Return the tensors of a state, in order."""
    found = []
    map_tensors(found.append, state)
    return found


def _names(net, state, prefix=""):
    """Yield the names of the tensors of a network's state, in order."""
    for n, (layer, entry) in enumerate(zip(net, state)):
        if isinstance(layer, Sequential):
            yield from _names(layer, entry, f"{prefix}{n}.")
        else:
            own, number = state_names(layer), len(_tensors(entry))
            yield from (f"{prefix}{n}.{name}" for name in (own if len(own) == number else range(number)))
