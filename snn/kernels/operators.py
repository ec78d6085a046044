"""The kernels as torch operators, which torch.compile, export, func and jit.trace see in place of a loop.

Each operator is opaque to them: it runs the kernel, reports the shapes of its results without running, and leaves its
gradients to a second operator, which runs the kernel again. Eager code only asks here whether they are needed.
"""

import importlib
from operator import attrgetter

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


takes_bf16 = fuses = adds_bias = False
recurrent_neuron = None


def are_needed():
    """Whether torch traces or transforms the code that runs now, or its tensors are fake ones."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or is_transforming() or _are_fake()


def _are_fake():
    """Whether tensors are fake ones, or make_fx records what happens to them."""
    if not torch._C._len_torch_dispatch_stack():
        return False
    modes = torch._C._TorchDispatchModeKey
    return any(torch._C._get_dispatch_mode(mode) is not None for mode in (modes.FAKE, modes.PROXY))


def is_transforming():
    """Whether torch.vmap, torch.func.grad or another torch.func transform is active."""
    return torch._C._functorch.peek_interpreter_stack() is not None


class _Surrogate:
    """A surrogate as an operator receives it: the name of its class, and its constants."""

    def __init__(self, name, constants):
        module, _, class_name = name.partition(":")
        self.gradient = attrgetter(class_name)(importlib.import_module(module)).gradient
        self.constants = constants


class _Operator:
    """A kernel as two operators: one for its results, one for the gradients of its tensor arguments."""

    def __init__(self, kernel):
        self.kernel, (schema, self.results) = kernel, KERNELS[kernel]
        arguments = schema.split(", ")
        self.tensors = [place for place, argument in enumerate(arguments) if argument.startswith("Tensor")]
        grads = ", ".join(f"Tensor grad_{n}" for n in range(self.results))
        results = _registered(kernel, schema, self.results, self.run, self.shapes)
        results.register_autograd(self.gradients_of, setup_context=self.keep)
        _registered(f"{kernel}_gradients", f"{grads}, {schema}", len(self.tensors), self.run_back, self.shapes_back)

    def run(self, *arguments):
        with torch.no_grad():
            return tuple(map(_own, _run(self.kernel, *arguments)))

    def shapes(self, *arguments):
        x = arguments[0]
        return x.new_empty(x.shape), *(x.new_empty(x.shape[1:]) for _ in range(self.results - 1))

    def run_back(self, *arguments):
        """Take the gradients of the results, then the kernel's arguments; return the tensor arguments' gradients."""
        grads, arguments = arguments[: self.results], list(arguments[self.results :])
        given = [place for place in self.tensors if arguments[place] is not None]
        for place in given:
            arguments[place] = arguments[place].detach().requires_grad_()
        with torch.enable_grad():
            outputs = _run(self.kernel, *arguments)
            leaves = [arguments[place] for place in given]
            found = torch.autograd.grad(outputs, leaves, grads, allow_unused=True, materialize_grads=True)
        found = dict(zip(given, found))
        return tuple(_own(found[place]) if place in found else torch.empty(0) for place in self.tensors)

    def shapes_back(self, *arguments):
        given = [arguments[self.results + place] for place in self.tensors]
        return tuple(torch.empty(0) if tensor is None else tensor.new_empty(tensor.shape) for tensor in given)

    def keep(self, ctx, inputs, output):
        ctx.save_for_backward(*(inputs[place] for place in self.tensors))
        ctx.arguments = [None if place in self.tensors else value for place, value in enumerate(inputs)]

    def gradients_of(self, ctx, *grads):
        """Return the gradient of each of the kernel's arguments, None for those that are no tensors."""
        arguments = list(ctx.arguments)
        for place, tensor in zip(self.tensors, ctx.saved_tensors):
            arguments[place] = tensor
        # torch.func.grad differentiates this once more, if only formally; torch.compile does not.
        if torch.compiler.is_compiling():
            found = _call(f"{self.kernel}_gradients", *grads, *arguments)
        else:
            found = _Gradients.apply(self.kernel, *grads, *arguments)
        found = dict(zip(self.tensors, found))
        return tuple(found[n] if n in found and value is not None else None for n, value in enumerate(arguments))


