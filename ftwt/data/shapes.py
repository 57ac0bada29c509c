"""The embedded data set: ten figures, drawn by the library itself from a seed.

Every image has one figure, turned, moved and scaled at random, on a textured background, among
blobs and lines of other colours, under changing contrast and noise. Colour says nothing about the
class, and no pixel does by itself: a linear classifier stays far below a small convolutional
network.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from ftwt.data.figures import FIGURES, Field, box, length
from ftwt.data.images import Images
from ftwt.data.streams import seeds

CLASSES = tuple(FIGURES)
TRAIN_COUNT, TEST_COUNT = 8_000, 2_000

# Images drawn at once: small enough for the cache, and the unit that random numbers are drawn for.
_CHUNK = 100

ShapePicture = Float32[np.ndarray, "B 3 H W"]
PerImage = Float32[np.ndarray, "B 1 1"]
Colour = Float32[np.ndarray, "B 3 1 1"]
Values = Float32[np.ndarray, "..."]
Uniform = Callable[..., Float32[np.ndarray, "B *S 1 1"]]


def render_shapes(
    count: int,
    *key: int,
    size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> Images:
    """Draw `count` images; labels go round the ten classes.

    Args:
        count: number of images; fewer are a prefix of more.
        key: whole numbers that choose the random stream, e.g. a seed and the number of the split.
        size: side of the images in pixels.
        progress: called with the number of images drawn so far.
    """
    labels = torch.arange(count) % len(CLASSES)
    pixels = torch.empty((count, 3, size, size), dtype=torch.uint8)
    for start in range(0, count, _CHUNK):
        part = pixels[start : start + _CHUNK]
        generator = np.random.default_rng(seeds(*key, start))
        part.copy_(torch.from_numpy(_draw(generator, size))[: len(part)])
        if progress is not None:
            progress(start + len(part))
    return Images(pixels, labels)


def _draw(generator: np.random.Generator, size: int) -> UInt8[np.ndarray, "B 3 S S"]:
    """Draw one chunk; its labels go round the classes."""

    def uniform(low: float, high: float, *shape: int) -> Float32[np.ndarray, "B *S 1 1"]:
        # (B, *shape, 1, 1), to be spread over the pixels.
        draw = generator.random((_CHUNK, *shape, 1, 1), dtype=np.float32)
        return low + (high - low) * draw

    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    x = np.broadcast_to(axis, (_CHUNK, size, size))
    y = np.broadcast_to(axis[:, None], (_CHUNK, size, size))

    ground = uniform(0.0, 1.0, 3)
    # Round the colour circle by at least 0.3 in every channel: never the colour of the ground.
    paint = _fraction(ground + uniform(0.3, 0.7, 3))
    picture = _texture(ground, x, y, uniform)
    for _ in range(3):
        picture = _blend(picture, uniform(0.0, 1.0, 3), _blob(x, y, uniform), size)
    picture = _blend(picture, _texture(paint, x, y, uniform), _figure(x, y, uniform), size)
    for _ in range(2):
        picture = _blend(picture, uniform(0.0, 1.0, 3), _line(x, y, uniform), size)

    picture = (picture - 0.5) * uniform(0.5, 1.1, 1) + 0.5 + uniform(-0.12, 0.12, 1)
    # Sums of uniform numbers are close to normal, and the same bits on every machine.
    noise = generator.random((3, *picture.shape), dtype=np.float32)
    picture = picture + (noise[0] + noise[1] + noise[2] - 1.5) * uniform(0.02, 0.16, 1)
    pixels: UInt8[np.ndarray, "B 3 S S"] = np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)
    return pixels


def _figure(x: Field, y: Field, uniform: Uniform) -> Field:
    """Distance to the figure of each image's class, at a random place, angle and scale."""
    radius = uniform(0.42, 0.78)
    x, y = x - uniform(-0.3, 0.3), y - uniform(-0.3, 0.3)
    x, y = _turn(x, y, uniform(-math.pi, math.pi))
    x, y = x / radius, y / radius
    distance = np.empty_like(x)
    for label, figure in enumerate(FIGURES.values()):
        mine = slice(label, None, len(FIGURES))
        distance[mine] = figure(x[mine], y[mine])
    return distance * radius


def _blob(x: Field, y: Field, uniform: Uniform) -> Field:
    """Distance to a small disk."""
    return length(x - uniform(-1.0, 1.0), y - uniform(-1.0, 1.0)) - uniform(0.06, 0.18)


def _line(x: Field, y: Field, uniform: Uniform) -> Field:
    """Distance to a short thin line."""
    x, y = x - uniform(-0.9, 0.9), y - uniform(-0.9, 0.9)
    x, y = _turn(x, y, uniform(-math.pi, math.pi))
    return box(x, y, 0.35, 0.035)


def _texture(colour: Colour, x: Field, y: Field, uniform: Uniform) -> ShapePicture:
    """Colour that changes along one direction and has stripes along another."""
    along, _ = _turn(x, y, uniform(-math.pi, math.pi))
    across, _ = _turn(x, y, uniform(-math.pi, math.pi))
    wave = np.abs(_fraction(across * uniform(0.8, 2.5) + uniform(0.0, 1.0)) - 0.5) * 4 - 1
    gradient = along[:, None] * uniform(-0.2, 0.2, 3)
    texture: ShapePicture = colour + gradient + wave[:, None] * uniform(-0.12, 0.12, 1)
    return texture


def _fraction(value: Values) -> Values:
    fraction: Values = value - np.floor(value)
    return fraction


def _turn(x: Field, y: Field, angle: PerImage) -> tuple[Field, Field]:
    # In double precision, so that rounding to single hides how a machine computes sines.
    wide = angle.astype(np.float64)
    cos, sin = np.cos(wide).astype(np.float32), np.sin(wide).astype(np.float32)
    return x * cos + y * sin, y * cos - x * sin


def _blend(
    picture: ShapePicture, paint: ShapePicture | Colour, distance: Field, size: int
) -> ShapePicture:
    """Paint over where the distance is negative, with an edge one pixel wide."""
    cover = np.clip(0.5 - distance * (size / 2), 0, 1)[:, None]
    covered: ShapePicture = picture + cover * (paint - picture)
    return covered
