"""--inspect: pictures of what a trained network does with a few test samples, and one page that shows them all."""

import base64
import html
from pathlib import Path

import torch

from snn.base.files import written_beside
from snn.data import patterns
from snn.look import plots
from snn.look.recorder import record
from snn.run import training
from snn.run.loop import CLASSIFICATION, Task

SAMPLES = 4  # test samples that are looked at
MISTAKES = 10  # that are shown at most

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em; color: #222 }}
figure {{ margin: 2.5em 0 }} img {{ max-width: 100%; height: auto }} figcaption {{ color: #444 }}
</style>
<h1>{title}</h1><p>{text}</p>
{figures}
</html>
"""


def inspect(net, untrained, splits, config, task, folder, report=None):
    """Leave the pictures as PNG files and index.html in a folder; gives the test Result.

    Args:
        net, untrained: the network as it is tested, and as it was before training.
        splits: by name; "test" is looked at.
        report: an experiment's own pictures: called as in `snn.run.cli.main`, gives their captions by name.
    """
    folder, split = Path(folder), splits["test"]
    count = min(SAMPLES, len(split))
    places = [len(split) * n // count for n in range(count)]  # apart, since they are often sorted by class
    x, targets, y, trace = _look(net, split, config, places)
    sample = {part: {name: value[:, 0] for name, value in getattr(trace, part).items()} for part in vars(trace)}
    captions = dict(report(net, splits, config, folder)) if report else {}
    pictures = {}
    if task is CLASSIFICATION:
        result, predictions, labels, margins = _test(net, split, config)
        pictures["overview"] = (
            plots.overview(untrained, net, x[:, 0], y[:, 0], int(targets[0]), sample["spikes"]),
            "A test sample's way through the network.",
        )
        pictures["samples"] = (
            plots.samples(x, y, targets),
            "Test samples: the input over all steps, the encoded spikes or values of its busiest lines, and how often "
            "each output neuron spikes; the class with the most spikes is the answer (blue if right, orange if wrong).",
        )  # fmt: skip
        if x.dim() == 5 and x.shape[2] == 2:
            pictures["events"] = (
                plots.event_windows(x[:, 0]), "Events of the first sample, in windows of its time: brighter, darker."
            )  # fmt: skip
    else:
        result = training.test(net, split, config, task)
    pictures["rasters"] = (
        plots.rasters(sample["spikes"]),
        "Spikes of every layer for the first sample; of a large layer, its busiest neurons, in their order.",
    )
    pictures["neurons"] = (
        plots.neurons(sample),
        "A neuron of each layer (of those that spike, the one with the median number): potential, threshold, spikes, "
        "and the reset that its own spikes leave behind.",
    )
    pictures["firing_rates"] = (
        plots.firing_rates(result.spikes, result.total, len(x)),
        "Spikes a neuron and step in each layer, over the whole test set, and the share of neurons that never spike.",
    )
    pictures["impulse_responses"] = (
        plots.impulse_responses(untrained, net),
        "What each synapse layer makes of a single spike, before and after training.",
    )
    pictures["coefficients"] = (
        plots.coefficients(untrained, net),
        "The learned coefficients of each synapse layer, and the time constants -1 / ln |pole| that they stand for; "
        "the line is where all of them began. Both ends are the outermost half percent.",
    )
    if task is CLASSIFICATION:
        pictures["confusion"] = (plots.confusion(labels, predictions), "Test samples by class and answer.")
        wrong = [n for n in margins.argsort().tolist() if predictions[n] != labels[n]][:MISTAKES]
        if wrong:
            pictures["mistakes"] = (
                plots.mistakes(
                    _samples(split, config, x.device, wrong)[0], [(labels[n], predictions[n]) for n in wrong]
                ),
                "The worst mistakes: those where the right class has the fewest spikes against the answer.",
            )
    for name, (figure, caption) in pictures.items():
        if name in captions:  # the experiment's own report has made it
            continue
        with written_beside(folder / f"{name}.png") as file:
            figure.savefig(file, format="png", dpi=100)
        captions[name] = caption
    _write_page(folder, config["experiment_name"], f"On the test set: {result}.", captions)
    return result


def sample(net, split, config, task):
    """A name and a picture for TensorBoard: what the network does with one sample, or its recall of one."""
    x, targets, y, trace = _look(net, split, config, [0])
    if task is CLASSIFICATION:
        return "spikes", plots.rasters({name: spikes[:, 0] for name, spikes in trace.spikes.items()})
    target = patterns.delayed(split.patterns[:1], config["dataset"]["delay"]).transpose(0, 1)
    return "recall", plots.recall(x, target, list(trace.spikes.values())[-1])


def _look(net, split, config, places):
    """Some samples of a split: input `[T, B, *]`, targets, output, and the trace of all layers."""
    x, targets = _samples(split, config, next(net.parameters()).device, places)
    with torch.no_grad(), record(net.eval()) as trace:
        y = net(x)[0]
    return x, targets, y, trace


def _test(net, split, config):
    """The test Result; of each sample the answer, the label, and the output spikes of the label less the answer's."""
    answers, labels, margins = [], [], []

    def correct(spikes, targets):
        counts = spikes.sum(0)
        best, answer = counts.max(1)
        answers.append(answer.cpu())
        labels.append(targets.cpu())
        margins.append((counts.gather(1, targets[:, None])[:, 0] - best).cpu())
        return (answer == targets).sum()

    result = training.test(net, split, config, Task(CLASSIFICATION.loss, correct))
    return result, *(torch.cat(values) for values in (answers, labels, margins))


def _samples(split, config, device, wanted):
    """The samples of a split with these numbers, as a test sees them: input `[T, B, *]` and targets."""
    found, first = {}, 0
    generator = training.data_generator(device, config)
    for x, targets in split.batches(config["hyperparameters"]["batch_size"], generator):
        for n in wanted:
            if first <= n < first + x.shape[1]:
                place = n - first
                target = targets[place] if targets.dim() == 1 else targets[:, place]
                found[n] = x[:, place].clone(), target.clone()
        first += x.shape[1]
        if len(found) == len(wanted):
            break
    x, targets = zip(*(found[n] for n in wanted))
    return torch.stack(x, 1), torch.stack(targets, min(1, targets[0].dim()))


def _write_page(folder, title, text, captions):
    """index.html: every picture with its caption, in the file itself."""
    figures = "\n".join(
        f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,'
        f'{base64.b64encode((folder / f"{name}.png").read_bytes()).decode()}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for name, caption in captions.items()
    )
    page = PAGE.format(title=html.escape(title), text=html.escape(text), figures=figures)
    with written_beside(folder / "index.html") as file:
        file.write(page.encode())
