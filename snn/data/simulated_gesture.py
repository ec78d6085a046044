"""Simulated DVS128 Gesture recordings: people who move their arms in front of a simulated event camera.

The files are like those of the real dataset: AEDAT 3.1 with polarity and other packets, label files and trials lists.
A person is two upper arms and two forearms in front of a dark background; each has their own rhythm, size and place.
"""

import math
from typing import NamedTuple

import torch

from snn.data import aedat, camera

SEED = 42
TRAIN, TEST = 9, 3  # subjects
LIGHTS = {"fluorescent": 1.0, "led": 0.7}  # and their brightness
SENSOR = 128  # pixels, each way
CLIP, PAUSE, STEP = 2_000_000, 200_000, 8_000  # microseconds; a pause precedes every clip
CLASSES = (1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 10, 11)  # of a recording's clips
UPPER_ARM, FOREARM, WIDTH = 22.0, 20.0, 4.0  # pixels


class Arm(NamedTuple):
    """How an arm moves: angles in degrees from hanging down, outward; they swing as sin of the gesture's phase."""

    upper: float = 8  # mean of the upper arm's angle
    upper_swing: float = 2
    fore: float = 8  # mean of the forearm's
    fore_swing: float = 2
    lag: float = 0  # cycles by which its swing is behind
    turns: float = 0  # of the whole arm, in a cycle: 1, or -1 for the other way round
    reach: float = 0  # by how much of its length the forearm shortens and grows, a quarter of a cycle later


REST = Arm()
WAVE = Arm(upper=40, upper_swing=4, fore=160, fore_swing=30)
# (right arm, left arm); the person faces the camera, so the right arm is on the left
GESTURES = {
    1: (Arm(20, 6, -60, 32), Arm(20, 6, -60, 32)),  # hand clapping
    2: (WAVE, REST),  # right hand wave
    3: (REST, WAVE),  # left hand wave
    4: (Arm(turns=1), REST),  # right arm clockwise
    5: (Arm(turns=-1), REST),  # right arm counter clockwise
    6: (REST, Arm(turns=-1)),  # left arm clockwise
    7: (REST, Arm(turns=1)),  # left arm counter clockwise
    8: (Arm(35, 4, -90, 22, 0, reach=0.4), Arm(35, 4, -90, 22, 0.5, reach=0.4)),  # arm roll
    9: (Arm(60, 12, 70, 35, 0), Arm(60, 12, 70, 35, 0.5)),  # air drums
    10: (Arm(25, 3, -45, 25), Arm(70, 2, 110, 4, 0.25)),  # air guitar
    11: (Arm(95, 40, 95, 50), Arm(95, 40, 95, 50)),  # other gestures: here, flapping
}


def simulate(lists):
    """Return the number of files, and an iterator over their (name, bytes); `lists` are the trials lists' names."""
    return 2 * (TRAIN + TEST) * len(LIGHTS) + len(lists), _files(lists)


def _files(lists):
    generator = torch.Generator().manual_seed(SEED)
    people = [torch.rand(6, generator=generator) for _ in range(TRAIN + TEST)]
    names = {"train": "", "test": ""}
    rows = "".join(f"{label},{_start(clip)},{_start(clip) + CLIP}\n" for clip, label in enumerate(CLASSES))
    for subject, person in enumerate(people, 1):
        for light, brightness in LIGHTS.items():
            name = f"user{subject:02d}_{light}"
            scenes = camera.film(_scenes(person, brightness, generator), STEP, 0.25, STEP, 0.05, generator)
            yield f"{name}.aedat", aedat.encode(_one_after_the_other(scenes))
            yield f"{name}_labels.csv", f"class,startTime_usec,endTime_usec\n{rows}".encode()
            names["train" if subject <= TRAIN else "test"] += f"{name}.aedat\n"
    for part, list_name in lists.items():
        yield list_name, names[part].encode()


def _start(clip):
    """Return when a clip starts, in microseconds."""
    return clip * (CLIP + PAUSE) + PAUSE


def _one_after_the_other(scenes):
    """Return the events of all clips on one clock."""
    shifted = [scene._replace(time=scene.time + _start(clip)) for clip, scene in enumerate(scenes)]
    return camera.Events(*(torch.cat(column) for column in zip(*shifted)))


def _scenes(person, brightness, generator):
    """Yield, for each step, what the camera sees of a person's gestures: intensities `[12, x, y]`."""
    size, centre_x, centre_y, speed, sleeves, wildness = (2 * person - 1).tolist()  # -1 to 1
    scale = 1 + 0.1 * size
    phase, tempo, sway = torch.rand(3, len(CLASSES), generator=generator)
    frequency = 1.2 * (1 + 0.2 * speed + 0.1 * (2 * tempo - 1))  # [12] Hz
    arms = [torch.tensor([GESTURES[label][side] for label in CLASSES]).T for side in (0, 1)]  # each [fields, 12]
    axis = torch.arange(SENSOR, dtype=torch.float32)
    x, y = axis[:, None], axis[None, :]
    for step in range(CLIP // STEP + 1):
        cycles = phase + frequency * step * STEP * 1e-6
        body_x = 64 + 6 * centre_x + torch.sin(math.tau * (0.4 * cycles + sway))  # [12]
        body_y = torch.full_like(body_x, 58 + 6 * centre_y)
        light = torch.zeros(len(CLASSES), SENSOR, SENSOR)
        for outward, arm in zip((-1, 1), arms):
            upper, upper_swing, fore, fore_swing, lag, turns, reach = arm
            swing = (1 + 0.2 * wildness) * torch.sin(math.tau * (cycles + lag))
            turned = turns * cycles * 360
            turning = turns != 0
            upper = torch.where(turning, turned, upper + upper_swing * swing).deg2rad()
            fore = torch.where(turning, turned, fore + fore_swing * swing).deg2rad()
            length = scale * FOREARM * (1 - reach * (0.5 + 0.5 * torch.cos(math.tau * (cycles + lag))))
            shoulder = body_x + outward * 15 * scale, body_y
            elbow = _end(shoulder, outward, upper, scale * UPPER_ARM)
            hand = _end(elbow, outward, fore, length)
            light = light.maximum(_limb(x, y, shoulder, elbow, scale * WIDTH))
            light = light.maximum(_limb(x, y, elbow, hand, scale * WIDTH))
        yield 0.1 + brightness * (0.15 + (0.6 + 0.2 * sleeves) * light)


def _end(start, outward, angle, length):
    """Return where a limb ends; an angle of 0 hangs down, y grows downward."""
    return start[0] + outward * length * torch.sin(angle), start[1] + length * torch.cos(angle)


def _limb(x, y, start, end, width):
    """Return how much of each pixel a limb from `start` to `end` covers, `[12, x, y]`, from 1 to 0 over two pixels."""
    (x0, y0), (x1, y1) = ([c[:, None, None] for c in point] for point in (start, end))
    dx, dy = x1 - x0, y1 - y0
    along = (((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy)).clamp_(0, 1)
    distance = ((x - x0 - along * dx).square_() + (y - y0 - along * dy).square_()).sqrt_()
    return ((width + 1 - distance) / 2).clamp_(0, 1)
