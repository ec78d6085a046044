"""The learning curves of an experiment's runs, as a matplotlib figure."""

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from snn.look.plots import BLUE, GREEN, ORANGE, literal

LABELLED = 20  # runs of a search with a line of their own in the legend


def learning_curves(name, runs, key, published, labels):
    """Draw an experiment's runs over the epochs, and the published figures.

    Of runs with the same settings, train and dev are drawn; of a search, dev in a colour for each choice of settings.

    Args:
        runs: each a `snn.report.Run`, all with the same metric, the best first.
        key: the metric, such as "acc" or "loss".
        published: a `snn.report.Published`, or None.
        labels: how each run's settings differ from the others'; empty strings if they do not.
    """
    choices = list(dict.fromkeys(labels))
    search, named = len(choices) > 1, choices[:LABELLED]
    colors = dict(zip(named, colormaps["viridis"](np.linspace(0, 0.9, len(named)))))
    figure = Figure(figsize=(7, 4 + 0.2 * (len(named) - 1)), layout="constrained")
    axis = figure.subplots()
    for run, label in reversed(list(zip(runs, labels))):  # the best on top
        epochs = [entry["epoch"] for entry in run.metrics]
        color = colors.get(label, "lightgray") if search else ORANGE
        for part, of_part in ({"dev": color} if search else {"train": GREEN, "dev": BLUE}).items():
            values = [entry[f"{part}_{key}"] for entry in run.metrics]
            marker = "." if len(epochs) < 30 else None
            axis.plot(epochs, values, color=of_part, lw=1.5, marker=marker, label="" if search else part)
        if "test" in run.result:
            epoch, test = run.result["best_epoch"], run.result["test"]
            which = "best epoch on dev" if run.is_best_on_dev else "epoch that was kept"
            axis.plot(epoch, test, "*", ms=12, color=color, label=f"test, at the {which}")
    if published and key == published.metric:
        for value, style, color, part in (published.dev, ":", BLUE, "dev"), (published.test, "--", ORANGE, "test"):
            axis.axhline(value, color=color, lw=1, ls=style)
            axis.plot(published.epoch, value, "x", color=color, label=f"published {part}, {value:.4g}")
    axis.set_xlabel("epoch")
    axis.set_title(name, parse_math=False)
    axis.grid(alpha=0.3)
    _scale(axis, runs, key, search)
    handles, names = axis.get_legend_handles_labels()
    if names:
        unique = dict(zip(names, handles))  # several runs have the same
        place = "lower right" if runs[0].highest_is_best else "upper right"  # where curves that improve don't end
        axis.legend(unique.values(), unique, fontsize=8, loc=place)
    if search:
        lines = [Line2D([], [], color=color, label=literal(label)) for label, color in colors.items()]
        others = f"; gray: {len(choices) - len(named)} others" if len(choices) > len(named) else ""
        place = {"loc": "outside lower left", "alignment": "left", "frameon": False}
        figure.legend(handles=lines, title=f"dev, the best first{others}", fontsize=7, title_fontsize=8, **place)
    return figure


def _scale(axis, runs, key, search):
    """Set the limits and the label of the axis of a metric."""
    if key == "acc":
        axis.set_ylabel("dev accuracy (%)" if search else "accuracy (%)")
        floor = np.percentile([entry["dev_acc"] for run in runs for entry in run.metrics], 10)
        points = [line.get_ydata()[0] for line in axis.lines if len(line.get_ydata()) == 1]  # test, published
        lowest = min([2 * min(floor, 99) - 100, *(point - 1 for point in points)])
        axis.set_ylim(max(0, lowest if floor > 50 else 0), 100.2)
    else:
        axis.set_ylabel(f"dev {key}" if search else key, parse_math=False)
        has_no_logarithm = any(value <= 0 for line in axis.lines for value in line.get_ydata())
        axis.set_yscale("log" if key == "loss" and not has_no_logarithm else "linear")
