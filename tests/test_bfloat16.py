"""The compiled kernels on sequences in bfloat16, against the reference in float32."""

import pytest
import torch
from test_bias import biased_neuron, biased_neuron_and_iir
from test_kernels import GAUSSIAN, fast_kernels, kernel_of, neuron_and_iir

from snn.kernels import reference


class TestBfloat16:
    """Sequences in bfloat16, as autocast hands them over: computed in float32, rounded once when written."""

    # 600 values: whole vectors, and a rest; of 48, samples go through time together; the third is larger than caches
    SHAPES = pytest.mark.parametrize(
        "on, shape", [("cpu", (7, 3, 600)), ("cpu", (9, 50, 48)), ("cpu", (9, 4, 120_000)), ("cuda", (7, 3, 140))]
    )
    CONSTANTS = 0.7, True, 1.0, GAUSSIAN

    def run(self, kernel, x, *arguments):
        """Return a kernel's output in bfloat16, and the gradients of `x` and of the arguments."""
        torch.manual_seed(2)
        leaves = [x.clone().requires_grad_()] + [a.clone().requires_grad_() for a in arguments if torch.is_tensor(a)]
        tensors = iter(leaves[1:])
        with torch.autocast(x.device.type, torch.bfloat16):
            y = kernel(leaves[0], *(next(tensors) if torch.is_tensor(a) else a for a in arguments))[0]
        return y, torch.autograd.grad(y, leaves, torch.randn(y.shape).bfloat16().to(y))

    def compare(self, on, name, x, *arguments):
        fast = fast_kernels(on)
        device = fast.device
        x, *arguments = (a.to(device) if torch.is_tensor(a) else a for a in (x.bfloat16(), *arguments))
        y, grads = self.run(kernel_of(fast, name), x, *arguments)
        expected, expected_grads = self.run(kernel_of(reference, name), x.float(), *arguments)
        assert y.dtype == grads[0].dtype == torch.bfloat16
        rounding = 2**-7 if on == "cuda" and device == "cpu" else 2**-8  # Triton's interpreter cuts digits off
        torch.testing.assert_close(y.float(), expected, rtol=rounding, atol=1e-6)
        for mine, wanted in zip(grads, expected_grads):
            error = (mine.float() - wanted).norm() / wanted.norm()
            assert error < rounding, f"{error:.2e}"

    @SHAPES
    def test_dual_exp_iir(self, on, shape):
        self.compare(on, "dual_exp_iir", torch.randn(shape), None, None, *self.coefficients(shape))

    @SHAPES
    def test_dual_exp_iir_with_states(self, on, shape):
        self.compare(on, "dual_exp_iir", torch.randn(shape), *torch.randn(2, *shape[1:]), *self.coefficients(shape))

    @SHAPES
    def test_first_order(self, on, shape):
        self.compare(on, "first_order_low_pass", torch.randn(shape), None, self.coefficients(shape)[0])

    @SHAPES
    def test_neuron(self, on, shape):
        self.compare(on, "spiking_neuron", 1 + torch.randn(shape), None, None, *self.CONSTANTS)

    @SHAPES
    def test_neuron_and_the_synapse_behind_it(self, on, shape):
        x, coefficients = 1 + torch.randn(shape), self.coefficients(shape)
        self.compare(on, neuron_and_iir, x, None, None, None, None, *coefficients, *self.CONSTANTS)

    def test_a_bias_in_the_loop(self):
        x, bias = torch.randn(7, 3, 140), torch.randn(140)
        self.compare("cuda", biased_neuron, x, None, None, bias, *self.CONSTANTS)
        others = *self.coefficients(x.shape), bias
        self.compare("cuda", biased_neuron_and_iir, x, None, None, None, None, *others, *self.CONSTANTS)

    def coefficients(self, shape):
        return [0.9 * torch.rand(shape[2:]) - 0.45 for _ in range(3)]

    def test_rounding_is_torchs(self):
        """In whole vectors and in the rest, which the processor and integer arithmetic round."""
        halfway = 1 + (2 * torch.arange(40) + 1) / 2**8  # between two of bfloat16
        x = torch.cat([halfway, torch.randn(500), torch.tensor([0.0, -0.0, torch.inf, -torch.inf, 3.4e38, 1e-30])])
        for values in (x, x.flip(0)):
            with torch.autocast("cpu", torch.bfloat16):
                y, _ = fast_kernels("cpu").first_order_low_pass(values[None, None], None, torch.zeros(values.shape))
            torch.testing.assert_close(y[0, 0], values.bfloat16(), rtol=0, atol=0)

    def test_what_is_not_a_number_stays_so(self):
        bits = torch.tensor([0x7FFFFFFF, 0x7FC00000, 0x7F800001], dtype=torch.int32).repeat(6)  # a vector, and a rest
        with torch.autocast("cpu", torch.bfloat16):
            y, _ = fast_kernels("cpu").first_order_low_pass(bits.view(torch.float32)[None, None], None, torch.zeros(18))
        assert y.isnan().all()

    def test_the_output_filter_stays_in_float32(self):
        x = torch.rand(6, 3, 40).bfloat16().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            y, m, s = fast_kernels("cpu").dual_exp_filter(x, None, None, 0.9, 0.6, 1.7)
        (grad,) = torch.autograd.grad(y.sum(), x)
        assert [tensor.dtype for tensor in (y, m, s, grad)] == [*[torch.float32] * 3, torch.bfloat16]

    def test_dropout(self):
        x = torch.randn(5, 333).bfloat16()
        torch.manual_seed(1)
        y = fast_kernels("cpu").dropout(x, 0.25)
        torch.manual_seed(1)
        expected = fast_kernels("cpu").dropout(x.float(), 0.25)
        torch.testing.assert_close(y, expected.bfloat16(), rtol=0, atol=0)
