"""The figures of the `shapes` data set, as signed distances.

Each function takes coordinates in a figure's own frame, where it fits about the unit circle, and
returns the distance to its edge, negative inside. Distances are exact near the edge, which is all
that antialiasing needs. The formulas follow Inigo Quilez, "2D distance functions",
https://iquilezles.org/articles/distfunctions2d/.

Only operations that IEEE 754 rounds exactly are used on pixels (no sines, no exponentials), so
that a seed gives the same bits on every machine. NumPy rather than torch for the same reason, and
because threads that wait for each other would cost more than they bring on arrays this small.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

Field = Float32[np.ndarray, "B H W"]
Figure = Callable[[Field, Field], Field]


def length(x: Field, y: Field) -> Field:
    """Return the distance from the origin."""
    distance: Field = np.sqrt(x * x + y * y)
    return distance


def union(one: Field, other: Field) -> Field:
    """Return the distance to what lies in one figure or in the other."""
    distance: Field = np.minimum(one, other)
    return distance


def intersection(one: Field, other: Field) -> Field:
    """Return the distance to what lies in both figures."""
    distance: Field = np.maximum(one, other)
    return distance


def box(x: Field, y: Field, half_width: float, half_height: float) -> Field:
    """Return the distance to an upright rectangle around the origin."""
    dx, dy = np.abs(x) - half_width, np.abs(y) - half_height
    outside = length(np.maximum(dx, 0), np.maximum(dy, 0))
    distance: Field = outside + np.minimum(np.maximum(dx, dy), 0)
    return distance


def disk(x: Field, y: Field) -> Field:
    """Return the distance to a filled circle."""
    return length(x, y) - 0.8


def ring(x: Field, y: Field) -> Field:
    """Return the distance to a circle with a round hole."""
    return intersection(length(x, y) - 0.87, 0.45 - length(x, y))


def square(x: Field, y: Field) -> Field:
    """Return the distance to a filled square."""
    return box(x, y, 0.7, 0.7)


def frame(x: Field, y: Field) -> Field:
    """Return the distance to a square with a square hole."""
    return intersection(box(x, y, 0.78, 0.78), -box(x, y, 0.4, 0.4))


def triangle(x: Field, y: Field) -> Field:
    """Return the distance to an equilateral triangle."""
    slope = math.sqrt(3) / 2
    return intersection(np.abs(x) * slope - y * 0.5, y) - 0.5


def plus(x: Field, y: Field) -> Field:
    """Return the distance to two crossing bars."""
    return union(box(x, y, 0.9, 0.27), box(x, y, 0.27, 0.9))


def star(x: Field, y: Field) -> Field:
    """Return the distance to a five-pointed star."""
    x, y = np.abs(x), -y
    # Fold the plane along two mirror lines, so that one edge stands for all ten.
    for nx, ny in ((0.8090169944, -0.5877852523), (-0.8090169944, -0.5877852523)):
        overshoot = 2 * np.maximum(x * nx + y * ny, 0)
        x, y = x - overshoot * nx, y - overshoot * ny
    x, y = np.abs(x), y - 1.0
    edge_x, edge_y = 0.5877852523 * 0.45, 0.8090169944 * 0.45 - 1
    along = (x * edge_x + y * edge_y) / (edge_x * edge_x + edge_y * edge_y)
    along = np.clip(along, 0, 1)
    distance = length(x - edge_x * along, y - edge_y * along)
    return np.where(y * edge_x - x * edge_y > 0, distance, -distance)


def crescent(x: Field, y: Field) -> Field:
    """Return the distance to a disk with a bite taken by another."""
    return intersection(length(x, y) - 0.9, 0.72 - length(x - 0.42, y))


def heart(x: Field, y: Field) -> Field:
    """Return the distance to a heart: a square on its corner with two half disks."""
    x, y = np.abs(x) / 1.6, 0.53 - y / 1.6
    lobe = length(x - 0.25, y - 0.75) - math.sqrt(2) / 4
    half = np.maximum(x + y, 0) * 0.5
    below = np.minimum(length(x, y - 1), length(x - half, y - half))
    below = np.where(x > y, below, -below)
    return 1.6 * np.where(x + y > 1, lobe, below)


def bars(x: Field, y: Field) -> Field:
    """Return the distance to two bars side by side."""
    return box(x, np.abs(y) - 0.48, 0.8, 0.24)


FIGURES: dict[str, Figure] = {
    figure.__name__: figure
    for figure in (disk, ring, square, frame, triangle, plus, star, crescent, heart, bars)
}
