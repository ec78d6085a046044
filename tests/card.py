"""A device that isn't there: its tensors compute on the CPU, and may not meet the CPU's, as those of a GPU may not.

It goes by the name "meta", which torch knows everywhere; a real tensor on "meta" would hold no values.
"""

from contextlib import ExitStack, contextmanager
from importlib import import_module
from unittest import mock

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

CARD = torch.device("meta")
_aten = torch.ops.aten
_CROSSING = {  # from one device to another, or with indices on the CPU
    _aten.copy_.default, _aten._to_copy.default, _aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default,
    _aten._index_put_impl_.default,
}  # fmt: skip
_READING = {  # values, to know how large a result is or to give it to Python
    _aten._local_scalar_dense.default, _aten.nonzero.default, _aten.masked_select.default, _aten.equal.default,
    _aten._unique2.default, _aten.repeat_interleave.Tensor, _aten.bincount.default,
}  # fmt: skip
_waits = True


def _fakes_cuda():
    try:
        with FakeTensorMode():
            torch.nn.Linear(1, 1, device="cuda")
    except (RuntimeError, AssertionError):
        return False
    return True


on_fake_cuda = pytest.mark.skipif(not _fakes_cuda(), reason="fake tensors of this torch need a driver: 2.7's do")


class OnCard(torch.Tensor):
    """A tensor that says it is on the card."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held):
        return torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=CARD,
            requires_grad=held.requires_grad,
        )  # fmt: skip

    def __init__(self, held):
        self.held = held

    def __repr__(self):
        return f"OnCard({self.held})"

    def tolist(self):
        return self.held.tolist()

    def numpy(self, *_, **__):
        raise TypeError("a tensor on the card has no NumPy array: copy it with .cpu() first")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


class _Card(TorchDispatchMode):
    """Makes tensors on the card where torch is asked for some."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


@contextmanager
def without_waiting():
    """Raise RuntimeError where a GPU would be waited for: for values that Python needs, and copies from and to it."""
    global _waits
    _waits = False
    try:
        yield
    finally:
        _waits = True


def _run(function, args, kwargs):
    """Run an operator on what its tensors hold; raise RuntimeError if they are on two devices."""
    given = {}  # by the identity of what they hold

    def held(value):
        if isinstance(value, OnCard):
            given[id(value.held)] = value
            return value.held
        if isinstance(value, torch.Tensor):
            assert value.device != CARD, f"{function}: a tensor without values"
            others.append(value)
        return torch.device("cpu") if isinstance(value, torch.device) and value == CARD else value

    others = []
    on_cpu = tree_map(held, (args, {name: value for name, value in kwargs.items() if name != "pin_memory"}))
    if given and function not in _CROSSING and any(other.dim() for other in others):
        shapes = [list(other.shape) for other in others]
        raise RuntimeError(f"{function}: expected all tensors on {CARD}, found {shapes} on the CPU")
    crosses = function in _CROSSING and (others and (given or kwargs.get("device") == CARD))
    brings = given and function is _aten._to_copy.default and kwargs.get("device", CARD) != CARD
    indices = args[1] if "index" in function._schema.name and isinstance(args[1], (list, tuple)) else ()
    chooses = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)
    if not _waits and (crosses or brings or given and (function in _READING or chooses)):
        raise RuntimeError(f"{function} waits for {CARD}")
    result = function(*on_cpu[0], **on_cpu[1])
    name = function._schema.name
    if name.endswith("_") and isinstance(args[0], torch.Tensor):
        return args[0]
    device = kwargs.get("device")
    on_card = bool(given) if device is None else torch.device(device) == CARD
    if function in _CROSSING and device is None:
        on_card = isinstance(args[0], OnCard)

    def placed(value):
        if not isinstance(value, torch.Tensor) or not on_card:
            return value
        return given[id(value)] if id(value) in given else OnCard(value)

    return tree_map(placed, result)


class _Generator(torch.Generator):
    def __new__(cls, device="cpu"):
        made = torch._C.Generator.__new__(cls, "cpu")
        made.placed = torch.device(device)
        return made

    def __init__(self, device="cpu"):
        pass

    device = property(lambda self: self.placed)


def _on_cpu_first(make):
    def made(data, *args, device=None, **options):
        tensor = make(data, *args, **options)
        return tensor if device is None else tensor.to(device)

    return made


@contextmanager
def card():
    """Let runs find the card, and no other device."""
    from snn.kernels import surrogates
    from snn.run import train

    autocast, swaps = torch.autocast, torch.__future__.get_swap_module_params_on_conversion()
    with ExitStack() as stack:
        for place, name, value in (
            (train, "find_device", lambda _: CARD),
            (surrogates, "checked", lambda surrogate: surrogate),
            (torch, "Generator", _Generator),
            (torch, "tensor", _on_cpu_first(torch.tensor)),
            (torch, "as_tensor", _on_cpu_first(torch.as_tensor)),
            (torch, "autocast", lambda _, *args, **options: autocast("cpu", *args, **options)),
            (import_module("torch.optim.adam"), "_get_fused_kernels_supported_devices", lambda: ["cpu", "meta"]),
            (import_module("torch.optim.optimizer"), "_get_fused_kernels_supported_devices", lambda: ["cpu", "meta"]),
        ):
            stack.enter_context(mock.patch.object(place, name, value, create=True))
        torch.__future__.set_swap_module_params_on_conversion(True)  # parameters may become of another class
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, swaps)
        stack.enter_context(_Card())
        yield
