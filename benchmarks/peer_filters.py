"""Our synapse filter next to other libraries' trainable IIR filters, forward and backward, each line with its own.

    pip install torchaudio torchlpc philtorch
    python benchmarks/peer_filters.py                  sizes of a long sequence and of the ECG
    python benchmarks/peer_filters.py --threads 1

Each library computes psp[t] = a1 psp[t-1] + a2 psp[t-2] + b1 x[t] and the gradients of x, a1, a2 and b1, in the layout
that it takes, whose making is not timed. A library that is not installed is left out; one whose output differs ends the
run. Prints a Markdown table: medians of rounds in turn, and how many times as long as ours (quartiles).
"""

import statistics
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import snn  # noqa: E402
from benchmarks.timing import arguments, time_in_turn  # noqa: E402

SIZES = (784, 64, 256), (1301, 64, 80), (1301, 64, 64)  # [T, B, N]
COEFFICIENTS = 1.1, -0.3, 0.4


def ours(x):
    """Return a function to a step's output, its leaves, and the output as `[T, B, N]`."""
    layer = snn.DualExpIIR(x.shape[2], 4, 1)
    for coefficient, value in zip((layer.a1, layer.a2, layer.b1), COEFFICIENTS):
        coefficient.data.fill_(value)
    return lambda: layer(x)[0], [x, *layer.parameters()], lambda y: y


def torchaudio(x):
    from torchaudio.functional import lfilter

    lines, (a1, a2, b1) = x.permute(1, 2, 0).contiguous().requires_grad_(), COEFFICIENTS
    a, b = (torch.tensor([of]).repeat(x.shape[2], 1).requires_grad_() for of in ([1, -a1, -a2], [b1, 0, 0]))
    return lambda: lfilter(lines, a, b, clamp=False), [lines, a, b], lambda y: y.permute(2, 0, 1)


def torchlpc(x):
    from torchlpc import sample_wise_lpc

    length, batch, features = x.shape
    lines, (a1, a2, b1) = x.permute(1, 2, 0).flatten(0, 1).contiguous().requires_grad_(), COEFFICIENTS
    a, b = (torch.tensor([of]).repeat(features, 1).requires_grad_() for of in ([-a1, -a2], [b1]))

    def run():
        of_steps = a.repeat(batch, 1)[:, None].expand(-1, length, -1)
        return sample_wise_lpc(lines * b.repeat(batch, 1), of_steps)

    return run, [lines, a, b], lambda y: y.unflatten(0, (batch, features)).permute(2, 0, 1)


def philtorch(x):
    from philtorch.lti import lfilter

    _, batch, features = x.shape
    lines, (a1, a2, b1) = x.permute(1, 2, 0).flatten(0, 1).contiguous().requires_grad_(), COEFFICIENTS
    a, b = (torch.tensor([of]).repeat(features, 1).requires_grad_() for of in ([-a1, -a2], [b1]))
    return (
        lambda: lfilter(b.repeat(batch, 1), a.repeat(batch, 1), lines), [lines, a, b],
        lambda y: y.unflatten(0, (batch, features)).permute(2, 0, 1),
    )  # fmt: skip


def make_steps(size):
    """Return a function for each library that is there, by name, which runs it forward and backward."""
    x, steps, expected = torch.randn(size).requires_grad_(), {}, None
    for make in (ours, torchaudio, torchlpc, philtorch):
        try:
            run, leaves, as_ours = make(x)
        except ImportError:
            continue
        y = run()
        expected = y if expected is None else expected
        torch.testing.assert_close(as_ours(y), expected, rtol=1e-3, atol=1e-4)
        grad = torch.randn_like(y)
        steps[make.__name__] = lambda run=run, leaves=leaves, grad=grad: torch.autograd.grad(run(), leaves, grad)
    return steps


def main():
    args = arguments(__doc__, repeat=7)
    print("| Size [T, B, N] | Filter | ms | times as long as ours |\n|---|---|---|---|")
    for size in SIZES:
        steps = make_steps(size)
        seconds = time_in_turn(steps.values(), args.repeat, "cpu")
        for name, taken in zip(steps, seconds):
            low, median, high = statistics.quantiles([other / mine for other, mine in zip(taken, seconds[0])], n=4)
            print(f"| {list(size)} | {name} | {1000 * statistics.median(taken):.1f} | {median:.1f} "
                  f"({low:.1f} to {high:.1f}) |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
