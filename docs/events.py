"""Draw docs/events.png: events of a simulated N-MNIST digit and of simulated gestures.

python docs/events.py          after the --demo of snn_conv_1_nmnist.py and snn_conv_1_gesture.py; needs matplotlib
"""

import sys
from pathlib import Path

import matplotlib

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from snn.data import gesture, nmnist  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

DEMO = Path("data/demo")
GESTURES = {1: "hand clap", 3: "left hand wave", 4: "right arm clockwise", 9: "air drums"}
SHOWN = 0.15  # seconds of a gesture
BLUE, ORANGE = "#0072b2", "#d55e00"


def main():
    figure, axes = plt.subplots(1, 5, figsize=(12, 2.9), layout="constrained")
    (_, digit), *_ = nmnist.recordings(DEMO / "nmnist")[1]
    draw(axes[0], digit, 0, 0.03, 34, f"digit {digit.label}")
    clips = {clip.label + 1: clip for _, clip in gesture.recordings(DEMO / "gesture")[1] if clip.subject == "user01"}
    for axis, (label, name) in zip(axes[1:], GESTURES.items()):
        draw(axis, clips[label], 0.5, 0.5 + SHOWN, 128, name)
    axes[0].legend(
        handles=[plt.Line2D([], [], marker="s", ls="", color=color) for color in (ORANGE, BLUE)],
        labels=["brighter", "darker"], loc="upper center", bbox_to_anchor=(0.5, 1.4), ncols=2, fontsize=8,
        frameon=False,
    )  # fmt: skip
    target = ROOT / "docs" / "events.png"
    figure.savefig(target, dpi=110)
    print(target)


def draw(axis, recording, start, end, size, title):
    """The events between `start` and `end` seconds, later ones over earlier ones."""
    seconds = (recording.time - recording.time.min()) * 1e-6
    shown = (seconds >= start) & (seconds < end)
    colors = [ORANGE if polarity else BLUE for polarity in recording.polarity[shown]]
    axis.scatter(recording.x[shown], recording.y[shown], c=colors, s=(160 / size) ** 2, marker="s", linewidths=0)
    ends = [0, size - 1]
    axis.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal", xticks=ends, yticks=ends)
    axis.set_title(f"{title}, {1000 * (end - start):.0f} ms", fontsize=10)
    axis.set_xlabel("x (pixels)")
    axis.set_ylabel("y (pixels)")


if __name__ == "__main__":
    main()
