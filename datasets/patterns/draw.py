"""Draw the ten pictures next to this file, 300x300, white on black: python datasets/patterns/draw.py"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon, RegularPolygon
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

LETTERS = "SPIKE"


def letter(axes, text):
    path = TextPath((0, 0), text, size=1, prop={"family": "DejaVu Sans", "weight": "bold"})
    box = path.get_extents()
    scale = 0.7 / box.height
    place = Affine2D().translate(-box.x0 - box.width / 2, -box.y0 - box.height / 2).scale(scale).translate(0.5, 0.5)
    axes.fill(*place.transform_path(path).to_polygons()[0].T, color="white")
    for hole in place.transform_path(path).to_polygons()[1:]:
        axes.fill(*hole.T, color="black")


def ring(axes):
    axes.add_patch(Circle((0.5, 0.5), 0.42, color="white"))
    axes.add_patch(Circle((0.5, 0.5), 0.3, color="black"))


def triangle(axes):
    axes.add_patch(RegularPolygon((0.5, 0.42), 3, radius=0.5, color="white"))
    axes.add_patch(RegularPolygon((0.5, 0.42), 3, radius=0.24, color="black"))


def star(axes):
    angle = np.pi / 2 + np.arange(10) * np.pi / 5
    radius = np.where(np.arange(10) % 2, 0.19, 0.46)
    axes.add_patch(Polygon(0.5 + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1), color="white"))


def spiral(axes):
    angle = np.linspace(0, 5 * np.pi, 400)
    radius = 0.06 + 0.36 * angle / angle[-1]
    axes.plot(0.5 + radius * np.cos(angle), 0.5 + radius * np.sin(angle), color="white", lw=15, solid_capstyle="round")


def wave(axes):
    x = np.linspace(0.06, 0.94, 200)
    for height in (0.28, 0.72):
        axes.plot(x, height + 0.14 * np.sin(3 * np.pi * x), color="white", lw=20, solid_capstyle="round")


def main():
    drawings = {f"letter_{text.lower()}": lambda axes, text=text: letter(axes, text) for text in LETTERS}
    drawings |= {draw.__name__: draw for draw in (ring, triangle, star, spiral, wave)}
    for number, (name, draw) in enumerate(drawings.items()):
        figure = Figure(figsize=(3, 3), dpi=100, facecolor="black")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.axis("off")
        draw(axes)
        figure.savefig(Path(__file__).parent / f"{number}_{name}.png", facecolor="black", metadata={"Software": None})


if __name__ == "__main__":
    main()
