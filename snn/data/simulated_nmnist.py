"""Simulated N-MNIST recordings: the embedded digits in front of a simulated event camera, in N-MNIST's file format."""

import torch
import torch.nn.functional as F

from snn.data import camera, digits

SEED = 42
TRAIN, TEST = 700, 200  # recordings
SENSOR = 34  # pixels, each way
SACCADE = 100  # milliseconds; a recording has three
CORNERS = torch.tensor([[-2.5, -2.5], [0.0, 2.5], [2.5, -2.5], [-2.5, -2.5]])  # pixels; from one to the next
BATCH = 100


def simulate():
    """Return the number of files, and an iterator over their (path, bytes): Train/<digit>/<number>.bin, and Test/..."""
    return TRAIN + TEST, _files()


def _files():
    generator = torch.Generator().manual_seed(SEED)
    for part, (images, labels), count in zip(("Train", "Test"), digits.read(), (TRAIN, TEST)):
        batches = (_saccades(batch, generator) for batch in images[:count].split(BATCH))
        filmed = (events for frames in batches for events in camera.film(frames, 1000, 0.3, 2000, 1, generator))
        for number, (events, digit) in enumerate(zip(filmed, labels.tolist())):
            yield f"{part}/{digit}/{number:05d}.bin", encode(events)


def encode(events):
    """Return the events in N-MNIST's format: x, y, 1 bit of polarity, 23 bits of microseconds, big-endian."""
    last = events.polarity << 23 | events.time
    rows = [events.x, events.y, last >> 16, last >> 8 & 255, last & 255]
    return torch.stack(rows, 1).to(torch.uint8).numpy().tobytes()


def _saccades(images, generator):
    """Yield, for each millisecond, what the camera sees of images `[B, 28, 28]`: intensities `[B, x, y]`."""
    margin = (SENSOR - images.shape[1]) // 2
    scene = F.pad(images.float() / 255, (margin,) * 4).transpose(1, 2)[:, None]  # x before y
    start = torch.rand(len(images), 2, generator=generator) * 2 - 1  # pixels
    for millisecond in range(3 * SACCADE):
        saccade, way = millisecond // SACCADE, millisecond % SACCADE / SACCADE
        shift = start + CORNERS[saccade].lerp(CORNERS[saccade + 1], way)  # [B, 2]: x, y
        yield 0.15 + _shifted(scene, shift)[:, 0]


def _shifted(scene, shift):
    """Return images `[B, 1, x, y]` moved by `shift` pixels `[B, 2]`, fractions included."""
    matrix = torch.eye(2, 3).repeat(len(scene), 1, 1)
    matrix[:, :, 2] = -2 * shift.flip(1) / SENSOR  # grid_sample's first coordinate is the last dimension, here y
    grid = F.affine_grid(matrix, list(scene.shape), align_corners=False)
    return F.grid_sample(scene, grid, align_corners=False)
