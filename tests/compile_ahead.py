"""Compile for GPUs that are not here what training steps launch; print, as JSON, all kernels and what was made.

    python compile_ahead.py FOLDER all 80,90 MLP association "the others"
    python compile_ahead.py FOLDER one 90 MLP          of each kernel and type of values, one that moves vectors and not

Networks run on torch's device `meta`, where tensors have shapes and no values: a step that waits for a value fails.
Triton's launches are noted, with the types and the constants that they pass, and compiled for each architecture.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import torch
import triton
from torch import nn
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

import snn
import snn.kernels
from benchmarks.networks import Case, case_on
from snn.kernels import autograd, cuda, cuda_neurons, layout
from snn.kernels.surrogates import ATan, FastSigmoid

NAMES = {80: "sm_80", 90: "sm_90a"}
TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.int64: "*i64"}
OTHERS = Case(  # what the four networks leave out
    lambda: snn.Sequential(
        snn.FirstOrderLowPass((1, 28, 28), 4), snn.Conv2d(1, 8, 3, bias=False), snn.SpikingNeuron(4, surrogate=ATan()),
        snn.Dropout(0.3), nn.Flatten(), snn.FirstOrderLowPass(8 * 26 * 26, 4), snn.Linear(8 * 26 * 26, 20, bias=False),
        snn.SpikingNeuron(4, surrogate=FastSigmoid()), snn.DualExpIIR(20, 4, 1), snn.Linear(20, 10),
        snn.SpikingNeuron(4, surrogate=FastSigmoid()), snn.DualExpFilter(4, 1),
    ), 64, 25, (1, 28, 28), repeats=True,
)  # fmt: skip
PTXAS = next(Path(triton.__file__).parent.glob("backends/nvidia/bin/ptxas"))


def launches_of(case, bf16):
    """Return (kernel, types, constants, places that are multiples of 16, warps) of each launch of a training step."""
    noted = {}

    def note(kernel, *arguments, grid, warmup, num_warps=4, **others):
        names = [parameter.name for parameter in kernel.params]
        values = dict(zip(names, arguments)) | others
        types, constants, multiples = [], [], []
        for place, parameter in enumerate(kernel.params):
            value, free = values[parameter.name], parameter.do_not_specialize
            if parameter.is_constexpr or value is None or (type(value) is int and value == 1 and not free):
                types.append("constexpr")
                constants.append((place, value))
                continue
            is_tensor = torch.is_tensor(value)
            types.append(TYPES[value.dtype] if is_tensor else "fp32" if isinstance(value, float) else "i64")
            if is_tensor or (isinstance(value, int) and value % 16 == 0 and not free):
                multiples.append(place)
            if types[-1] == "i64" and -(2**31) <= value < 2**31:
                types[-1] = "i32"
        noted[kernel, tuple(types), tuple(constants), tuple(multiples), num_warps] = None

    compiled_loops = autograd.CompiledKernels(cuda, adds_bias=True)
    net = case.make().to("meta")
    for module in net.modules():
        if bf16 and isinstance(module, (nn.Linear, nn.Conv2d)):  # as under autocast, which the device has not
            module.to(torch.bfloat16)
    x = torch.empty(1 if case.repeats else case.length, case.batch, *case.shape, device="meta")
    with (
        mock.patch.object(snn.kernels, "_kernels_on", lambda device: compiled_loops),
        mock.patch.object(layout, "_autocast_to_bf16", lambda device: bf16),
        mock.patch.object(triton.JITFunction, "run", note),
    ):
        y, _ = net(x.expand(case.length, *x.shape[1:]))
        case.loss("meta")(y).backward()
    return noted


def vector_of(launch):
    """Return how many values a thread moves at once."""
    kernel, _, constants, _, _ = launch
    return {kernel.params[place].name: value for place, value in constants}.get("VECTOR", 1)


def kind_of(launch):
    kernel, types, *_ = launch
    return kernel, "*bf16" in types, vector_of(launch) > 1


def compiled(launch, architecture):
    """Return what a compiler made of a launch, as a dict."""
    kernel, types, constants, multiples, warps = launch
    names = [parameter.name for parameter in kernel.params]
    source = ASTSource(
        kernel, dict(zip(names, types)), {(place,): value for place, value in constants},
        {(place,): [["tt.divisibility", 16]] for place in multiples},
    )  # fmt: skip
    made = compile(source, target=GPUTarget("cuda", architecture, 32), options={"num_warps": warps})
    ptx = made.asm["ptx"]
    file = Path(sys.argv[1], "kernel.ptx")
    file.write_text(ptx)
    command = [PTXAS, "-v", f"--gpu-name={NAMES[architecture]}", file, "-o", file.with_suffix(".cubin")]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return {
        "kernel": kernel.__name__, "architecture": architecture,
        "vector": vector_of(launch),
        "spilled": sum(map(int, re.findall(r"(\d+) bytes spill", report))),
        "registers": int(re.search(r"Used (\d+) registers", report)[1]),
        "barriers": ptx.count("bar.sync"), "wide": len(re.findall(r"(?:ld|st)\.global\.v[24]", ptx)),
        "narrow": len(re.findall(r"(?:ld|st)\.global\.(?!v)", ptx)),
    }  # fmt: skip


def kernels():
    """Return the names of all kernels, but for what only other kernels call."""
    names = []
    for module in (cuda, cuda_neurons):
        for name, value in vars(module).items():
            function = getattr(value, "fn", value)
            own = getattr(function, "__module__", "") == module.__name__ and hasattr(function, "__code__")
            names += [name] * (own and "BLOCK" in function.__code__.co_varnames)
    return names


def main():
    launches = {}
    which, architectures, *networks = sys.argv[2:]
    for name in networks:
        for bf16 in (False,) if name == "the others" else (False, True):
            launches |= launches_of(OTHERS if name == "the others" else case_on("cuda", name), bf16)
    if which == "one":
        by_kind = {kind_of(launch): launch for launch in launches}
        launches = [launch for (_, is_bf16, is_wide), launch in by_kind.items() if is_wide or not is_bf16]
    made = [compiled(launch, int(one)) for launch in launches for one in architectures.split(",")]
    print(json.dumps([kernels(), made]))


if __name__ == "__main__":
    main()
