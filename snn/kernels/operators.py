"""The kernels as torch operators, which torch.compile, export, func and jit.trace see in place of a loop.

Each operator is opaque to them: it runs the kernel, reports the shapes of its results without running, and leaves its
gradients to a second operator, which runs the kernel again. Eager code does not use this module.
"""

import importlib

import torch
from torch.library import custom_op

# Each kernel's arguments as a torch schema, and the number of tensors it returns, its output first.
KERNELS = {
    "dual_exp_iir": ("Tensor x, Tensor? psp_1, Tensor? psp_2, Tensor a1, Tensor a2, Tensor b1", 3),
    "first_order_low_pass": ("Tensor x, Tensor? psp_1, Tensor a1", 2),
    "spiking_neuron": (
        "Tensor current, Tensor? v, Tensor? r, float decay, bool membrane_filter, float threshold, "
        "str surrogate, float[] constants", 3,
    ),
    "dual_exp_filter": ("Tensor x, Tensor? m, Tensor? s, float decay_m, float decay_s, float gain", 3),
}  # fmt: skip


takes_bf16 = fuses = False


def are_needed():
    """Whether torch traces or transforms the code that runs now."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or is_transforming()


def is_transforming():
    """Whether torch.vmap, torch.func.grad or another torch.func transform is active."""
    return torch._C._functorch.peek_interpreter_stack() is not None


class _Surrogate:
    """A surrogate as an operator receives it: the name of its class, and its constants."""

    def __init__(self, name, constants):
        module, _, class_name = name.partition(":")
        self.gradient = getattr(importlib.import_module(module), class_name).gradient
        self.constants = constants


def _run(kernel, *arguments):
    from snn.kernels import eager_kernels_for  # not at the top: it imports this module

    if kernel == "spiking_neuron":
        arguments = *arguments[:-2], _Surrogate(*arguments[-2:])
    x = arguments[0]
    with torch.autocast(x.device.type, enabled=False):  # its results have the types that tracing has seen
        return getattr(eager_kernels_for(x), kernel)(*arguments)


def _registered(kernel, schema, results):
    """Return a kernel as a differentiable function of two operators: one for its results, one for its gradients."""
    tensors = [place for place, argument in enumerate(schema.split(", ")) if argument.startswith("Tensor")]

    def forward(*arguments):
        with torch.no_grad():
            return tuple(y.clone(memory_format=torch.contiguous_format) for y in _run(kernel, *arguments))

    def forward_shapes(*arguments):
        x = arguments[0]
        return x.new_empty(x.shape), *(x.new_empty(x.shape[1:]) for _ in range(results - 1))

    def backward(*arguments):
        """Take the gradients of the results, then the kernel's arguments; return the tensor arguments' gradients."""
        grads, arguments = arguments[:results], list(arguments[results:])
        given = [place for place in tensors if arguments[place] is not None]
        for place in given:
            arguments[place] = arguments[place].detach().requires_grad_()
        with torch.enable_grad():
            outputs = _run(kernel, *arguments)
            leaves = [arguments[place] for place in given]
            found = torch.autograd.grad(outputs, leaves, grads, allow_unused=True, materialize_grads=True)
        found = dict(zip(given, found))
        return tuple(
            found[n].clone(memory_format=torch.contiguous_format) if n in found else torch.empty(0) for n in tensors
        )

    def backward_shapes(*arguments):
        given = [arguments[results + place] for place in tensors]
        return tuple(torch.empty(0) if tensor is None else tensor.new_empty(tensor.shape) for tensor in given)

    def one_by_one(operator):
        """Return an operator's rule for torch.vmap: run it on each slice."""

        def rule(info, in_dims, *arguments):
            def of_slice(n, a, dim):
                return a.select(dim, n) if torch.is_tensor(a) and dim is not None else a

            results = [
                operator(*(of_slice(n, a, dim) for a, dim in zip(arguments, in_dims))) for n in range(info.batch_size)
            ]
            columns = [torch.stack(column) for column in zip(*results)]
            return tuple(columns), (0,) * len(columns)

        return rule

    grads = ", ".join(f"Tensor grad_{n}" for n in range(results))
    operator = custom_op(
        f"snn::{kernel}", forward, mutates_args=(), schema=f"({schema}) -> ({', '.join(['Tensor'] * results)})"
    )
    gradients = custom_op(
        f"snn::{kernel}_gradients", backward, mutates_args=(),
        schema=f"({grads}, {schema}) -> ({', '.join(['Tensor'] * len(tensors))})",
    )  # fmt: skip
    operator.register_fake(forward_shapes)
    gradients.register_fake(backward_shapes)
    operator.register_vmap(one_by_one(operator))
    gradients.register_vmap(one_by_one(gradients))

    registered = operator
    operator, gradients = (getattr(torch.ops.snn, name).default for name in (kernel, f"{kernel}_gradients"))

    class Gradients(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(*arguments):
            return gradients(*arguments)

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, *_):
            raise NotImplementedError(f"{kernel} has no second derivatives")

    class Differentiable(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(*arguments):
            return operator(*arguments)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*(inputs[place] for place in tensors))
            ctx.arguments = [None if place in tensors else value for place, value in enumerate(inputs)]

        @staticmethod
        def backward(ctx, *grads):
            arguments = list(ctx.arguments)
            for place, tensor in zip(tensors, ctx.saved_tensors):
                arguments[place] = tensor
            # torch.func.grad differentiates this once more, if only formally; torch.compile does not.
            compute = gradients if torch.compiler.is_compiling() else Gradients.apply
            found = dict(zip(tensors, compute(*grads, *arguments)))
            return tuple(
                found[place] if place in tensors and value is not None else None
                for place, value in enumerate(arguments)
            )

    registered.register_autograd(Differentiable.backward, setup_context=Differentiable.setup_context)

    def run(*arguments):
        # jit.trace can't save Differentiable, and Dynamo fails on it without grad
        alone = torch.jit.is_tracing() or torch.compiler.is_compiling() and not torch.is_grad_enabled()
        return operator(*arguments) if alone else Differentiable.apply(*arguments)

    return run


_operators = {kernel: _registered(kernel, schema, results) for kernel, (schema, results) in KERNELS.items()}
dual_exp_iir = _operators["dual_exp_iir"]
first_order_low_pass = _operators["first_order_low_pass"]
dual_exp_filter = _operators["dual_exp_filter"]
dropout = torch.nn.functional.dropout


def spiking_neuron(current, v, r, decay, membrane_filter, threshold, surrogate):
    name = f"{type(surrogate).__module__}:{type(surrogate).__name__}"
    constants = [float(constant) for constant in surrogate.constants]
    return _operators["spiking_neuron"](
        current, v, r, decay, bool(membrane_filter), float(threshold), name, constants
    )  # fmt: skip
