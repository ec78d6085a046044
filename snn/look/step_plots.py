"""Pictures of answers to every time step."""

from matplotlib import colormaps
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from snn.look.plots import WIDTH, draw_trains


def steps(x, classes, y, names):
    """Draw for each sample its input over time, then the class and the answer of each step, as coloured bands.

    Args:
        x: input `[T, B, lines]`.
        classes: of each step, `[T, B]`.
        y: output `[T, B, classes]`; the highest is the answer.
        names: of the classes, a list.
    """
    count, number = x.shape[1], y.shape[2]
    figure = Figure(figsize=(WIDTH, 1.9 * count + 0.5), layout="constrained")
    axes = figure.subplots(2 * count, 1, squeeze=False, sharex=True, height_ratios=[2, 1] * count)[:, 0]
    several = colormaps["tab10"].colors if number <= 10 else colormaps["turbo"].resampled(number)(range(number))
    colors = ListedColormap(several[:number])
    for n, (spikes, bands) in enumerate(zip(axes[::2], axes[1::2])):
        draw_trains(spikes, x[:, n])
        spikes.set_ylabel("input line")
        both = [classes[:, n].tolist(), y[:, n].argmax(1).tolist()]
        bands.imshow(both, cmap=colors, vmin=-0.5, vmax=number - 0.5, aspect="auto", interpolation="nearest")
        right = (classes[:, n] == y[:, n].argmax(1)).double().mean()
        bands.set_yticks([0, 1], ["class", f"answer,\n{right:.0%} right"], fontsize=8)
    axes[-1].set_xlabel("time step")
    for label, name in enumerate(names):
        axes[0].plot([], [], "s", color=colors(label), label=f"class {name}")
    figure.legend(loc="outside upper right", ncols=min(number, 10), fontsize=8, frameon=False)
    return figure
