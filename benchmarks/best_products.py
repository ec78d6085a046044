"""The limit of the benchmarks: a network's dense layers and convolutions alone, each on the best product found here.

Candidates for a convolution are both memory formats, and `snn.kernels.products`' way to the input's gradient; for a
dense layer torch's own product and oneDNN's. Of each layer's forward, and of its gradients, the fastest is taken.
"""

import torch
from torch import nn

from benchmarks.timing import time_in_turn
from snn.kernels import products
from snn.kernels.products import matrix_products

FORMATS = torch.contiguous_format, torch.channels_last
DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


class Product:
    """A layer's product and, in training, its gradients, on tensors of one precision and memory format."""

    def __init__(self, layer, x, dtype, memory_format, library):
        self.x, self.weight = (
            tensor.detach().to(dtype).contiguous(memory_format=memory_format if tensor.dim() == 4 else FORMATS[0])
            for tensor in (x, layer.weight)
        )
        self.bias = layer.bias.detach().to(dtype)
        self.convolution = [layer.stride, layer.padding, layer.dilation] if isinstance(layer, nn.Conv2d) else None
        self.library = library
        y = self.forward()
        self.grad = torch.randn_like(y)
        per_value = self.weight[0].numel()
        self.flops = 2 * y.numel() * per_value  # of the forward; each gradient takes as many

    def forward(self):
        if self.convolution:
            return nn.functional.conv2d(self.x, self.weight, self.bias, *self.convolution)
        if self.library == "oneDNN":
            return products._product(self.x, self.weight, self.bias)
        return nn.functional.linear(self.x, self.weight, self.bias)

    def gradients(self):
        if self.convolution:
            if self.library == "phases":
                stride, padding = self.convolution[0][0], self.convolution[1][0]
                products._input_gradient_by_phases(self.grad, self.weight, self.x.shape, stride, padding)
            torch.ops.aten.convolution_backward(
                self.grad, self.x, self.weight, None, *self.convolution, False, [0, 0], 1,
                [self.library != "phases", True, False],
            )  # fmt: skip
        elif self.library == "oneDNN":
            products._product(self.grad, self.weight.t())
            products._product(self.grad.t(), self.x.t())
        else:
            self.grad @ self.weight
            self.grad.t() @ self.x


def candidates(layer, x, dtype):
    if isinstance(layer, nn.Conv2d):
        ways = "torch", "phases"
        return [Product(layer, x, dtype, memory_format, way) for memory_format in FORMATS for way in ways]
    libraries = ["torch"] + ["oneDNN"] * (x.device.type == "cpu" and hasattr(torch.ops.mkldnn, "_linear_pointwise"))
    return [Product(layer, x, dtype, FORMATS[0], library) for library in libraries]


def seconds(function, device):
    """Return the shortest time of several."""
    return min(time_in_turn([function], 5, device)[0])


@torch.no_grad()
def make(case, device, precision, train):
    """Return a function that runs a network's products once in a precision, and their number of operations in GFLOP."""
    dtype = DTYPES[precision]
    matrix_products(precision, torch.device(device))
    net, inputs = case.make().to(device), {}
    layers = [layer for layer in net if isinstance(layer, (nn.Linear, nn.Conv2d))]
    hooks = [layer.register_forward_pre_hook(lambda layer, args: inputs.update({layer: args[0]})) for layer in layers]
    net(case.input().to(device))
    for hook in hooks:
        hook.remove()
    calls, flops = [], 0
    for layer in layers:
        for parts in ("forward", "gradients")[: 2 if train else 1]:
            found = candidates(layer, inputs[layer], dtype)
            times = [seconds(getattr(product, parts), device) for product in found]
            best = found[times.index(min(times))]
            calls.append(getattr(best, parts))
            flops += best.flops * (1 if parts == "forward" else 2)

    @torch.no_grad()
    def run():
        matrix_products(precision, torch.device(device))
        for call in calls:
            call()

    return run, flops / 1e9


@torch.no_grad()
def peak(device, precision):
    """Return the GFLOP/s of the fastest product found: squares of 1,024 and 2,048, in each library."""
    best, dtype = 0, DTYPES[precision]
    matrix_products(precision, torch.device(device))
    for size in (1024, 2048):
        layer = nn.Linear(size, size).to(device)
        for product in candidates(layer, torch.randn(size, size, device=device), dtype):
            best = max(best, product.flops / seconds(product.forward, device) / 1e9)
    return best
