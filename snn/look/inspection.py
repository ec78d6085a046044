"""--inspect: pictures of what a trained network does with a few test samples, and one page that shows them all."""

import base64
import html
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import torch

from snn.base.errors import printable
from snn.base.files import write_picture, write_text
from snn.base.output import note
from snn.layers.chunks import as_configured
from snn.layers.layer import spiking_layers
from snn.look.board import Board
from snn.look.cost import cost
from snn.look.health import gradient_norms
from snn.look.recorder import record

SAMPLES = 4  # number of test samples to look at
COST = (
    "What each layer computes, on the samples shown: spikes of a sample; spikes per neuron and step; multiply-adds of "
    "a step, zeros included; share of the values entering it that are not 0. Steps behind the end of a shorter series "
    "count too. Spikes don't measure energy here: filters stand before the weights, and a psp lasts longer than its "
    "spike, so products are not driven by events."
)

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}: {of}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em; color: #222 }}
figure {{ margin: 2.5em 0 }} img {{ width: 100% }} figcaption, dt {{ color: #444 }}
dl {{ display: grid; grid-template-columns: max-content auto; gap: 0 1em }} dd {{ margin: 0; overflow-wrap: anywhere }}
</style>
<h1>{title}</h1>
<dl>
{facts}
</dl>
{figures}
<figure><pre>{cost}</pre><figcaption>{of_cost}</figcaption></figure>
</html>
"""


class View(NamedTuple):
    """A network at work on some samples of a split."""

    net: torch.nn.Module
    untrained: torch.nn.Module | None  # before training
    split: object
    config: dict
    places: list  # numbers of the samples
    x: torch.Tensor  # their input `[T, B, *]`
    targets: torch.Tensor
    y: torch.Tensor  # the network's output
    trace: SimpleNamespace  # of all layers, by `snn.record`
    samples: Callable  # from numbers of samples to (input `[T, B, *]`, targets)
    test: Callable  # from a task to the Result of a pass over the whole split


def view(net, untrained, split, config, generator, test=None, count=SAMPLES):
    """Return a View of some samples, spread over the split, since samples are often sorted by class.

    Args:
        generator: makes the generator of a pass over the split.
        test: from a task to the Result of a test.
    """
    count = min(count, len(split))
    places = [len(split) * n // count for n in range(count)]

    def samples(wanted):
        return _samples(split, config["hyperparameters"]["batch_size"], generator, wanted)

    def output(recorded):
        with torch.no_grad(), recorded as trace:
            return as_configured(net, config, x)[0], trace

    x, targets = samples(places)
    try:
        y, trace = output(record(net.eval()))
        trace.spikes = getattr(trace, "spikes", {})  # a network may have no spiking layer
    except Exception as error:  # layers of one's own, run a step at a time, raise anything
        note(f"pictures leave out what layers do: {error}")
        y, trace = output(nullcontext(SimpleNamespace(spikes={})))
    outermost = spiking_layers(net)  # not those within them
    trace.spikes = {name: of for name, of in trace.spikes.items() if name in outermost}
    return View(net, untrained, split, config, places, x, targets, y, trace, samples, test)


def inspect(seen, task, folder, origin=None):
    """Write the pictures as PNG files and index.html to a folder; return the test Result.

    Args:
        seen: a View of the test split.
        task: what the network was trained for.
        origin: what the page says about where the network is from: a dict of strings, such as its checkpoint.
    """
    result, of_task = task.inspect(seen)
    reported = task.report(seen, folder)
    pictures = of_filters(seen) | of_task | reported | _of_layers(seen, result, task)
    captions = save_pictures(pictures, folder)
    _add_to_board(folder, [name for name in reported if name in captions])
    facts = {"dataset": f"{seen.config['dataset']['name']}, {len(seen.split):,} test samples"}
    if seen.config["states"] == "preserved":
        facts["states"] = "preserved in the test; pictures of layers at work start from zero"
    facts = (origin or {}) | facts | {"on the test set": task.summary(result)}
    _write_page(folder, seen.config["experiment_name"], facts, captions, cost(seen.net, seen.x))
    return result


def of_filters(seen):
    """Return the pictures of a network's synapse filters, as `Task.inspect` returns pictures."""
    from snn.look import filter_plots  # imports matplotlib, which takes a second

    if not filter_plots.synapses(seen.net, seen.net):
        return {}
    pictures = {
        "impulse_responses": (
            lambda: filter_plots.impulse_responses(seen.untrained, seen.net),
            "Each synapse layer's response to a single spike, before and after training. Unstable filters grow out of "
            "the picture.",
        ),
        "coefficients": (
            lambda: filter_plots.coefficients(seen.untrained, seen.net),
            "The learned coefficients of each synapse layer, and the time constants -1 / ln |pole| of its stable "
            "filters; orange is before training. The outermost half percent at either end is drawn at the edge.",
        ),
    }
    if filter_plots.with_poles(seen.net, seen.net):
        pictures["poles"] = (
            lambda: filter_plots.poles(seen.untrained, seen.net),
            "Where training moved the poles of each synapse layer's filters: in the upper half of the unit circle, in "
            "which filters are stable, and by time constant (from half a step on) and frequency. Lines join some poles "
            "before and after. Filters with complex poles ring, once in as many steps as one turn takes. Poles outside "
            "the circle have no time constant.",
        )
    return pictures


def _of_layers(seen, result, task):
    """Return the pictures of a network's layers at work, as `Task.inspect` returns pictures."""
    from snn.look import layer_plots

    pictures, trace = {}, vars(seen.trace)
    sample = {what: {name: value[:, 0] for name, value in by_layer.items()} for what, by_layer in trace.items()}
    if seen.trace.spikes:
        pictures |= {
            "rasters": (
                lambda: layer_plots.rasters(seen.net, sample["spikes"]),
                "Spikes of every layer for the first sample; for a large layer, only its busiest neurons, in order.",
            ),
            "neurons": (
                lambda: layer_plots.neurons(seen.net, sample),
                "A neuron of each layer (with the median number of spikes of those that spike): its states, such as "
                "potential and reset, its threshold, and its spikes.",
            ),
            "firing_rates": (
                lambda: layer_plots.firing_rates(seen.net, result.spikes, result.total, len(seen.x)),
                "Spikes per neuron and step in each layer, over the whole test set and all steps, and the share of "
                "neurons that never spike.",
            ),
        }
    if any(parameter.requires_grad for parameter in seen.net.parameters()):
        pictures["gradients"] = (
            lambda: layer_plots.gradients(seen.net, _gradient_norms(seen, task)),
            "Norm of the loss's gradient over each layer's trained parameters, on the samples shown: where bars of one "
            "colour fall by orders of magnitude towards the input, on the left, it vanishes, and a layer with 0 does "
            "not learn, such as the filters behind silent neurons.",
        )
    return pictures


def _gradient_norms(seen, task):
    """Return the norm of the gradient of the loss on a View's samples, by layer with trained parameters."""
    trained = {name: value for name, value in seen.net.named_parameters() if value.requires_grad}
    loss = task.loss(as_configured(seen.net, seen.config, seen.x)[0], seen.targets)
    gradients = torch.autograd.grad(loss, list(trained.values()), materialize_grads=True)
    return gradient_norms(dict(zip(trained, gradients)))


def report(seen, task, folder):
    """Let a task report on a View to a run's folder, with pictures, also for TensorBoard."""
    _add_to_board(folder, save_pictures(task.report(seen, folder), folder))


def _add_to_board(folder, names):
    """Add saved pictures of these names to a run's TensorBoard files."""
    if names:
        with Board(folder, None) as board:
            board.add_pictures(Path(folder) / f"{name}.png" for name in names)


def save_pictures(pictures, folder):
    """Save each picture as a PNG file; print a note for one that fails. Return the captions of the others, by name.

    Args:
        pictures: by name, a function without arguments that makes the figure, and a caption.
    """
    captions = {}
    for name, (make, caption) in pictures.items():
        try:
            write_picture(Path(folder) / f"{name}.png", make())
        except Exception as error:  # drawing may raise anything; results are worth more than a picture
            note(f"no picture {name}: {' '.join(str(error).split())}")
        else:
            captions[name] = caption
    return captions


def _samples(split, batch_size, generator, wanted):
    """Return the samples of a split with these numbers, as a test sees them: input `[T, B, *]` and targets."""
    found, first, axis = {}, 0, _axis_of_samples(split, generator())
    generator = generator()
    everything = torch.arange(len(split), device=split.device).split(batch_size)  # not this rank's share of it
    for x, targets in split.batches_of(everything, generator):
        for n in wanted:
            if first <= n < first + x.shape[1]:
                place = n - first
                target = targets.select(axis, place)
                found[n] = x[: x.shape[0]][:, place].clone(), target.clone()  # it may be read, not in memory
        first += x.shape[1]
        if len(found) == len(wanted):
            break
    x, targets = zip(*(found[n] for n in wanted))
    return torch.stack(x, 1), torch.stack(targets, axis)


def _axis_of_samples(split, generator):
    """Return which axis of a split's targets is that of samples: the one that a second sample makes longer."""
    one = torch.zeros(1, dtype=torch.long, device=split.device)
    sizes = [targets.shape for _, targets in split.batches_of([one, one.repeat(2)], generator)]
    longer = [axis for axis, (of_one, of_two) in enumerate(zip(*sizes)) if of_one != of_two]
    if len(longer) != 1:
        raise ValueError(f"targets of one sample are {list(sizes[0])}, of two {list(sizes[1])}: one axis is of samples")
    return longer[0]


def _write_page(folder, title, facts, captions, computed):
    """Write index.html: a dict of strings, every picture with its caption, embedded, and a `snn.cost`."""
    figures = "\n".join(
        f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,'
        f'{base64.b64encode((Path(folder) / f"{name}.png").read_bytes()).decode()}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for name, caption in captions.items()
    )
    facts = {name: html.escape(printable(text)) for name, text in facts.items()}
    lines = "\n".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in facts.items())
    table = {"cost": html.escape(str(computed)), "of_cost": COST}
    page = PAGE.format(title=html.escape(title), of="; ".join(facts.values()), facts=lines, figures=figures, **table)
    write_text(Path(folder) / "index.html", page)
