"""Products of dense layers and convolutions: the same numbers as torch.nn.functional's, whatever computes them."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad

import snn
from snn.kernels import products

ONEDNN = pytest.mark.skipif(
    not (hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available()),
    reason="this torch has no such product of oneDNN",
)


@pytest.fixture
def onednn(monkeypatch):
    """Count the products that oneDNN multiplies; it does wherever it can, whatever the processor."""
    monkeypatch.setattr(products, "_faster_on_onednn", lambda: ("input", "weight"))
    calls, product = [], products._product
    monkeypatch.setattr(products, "_product", lambda *args: calls.append(1) or product(*args))
    return calls


@ONEDNN
@pytest.mark.parametrize("shape", [(7, 30), (1, 30), (5, 3, 30), (30,)])
@pytest.mark.parametrize("bias", [False, True])
def test_values_and_gradients(onednn, shape, bias):
    torch.manual_seed(0)
    layer = snn.Linear(30, 11, bias)
    results = []
    for function in (layer, lambda x: F.linear(x, layer.weight, layer.bias)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
        y = function(x)
        assert y.shape == (*shape[:-1], 11)
        grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
        results.append((y, *torch.autograd.grad(y, [x, *layer.parameters()], grad)))
    for mine, expected in zip(*results):
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-5)
    assert len(onednn) == 3


@ONEDNN
@pytest.mark.parametrize("bias", [torch.rand(11, 4)[:, 1], torch.rand(1).expand(11)])
def test_a_bias_that_is_no_memory_of_its_own(onednn, bias):
    x, weight = torch.rand(7, 30), torch.randn(11, 30)
    torch.testing.assert_close(products.linear(x, weight, bias), F.linear(x, weight, bias), rtol=1e-5, atol=1e-5)


@ONEDNN
def test_any_layout(onednn):
    """Transposed input, and a gradient that repeats one value."""
    weight = torch.randn(11, 30)
    for x in (torch.randn(30, 7).t(), torch.randn(30).expand(7, 30), torch.randn(3, 5, 30).transpose(0, 1)):
        x = x.requires_grad_()
        mine, expected = products.linear(x, weight), F.linear(x, weight)
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-5)
        (a,), (b,) = torch.autograd.grad(mine.sum(), x), torch.autograd.grad(expected.sum(), x)
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    assert len(onednn) == 6


@ONEDNN
@pytest.mark.parametrize("layer, shape", [(snn.Linear(30, 11), (4, 30)), (snn.Conv2d(2, 3, 7, 3), (2, 2, 16, 16))])
def test_second_derivatives(onednn, layer, shape):
    """A penalty on a gradient counts: forgotten, it would make other weights, and say nothing."""
    x = torch.randn(shape).requires_grad_()
    results = []
    for function in (layer, super(type(layer), layer).forward):
        y = torch.tanh(function(x)).sum()
        (grad,) = torch.autograd.grad(y, x, create_graph=True)
        results.append(torch.autograd.grad(y + grad.square().sum(), layer.weight)[0])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


def test_a_wrong_size_is_said_by_torch(onednn):
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        snn.Linear(30, 11)(torch.randn(4, 29))


def test_torchs_own_everywhere_else(onednn):
    layer = snn.Linear(30, 11)
    x = torch.randn(4, 30)
    assert snn.Linear(30, 11).double()(x.double()).dtype == torch.float64
    assert layer(x[:0]).shape == (0, 11)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert torch.vmap(layer)(x[None]).shape == (1, 4, 11)
    with torch.backends.mkldnn.flags(enabled=False):
        layer(x)
    exported = torch.export.export(layer, (x,)).module()
    torch.testing.assert_close(exported(x), F.linear(x, layer.weight, layer.bias))
    assert not onednn


@ONEDNN
def test_the_weights_gradient_may_stay_torchs(onednn, monkeypatch):
    monkeypatch.setattr(products, "_faster_on_onednn", lambda: ("input",))
    x, weight = torch.randn(7, 30), torch.randn(11, 30).requires_grad_()
    (mine,) = torch.autograd.grad(products.linear(x, weight).sum(), weight)
    (expected,) = torch.autograd.grad(F.linear(x, weight).sum(), weight)
    torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-5)
    assert len(onednn) == 1


@ONEDNN
@pytest.mark.parametrize(
    "name, features, mkl, faster",
    [("znver5", {"avx512f"}, True, ("input", "weight")), ("znver4", {"avx512f"}, True, ("input",)),
     ("znver3", {"avx2"}, True, ()), ("znver5", {"avx512f"}, False, ()), ("sapphirerapids", {"avx512f"}, True, ()),
     ("neoverse-v1", {"bf16"}, False, ()), ("", set(), True, ())],
)  # fmt: skip
def test_the_rule(monkeypatch, name, features, mkl, faster):
    monkeypatch.setattr(products, "_host_cpu", lambda: (name, features))
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: mkl)
    assert products._faster_on_onednn.__wrapped__() == faster


class TestConv2d:
    """The input's gradient without the stride: the same numbers as torch's."""

    @staticmethod
    def results(function, layer, x, memory_format, dtype=torch.float32):
        x = x.to(dtype).contiguous(memory_format=memory_format).requires_grad_()
        y = function(x)
        grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype)
        return y, *torch.autograd.grad(y, [x, *layer.parameters()], grad)

    @pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
    @pytest.mark.parametrize(
        "size, stride, padding, side, bias",
        [(7, 3, 1, (32, 29), True), (7, 3, 0, (31, 40), False), (5, 2, 2, (17, 16), True), (3, 2, 4, (9, 9), True),
         (5, 4, 1, (16, 23), True)],
    )  # fmt: skip
    def test_equals_torchs(self, monkeypatch, memory_format, size, stride, padding, side, bias):
        ways, by_phases = [], products._input_gradient_by_phases
        monkeypatch.setattr(products, "_input_gradient_by_phases", lambda *a: ways.append(1) or by_phases(*a))
        torch.manual_seed(0)
        layer = snn.Conv2d(2, 20, size, stride, padding, bias=bias)
        x = torch.randn(3, 2, *side)
        mine = self.results(layer, layer, x, memory_format)
        expected = self.results(
            lambda x: F.conv2d(x, layer.weight, layer.bias, stride, padding), layer, x, memory_format
        )
        for a, b in zip(mine, expected):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        assert ways == [1]

    def test_under_autocast(self):
        layer, x = snn.Conv2d(2, 20, 7, 3, 1), torch.randn(3, 2, 32, 32)
        expected = self.results(layer, layer, x, torch.contiguous_format)
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
            mine = self.results(layer, layer, x, torch.contiguous_format, torch.bfloat16)
        assert y.dtype == mine[1].dtype == torch.bfloat16
        for a, b in zip(mine, expected):
            assert (a - b).norm() < 0.02 * b.norm()

    def test_torchs_own_where_it_takes_fewer_operations(self, monkeypatch):
        monkeypatch.setattr(products, "_Conv2d", None)
        x = torch.randn(2, 2, 20, 20)
        for layer in (
            snn.Conv2d(2, 32, 3, padding=1), snn.Conv2d(2, 4, 7, (3, 2)), snn.Conv2d(2, 4, 7, 3, dilation=2),
            snn.Conv2d(2, 4, 7, 3, groups=2), snn.Conv2d(2, 4, 7, padding="same"),
            snn.Conv2d(2, 4, 7, 3, padding_mode="circular", padding=1),
        ):  # fmt: skip
            layer(x)
        assert torch.vmap(snn.Conv2d(2, 4, 7, 3))(x[None]).shape == (1, 2, 4, 5, 5)
        assert snn.Conv2d(2, 4, 7, 3)(x[:0]).shape == (0, 4, 5, 5)
        snn.Conv2d(64, 32, 3, 3)(torch.randn(1, 64, 9, 9))
        with torch.autocast("cpu", torch.bfloat16):
            assert snn.Conv2d(64, 2, 3, 3).double()(torch.randn(1, 64, 9, 9).double()).dtype == torch.float64


@ONEDNN
def test_forward_mode_takes_torchs_products(onednn):
    layer, x, tangent = snn.Linear(30, 11), torch.randn(7, 30), torch.randn(7, 30)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, tangent))).tangent
    torch.testing.assert_close(found, F.linear(tangent, layer.weight))
    assert not onednn
