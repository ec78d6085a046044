"""Dense layers and convolutions on the fastest products of the CPU."""

from torch import nn

from snn.kernels.products import conv2d, linear


class Linear(nn.Linear):
    """torch.nn.Linear on a faster product where `snn.kernels.products` has one; in float32, rounding may differ.

    Shape: x `[*, in_features]` -> y `[*, out_features]`.
    """

    def forward(self, x):
        return linear(x, self.weight, self.bias)


class Conv2d(nn.Conv2d):
    """torch.nn.Conv2d, with a faster gradient of its input where `snn.kernels.products` has one.

    Shape: x `[B, channels, height, width]` -> y `[B, channels, height, width]`.
    """

    def forward(self, x):
        return _convolution(self, x, self.bias)


def without_bias(layer, x):
    """Return what a Linear or a Conv2d returns, less its bias."""
    return linear(x, layer.weight) if isinstance(layer, Linear) else _convolution(layer, x, None)


def _convolution(layer, x, bias):
    stride, padding = layer.stride[0], layer.padding[0]
    one_number = layer.stride == (stride, stride) and layer.padding == (padding, padding)
    square = layer.kernel_size[0] == layer.kernel_size[1] and layer.dilation == (1, 1) and layer.groups == 1
    if not (one_number and square and layer.padding_mode == "zeros"):
        return layer._conv_forward(x, layer.weight, bias)
    return conv2d(x, layer.weight, bias, stride, padding)
