"""Products of dense layers: the same numbers as torch.nn.functional.linear, whichever library multiplies."""

import pytest
import torch
import torch.nn.functional as F

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


def test_torchs_own_everywhere_else(onednn):
    layer = snn.Linear(30, 11)
    x = torch.randn(4, 30)
    assert snn.Linear(30, 11).double()(x.double()).dtype == torch.float64
    assert layer(x[:0]).shape == (0, 11)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert torch.vmap(layer)(x[None]).shape == (1, 4, 11)
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
