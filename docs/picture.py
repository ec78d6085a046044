"""Draw the README's picture, docs/digit.png: how the network of `python snn_mlp_1.py --demo` reads one digit.

python docs/picture.py          after `python snn_mlp_1.py --demo`; needs matplotlib
"""

import sys
from pathlib import Path

import matplotlib
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import snn_mlp_1  # noqa: E402
from snn import checkpoint  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

SAMPLE, NEURONS = 3, 100  # a test digit; how many neurons of each hidden layer are drawn
SYNAPSE, HIDDEN_1, HIDDEN_2, OUTPUT = 0, 2, 6, 10  # places in the network
BLUE, ORANGE = "#0072b2", "#d55e00"


def main():
    saved = checkpoint.load(ROOT / "checkpoint" / "snn_mlp_1-demo" / "best.pt")
    net = snn_mlp_1.network(saved["config"]).eval()
    net.load_state_dict(saved["model"])
    split = snn_mlp_1.data(saved["config"], torch.device("cpu"))[0]["test"]
    x, labels = next(split.batches(SAMPLE + 1, torch.Generator()))
    seen = {}
    for place in (HIDDEN_1, HIDDEN_2, OUTPUT):
        net[place].register_forward_hook(lambda _, __, out, place=place: seen.update({place: out[0][:, SAMPLE]}))
    with torch.no_grad():
        net(x)

    figure, axes = plt.subplots(1, 5, figsize=(12, 2.9), layout="constrained", width_ratios=[1, 1.3, 1.5, 1.5, 1.3])
    image, filters, hidden_1, hidden_2, output = axes
    image.imshow(split.images[SAMPLE], cmap="gray_r")
    image.set(title="a pixel's value\nat every step", xticks=[], yticks=[])
    draw_filters(filters, snn_mlp_1.network(saved["config"])[SYNAPSE], net[SYNAPSE], x[0, SAMPLE])
    for axis, place, name in ((hidden_1, HIDDEN_1, "first"), (hidden_2, HIDDEN_2, "second")):
        steps, neurons = seen[place][:, :NEURONS].nonzero(as_tuple=True)
        axis.scatter(steps + 1, neurons, s=3, color="black", marker="|")
        axis.set(title=f"spikes of the {name}\nhidden layer", xlabel="time step", ylabel="neuron")
        axis.set(xlim=(0, len(x) + 1), ylim=(-1, NEURONS))
    counts = seen[OUTPUT].sum(0)
    output.barh(range(10), counts, color=[ORANGE if i == counts.argmax() else "silver" for i in range(10)])
    output.set(title=f"output spikes:\nit reads {counts.argmax()}", xlabel="spikes", ylabel="digit", yticks=range(10))
    print(f"label {labels[SAMPLE]}, output spikes {counts.int().tolist()}")
    figure.savefig(ROOT / "docs" / "digit.png", dpi=110)


def draw_filters(axis, before, after, image):
    """Impulse responses of one synapse layer's filters, of pixels that are not blank: at first, and trained."""
    impulse = torch.zeros(20, 1, image.numel())
    impulse[0] = 1
    with torch.no_grad():
        start, trained = before(impulse)[0][:, 0], after(impulse)[0][:, 0]
    steps = range(1, len(impulse) + 1)
    for pixel in image.argsort(descending=True)[:60:3]:
        axis.plot(steps, trained[:, pixel], color=BLUE, linewidth=0.6, alpha=0.6)
    axis.plot([], [], color=BLUE, label="trained")
    axis.plot(steps, start[:, 0], color=ORANGE, linewidth=2, label="at the start")
    axis.set(title="its synapse's\nimpulse response", xlabel="time step", ylabel="psp")
    axis.legend(frameon=False)


if __name__ == "__main__":
    main()
