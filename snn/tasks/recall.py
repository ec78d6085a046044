"""How well an associative memory recalls spikes: scores, a table over increasing corruption, and pictures."""

from pathlib import Path

import torch
import torch.nn.functional as F

from snn.base.files import write_csv
from snn.base.output import say
from snn.data import patterns
from snn.layers.chunks import as_configured
from snn.layers.synapses import FirstOrderLowPass
from snn.look import inspection, recall_plots
from snn.look.recorder import record

WINDOW = 1  # steps by which a spike may be early or late
DRAWS = 5  # corrupted samples of each pattern in a row of the table
SEED = 1003
CLEAN = {
    "probability": 1, "jitter_probability": 1, "jitter_std": 0, "silence_probability": 1, "block_probability": 0,
    "block_size": 1, "rows": 0, "noise": 0,
}  # fmt: skip
GROWING = {
    "noise": (0, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05),
    "rows": (0, 25, 50, 75, 100, 125, 150),
    "jitter_std": (0, 0.5, 1, 2, 3, 4),
}


def scores(spikes, target, tau):
    """Compare spikes with what they should be, both `[T, B, N]`.

    Returns a dict: `precision`, the share of the spikes that have a target spike of their train within a step;
    `recall`, the share of the target spikes that have a spike within a step; `f1`, their harmonic mean; `van_rossum`,
    the mean over trains of the squared distance (1/tau) sum_t (f[t] - g[t])^2, f and g filtered by e^(-t/tau)
    (van Rossum 2001: a single extra or missing spike counts about 1/2).
    """
    hits = (spikes * _near(target)).sum().item()
    found = (target * _near(spikes)).sum().item()
    precision, recall = hits / max(spikes.sum().item(), 1), found / max(target.sum().item(), 1)
    decay = FirstOrderLowPass(spikes.shape[2], tau, trainable=False).to(spikes.device)
    distance = (decay(spikes - target)[0].square().sum(0) / tau).mean().item()
    f1 = 2 * precision * recall / max(precision + recall, 1e-12)
    return {"precision": precision, "recall": recall, "f1": f1, "van_rossum": distance}


def _near(spikes):
    """Return 1 where a train has a spike within WINDOW steps, else 0."""
    near = F.max_pool1d(spikes.permute(1, 2, 0), 2 * WINDOW + 1, stride=1, padding=WINDOW)
    return near.permute(2, 0, 1)


def report(view, folder):
    """Print the table of recall, and write it to a run's folder as recall.csv; return pictures, as `Task.inspect` does.

    Data of your own has no patterns to corrupt, or a network no neurons: then there is nothing to report.

    Args:
        view: a `snn.look.inspection.View` of the test split; the network's output filter is its last layer.
    """
    if not hasattr(view.split, "patterns") or not view.trace.spikes:
        return {}
    lines, count = table(view.net, view.split, view.config), len(view.split.patterns)
    say(f"recall of {count} patterns, {DRAWS} corrupted samples of each, spikes within {WINDOW} step:")
    say("  corruption   size   precision   recall      F1   van Rossum")
    for line in lines:
        say("  {corruption:10} {size:6} {precision:11.3f} {recall:8.3f} {f1:7.3f} {van_rossum:12.4f}".format(**line))
    write_csv(Path(folder) / "recall.csv", lines)
    return _pictures(view, lines)


def table(net, split, config):
    """Return a row of scores for each kind and size of corruption: dicts with `corruption`, `size` and the scores."""
    tau, device = config["hyperparameters"]["filter_tau_m"], split.patterns.device
    which = torch.arange(len(split.patterns), device=device).repeat_interleave(DRAWS)
    target = delayed(split, config)[:, which]
    lines = []
    for kind, sizes in GROWING.items():
        for size in sizes:
            generator = torch.Generator(device).manual_seed(SEED)
            x = patterns.corrupt(split.patterns[which], CLEAN | {kind: size}, generator).transpose(0, 1).contiguous()
            with torch.no_grad(), record(net, what=["spikes"]) as trace:
                as_configured(net.eval(), config, x)
            lines.append({"corruption": kind, "size": size} | scores(output_spikes(trace), target, tau))
    return lines


def delayed(split, config):
    """Return the spikes `[T, P, N]` that a network should answer the patterns of a split with."""
    return patterns.delayed(split.patterns, config["dataset"]["delay"]).transpose(0, 1)


def output_spikes(trace):
    """Return the spikes `[T, B, N]` of a network's last neurons, from a `snn.record`."""
    return list(trace.spikes.values())[-1]


def _recorded(net, x, config):
    """Return a `snn.record` of a network, and whether it has all that `recall_plots.path` draws."""
    for what in ["psp", "spikes", "v"], ["spikes"]:
        try:
            with torch.no_grad(), record(net, what=what) as trace:
                as_configured(net, config, x)
            return trace, "v" in what and trace.spikes.keys() <= trace.v.keys()
        except ValueError:  # neurons of one's own have no v, or there is no psp
            continue
    return None, False


def _pictures(view, lines):
    """Return pictures of the network at work on each pattern; `lines` are those of `table`."""
    net, split, config = view.net, view.split, view.config
    generator = torch.Generator(split.patterns.device).manual_seed(SEED)
    always = config["corruption"] | {"probability": 1}  # so that every picture has something to complete
    x = patterns.corrupt(split.patterns, always, generator).transpose(0, 1).contiguous()
    trace, has_potentials = _recorded(net.eval(), x, config)
    target = delayed(split, config)
    path = {
        "path": (
            lambda: recall_plots.path(net, x, trace, target),
            "The path of one input train: its psp, then a neuron of each layer with potential, threshold and spikes.",
        )
    }
    filters = inspection.of_filters(view)
    responses = {name: filters[name] for name in filters if name == "impulse_responses"}
    pictures = {
        "recall": (
            lambda: recall_plots.recall(x, target, output_spikes(trace)),
            "Every pattern: a corrupted input, the target, and the network's output spikes.",
        ),
        "recall_curves": (
            lambda: recall_plots.recall_curves(lines),
            "Share of the spikes that are right within a step, over increasing corruption.",
        ),
    }
    return pictures | responses | (path if has_potentials else {})
