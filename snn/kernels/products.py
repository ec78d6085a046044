"""Products of dense layers and convolutions, where the CPU has a faster one than torch takes.

torch multiplies float32 matrices with MKL, which takes AVX2 on AMD's processors also where they have AVX-512; oneDNN,
which torch carries for convolutions, takes AVX-512 there. Measured on 2 cores, for the shapes of the MLP and of the
associative memory, oneDNN against MKL: on Zen 5 about twice as fast forward and for the input's gradient, and up to 1.4
times for the weight's; on Zen 4, which adds 512 bits in two halves, 1.0 to 1.9 times, and no faster for the weight's.

A convolution's gradient of an input of few channels, such as an event camera's two, fills an eighth of a vector in
oneDNN. With a stride there is a better way: `_input_gradient_by_phases`.

The rules are fixed by processor and shapes, not measured in each process, so that a resumed run computes what one
without a break does.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch.autograd import Function

from snn.base.output import note
from snn.kernels import operators


def linear(x, weight, bias=None):
    """Return what torch.nn.functional.linear returns: x `[*, inputs]` -> y `[*, outputs]`."""
    float32 = torch.is_tensor(x) and x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if not (float32 and _are_plain(x, weight) and _faster_on_onednn() and torch.backends.mkldnn.enabled):
        return F.linear(x, weight, bias)
    fits = weight.dim() == 2 and x.shape[-1] == weight.shape[1]
    if bias is not None:  # oneDNN reads it as if it were contiguous
        fits = fits and bias.shape == weight.shape[:1] and bias.dtype == x.dtype and bias.is_contiguous()
    if not fits:
        return F.linear(x, weight, bias)  # it says what is wrong, if anything is
    return _Linear.apply(x.reshape(-1, x.shape[-1]).contiguous(), weight, bias).view(*x.shape[:-1], -1)


def _are_plain(*tensors):
    """Whether these are dense tensors of the CPU with values, and nothing traces, transforms or watches products."""
    if operators.are_needed() or torch.autograd.forward_ad._current_level >= 0:  # forward mode knows torch's
        return False
    dense = all(
        tensor.device.type == "cpu" and tensor.layout == torch.strided and not tensor.is_nested
        and tensor.dim() and tensor.numel() for tensor in tensors
    )  # fmt: skip
    return dense and not torch._C._len_torch_dispatch_stack()  # of modes such as FlopCounterMode, which knows torch's


class _Linear(Function):
    """y = x weight' + bias; a backward that is differentiated again takes torch's products."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx, grad):
        (x, weight), needed, grad = ctx.saved_tensors, ctx.needs_input_grad, grad.contiguous()
        faster, grad_x, grad_weight = () if torch.is_grad_enabled() else _faster_on_onednn(), None, None
        if needed[0]:
            grad_x = _product(grad, weight.t()) if "input" in faster else grad @ weight
        if needed[1]:
            grad_weight = _product(grad.t(), x.t()) if "weight" in faster else grad.t() @ x
        return grad_x, grad_weight, grad.sum(0) if needed[2] else None


def _product(a, b, bias=None):
    """Return a b' + bias."""
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")


@cache
def _faster_on_onednn():
    """Return which products are: "input" (forward and the input's gradient) and "weight" (its gradient), or neither."""
    name, features = _host_cpu()
    there = hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available()
    if not there or not torch.backends.mkl.is_available() or not name.startswith("znver") or "avx512f" not in features:
        return ()
    return ("input",) if name == "znver4" else ("input", "weight")


def conv2d(x, weight, bias, stride, padding):
    """Return what torch.nn.functional.conv2d returns: x `[B, channels, height, width]`; one stride and padding."""
    if not (_is_faster_by_phases(weight, stride) and x.dim() == 4 and _are_plain(x, weight)):
        return F.conv2d(x, weight, bias, stride, padding)
    if torch.is_autocast_enabled("cpu") and x.dtype != torch.float64:
        dtype = torch.get_autocast_dtype("cpu")
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    return _Conv2d.apply(x, weight, bias, stride, padding)


def _is_faster_by_phases(weight, stride):
    """Whether `_input_gradient_by_phases` takes fewer operations, in vectors of 16 channels."""
    _, channels, size, _ = weight.shape
    taps = -(-size // stride)
    return _whole_vectors(channels * stride**2) * taps**2 < _whole_vectors(channels) * size**2


def _whole_vectors(channels):
    return -(-channels // 16)


class _Conv2d(Function):
    """torch.nn.functional.conv2d with another way to the input's gradient."""

    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding):
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx, grad):
        (x, weight), (s, p), needed = ctx.saved_tensors, (ctx.stride, ctx.padding), ctx.needs_input_grad
        grad_x = _input_gradient_by_phases(grad, weight, x.shape, s, p) if needed[0] else None
        _, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
            grad, x, weight, [len(weight)], [s, s], [p, p], [1, 1], False, [0, 0], 1, [False, needed[1], needed[2]]
        )
        return grad_x, grad_weight, grad_bias, None, None


def _input_gradient_by_phases(grad, weight, shape, stride, padding):
    """Return the gradient of a convolution's input, of this shape `[B, channels, height, width]`.

    Pixels at the same place within each square of stride x stride see the same weights. So this gradient is one
    convolution of `grad` without a stride, whose output channels are the places of a square (sub-pixel convolution,
    Shi et al. 2016, arXiv 1609.05158), which are then put in their places.
    """
    outputs, channels, size, _ = weight.shape
    taps = -(-size // stride)  # of the weights that one pixel sees, along a side
    rest = stride * taps - size
    squares = F.pad(weight, (0, rest, 0, rest)).view(outputs, channels, taps, stride, taps, stride)
    weight = squares.permute(1, 3, 5, 0, 2, 4).flip(-2, -1).reshape(-1, outputs, taps, taps)
    places = F.conv2d(grad, weight.contiguous(memory_format=torch.channels_last), padding=taps - 1)
    whole = F.pixel_shuffle(places, stride)
    height, width = (side + 2 * padding for side in shape[2:])
    whole = F.pad(whole, (0, max(width - whole.shape[3], 0), 0, max(height - whole.shape[2], 0)))  # that no output saw
    return whole[:, :, padding : padding + shape[2], padding : padding + shape[3]]


def matrix_products(precision, device):
    """Return a context in which dense layers and convolutions run in that precision, where the device has it.

    On CUDA, TF32 or not, and algorithms of cuDNN that give the same each time, stay set: the backward needs it.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.deterministic = True  # a resumed run computes what one without a break does
    bf16 = precision == "bf16" and (device.type != "cpu" or cpu_has_bf16())
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)


@cache
def cpu_has_bf16():
    """Whether the CPU has instructions for products in bfloat16; where it has none, one line says so."""
    found = bool({"avx512bf16", "amx-bf16", "bf16"} & _host_cpu()[1])  # the last is Arm's
    if not found:
        note("precision bf16: this CPU has no instructions for it; products run in float32")
    return found


def _host_cpu():
    """Return LLVM's name of the CPU, such as znver5, and the set of its features; nothing where LLVM can't tell."""
    try:
        import llvmlite.binding

        features = llvmlite.binding.get_host_cpu_features()
        return llvmlite.binding.get_host_cpu_name(), {name for name, there in features.items() if there}
    except Exception:  # llvmlite comes with Numba; it raises RuntimeError for a processor that it does not know
        return "", set()