class _Differentiable(torch.autograd.Function):
    """A kernel, by its name and its arguments."""

    generate_vmap_rule = True

    @staticmethod
    def forward(kernel, *arguments):
        return _call(kernel, *arguments)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.kernel = inputs[0]
        _OPERATORS[ctx.kernel].keep(ctx, inputs[1:], output)

    @staticmethod
    def backward(ctx, *grads):
        return None, *_OPERATORS[ctx.kernel].gradients_of(ctx, *grads)


class _Gradients(torch.autograd.Function):
    """A kernel's gradients, by its name, the gradients of its results, and its arguments."""

    generate_vmap_rule = True

    @staticmethod
    def forward(kernel, *arguments):
        return _call(f"{kernel}_gradients", *arguments)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.kernel = inputs[0]

    @staticmethod
    def backward(ctx, *_):
        raise NotImplementedError(f"{ctx.kernel} has no second derivatives")


def _registered(name, schema, results, run, shapes):
    """Register an operator that returns so many tensors, with a rule for tracing and one for torch.vmap; return it."""
    schema = f"({schema}) -> ({', '.join(['Tensor'] * results)})"
    operator = custom_op(f"snn::{name}", run, mutates_args=(), schema=schema)
    operator.register_fake(shapes)
    operator.register_vmap(lambda info, in_dims, *arguments: _slice_by_slice(operator, info, in_dims, arguments))
    return operator


def _slice_by_slice(operator, info, in_dims, arguments):
    """Run an operator on each slice of its arguments, as torch.vmap asks for."""

    def of_slice(n, value, dim):
        return value.select(dim, n) if torch.is_tensor(value) and dim is not None else value

    results = [operator(*(of_slice(n, *pair) for pair in zip(arguments, in_dims))) for n in range(info.batch_size)]
    columns = [torch.stack(column) for column in zip(*results)]
    return tuple(columns), (0,) * len(columns)


def _own(tensor):
    """Return a contiguous copy: an operator must not return what it was given, or another's memory."""
    return tensor.clone(memory_format=torch.contiguous_format)


def _run(kernel, *arguments):
    from snn.kernels import eager_kernels_for  # not at the top: it imports this module

    if kernel == "spiking_neuron":
        arguments = *arguments[:-2], _Surrogate(*arguments[-2:])
    x = arguments[0]
    with torch.autocast(x.device.type, enabled=False):  # its results have the types that tracing has seen
        return getattr(eager_kernels_for(x), kernel)(*arguments)


def _call(name, *arguments):
    return getattr(torch.ops.snn, name).default(*arguments)


_OPERATORS = {kernel: _Operator(kernel) for kernel in KERNELS}


def _kernel(name):
    """Return a kernel as a differentiable function of its operator."""

    def run(*arguments):
        # jit.trace can't save the autograd Function, and Dynamo fails on it without grad
        alone = torch.jit.is_tracing() or torch.compiler.is_compiling() and not torch.is_grad_enabled()
        return _call(name, *arguments) if alone else _Differentiable.apply(name, *arguments)

    return run


dual_exp_iir, first_order_low_pass, dual_exp_filter, _spiking_neuron = map(
    _kernel, ("dual_exp_iir", "first_order_low_pass", "dual_exp_filter", "spiking_neuron")
)
dropout = torch.nn.functional.dropout


def spiking_neuron(current, v, r, decay, membrane_filter, threshold, surrogate):
    name = f"{type(surrogate).__module__}:{type(surrogate).__qualname__}"
    if "<locals>" in name:
        raise ValueError(f"{name} can't be found again here: define the surrogate class in a module, outside functions")
    constants = [float(constant) for constant in surrogate.constants]
    return _spiking_neuron(current, v, r, decay, bool(membrane_filter), float(threshold), name, constants)
