"""Random crops and rotations of a whole batch of images at once, each image with its own parameters.

The distribution is that of torchvision's RandomApply([crop, rotate, crop, rotate], p) with RandomResizedCrop and
RandomRotation applied image by image; for the same parameters, the pixels are the same too.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F

from snn.base.keys import Key, choice, fraction, list_of, number, positive


def _interpolation(value):
    """Accept Pillow's constants too, as the published configs write them: `PIL.Image.BILINEAR`, `2`."""
    name = str(value).rsplit(".")[-1].lower()
    return choice("bilinear", "nearest")({"0": "nearest", "2": "bilinear"}.get(name, name))


def _image_size(value):
    if value not in (28, [28, 28]):
        raise ValueError("[28, 28], the size of the images")
    return [28, 28]


_scale = list_of(
    positive, "[smallest, largest] share of the area, at most 1", lambda v: len(v) == 2 and v[0] <= v[1] <= 1
)
_ratio = list_of(
    positive, "[smallest, largest] ratio of width to height, 0.01 to 100",
    lambda v: len(v) == 2 and 0.01 <= v[0] <= v[1] <= 100,
)  # fmt: skip
_angle = number("a number of degrees, 0 to 180", lambda v: 0 <= v <= 180)

_key = partial(Key, unread={"mnist_config.use_transform": [False]})
KEYS = {  # with this probability: crop, rotate, crop, rotate
    "RandomApply": {"probability": _key(0.5, fraction, "probability that an image is cropped and rotated, twice")},
    "RandomResizedCrop": {
        "size": _key([28, 28], _image_size, "size of the images"),
        "scale": _key([0.85, 1.0], _scale, "smallest and largest share of the area"),
        "ratio": _key([0.75, 4 / 3], _ratio, "smallest and largest ratio of width to height"),
        "interpolation": _key("bilinear", _interpolation, "bilinear or nearest"),
    },
    "RandomRotation": {"angle": _key(15, _angle, "largest angle, in degrees")},
}
CROP_ATTEMPTS = 10  # boxes that RandomResizedCrop tries before it takes the whole image


class RandomAugment:
    """Crop, rotate, crop and rotate each image with the given probability; otherwise leave it unchanged.

    Args:
        transform: the config's `transform` section: RandomApply {probability}, RandomResizedCrop {scale, ratio,
            interpolation}, RandomRotation {angle (degrees)}.

    Shape: images `[B, H, W]`, float, 0 to 255 -> the same; crops are rounded to whole values, as uint8 images are.
    """

    def __init__(self, transform):
        self.probability = transform["RandomApply"]["probability"]
        crop = transform["RandomResizedCrop"]
        self.scale, self.ratio, self.interpolation = crop["scale"], crop["ratio"], crop["interpolation"]
        self.angle = transform["RandomRotation"]["angle"]

    def __call__(self, images, generator):
        chosen = torch.rand(len(images), generator=generator, device=images.device) < self.probability
        if not len(images) or (not images.is_cuda and not chosen.any()):
            return images
        if images.is_cuda:  # selecting the chosen images would wait for the device
            return torch.where(chosen[:, None, None], self._crop_and_rotate_twice(images, generator), images)
        images[chosen] = self._crop_and_rotate_twice(images[chosen], generator)
        return images

    def _crop_and_rotate_twice(self, images, generator):
        for _ in range(2):
            boxes = random_crop_boxes(images, self.scale, self.ratio, generator)
            images = resized_crop(images, *boxes, self.interpolation)
            uniform = torch.rand(len(images), generator=generator, device=images.device)
            images = rotate(images, (2 * uniform - 1) * self.angle)
        return images


def random_crop_boxes(images, scale, ratio, generator):
    """Return boxes (top, left, height, width), each `[B]`, drawn as RandomResizedCrop draws them.

    A box's area is uniform in `scale` (share of the image), the logarithm of width / height uniform in `ratio`. The
    first of ten tries that fits is used, else the largest central box with an allowed ratio.
    """
    batch, rows, columns = images.shape
    uniform = torch.rand(4, batch, CROP_ATTEMPTS, generator=generator, device=images.device)
    area = rows * columns * (scale[0] + (scale[1] - scale[0]) * uniform[0])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(low + (high - low) * uniform[1])
    width, height = torch.sqrt(area * aspect).round(), torch.sqrt(area / aspect).round()
    top = ((rows - height + 1) * uniform[2]).floor()
    left = ((columns - width + 1) * uniform[3]).floor()
    fits = (width > 0) & (width <= columns) & (height > 0) & (height <= rows)

    full_width = min(columns, round(rows * ratio[1]))
    full_height = min(rows, round(columns / ratio[0]))
    fallback = ((rows - full_height) // 2, (columns - full_width) // 2, full_height, full_width)
    first = fits.int().argmax(1, keepdim=True)
    none_fits = ~fits.any(1)
    return [
        box.gather(1, first).squeeze(1).masked_fill(none_fits, whole)
        for box, whole in zip((top, left, height, width), fallback)
    ]


def resized_crop(images, top, left, height, width, interpolation="bilinear"):
    """Return each image's box, enlarged to the size of the images. Images `[B, H, W]`, box `[B]` each."""
    rows, columns = images.shape[1:]
    y = _source_pixels(rows, top, height, interpolation)
    x = _source_pixels(columns, left, width, interpolation)
    grid = torch.stack(torch.broadcast_tensors(_normalised(x, columns)[:, None], _normalised(y, rows)[:, :, None]), -1)
    return _sample(images, grid, interpolation).round_()


def rotate(images, angle):
    """Return each image rotated about its centre by its angle (degrees, counter-clockwise), nearest pixel, 0 outside.

    Images `[B, H, W]`, angle `[B]`.
    """
    rows, columns = images.shape[1:]
    angle = torch.deg2rad(angle)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # Maps a position in the result to its source; all sides run from -1 to 1, hence their ratio.
    matrix = torch.stack([cos, -sin * rows / columns, zero, sin * columns / rows, cos, zero], 1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, [len(images), 1, rows, columns], align_corners=False)
    return _sample(images, grid, "nearest")


def _source_pixels(size, start, extent, interpolation):
    """Return where each of `size` pixels of the result is read in the image, `[B, size]`, within the box."""
    position = (torch.arange(size, device=start.device) + 0.5) * (extent[:, None] / size)
    if interpolation == "nearest":
        return start[:, None] + position.floor()
    return start[:, None] + torch.minimum((position - 0.5).clamp(min=0), extent[:, None] - 1)


def _normalised(pixel, size):
    """Return pixel numbers in grid_sample's coordinates: -1 and 1 are the outer edges of the first and last pixel."""
    return (2 * pixel + 1) / size - 1


def _sample(images, grid, mode):
    return F.grid_sample(images[:, None], grid, mode, "zeros", align_corners=False)[:, 0]
