"""Dense layers and convolutions on the fastest products of the CPU."""

from torch import nn

from snn.kernels.products import conv2d, linear


class Linear(nn.Linear):
    """torch.nn.Linear on a faster product where `snn.kernels.products` has one; in float32, rounding may differ.

    Shape: x `[*, in_features]` -> y `[*, out_features]`.
    """

    def forward(self, x):
        return self.product(x, self.bias)

    def product(self, x, bias=None):
        """Return what `forward` does, with this bias in place of the layer's own."""
        return linear(x, self.weight, bias)


class Conv2d(nn.Conv2d):
    """torch.nn.Conv2d, with a faster gradient of its input where `snn.kernels.products` has one.

    Shape: x `[B, channels, height, width]` -> y `[B, channels, height, width]`.
    """

    def forward(self, x):
        return self.product(x, self.bias)

    def product(self, x, bias=None):
        """Return what `forward` does, with this bias in place of the layer's own."""
        stride, padding = self.stride[0], self.padding[0]
        one_number = self.stride == (stride, stride) and self.padding == (padding, padding)
        square = self.kernel_size[0] == self.kernel_size[1] and self.dilation == (1, 1) and self.groups == 1
        if not (one_number and square and self.padding_mode == "zeros"):
            return self._conv_forward(x, self.weight, bias)
        return conv2d(x, self.weight, bias, stride, padding)
