"""Positions names beside the points of a chart, so that they cover neither each other nor a point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

GAP = 10.0  # pixels between the centre of a point and its name
RINGS = (1.0, 2.2, 3.6, 5.2)  # tried multiples of the gap, the nearest first
SIDES = ((1, 1), (1, -1), (1, 0), (0, 1), (0, -1), (-1, 1), (-1, -1), (-1, 0))

Box = tuple[float, float, float, float]  # left, bottom, right, top


def overlap(a: Box, b: Box) -> float:
    """Area of the overlap of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)


def place(point: tuple[float, float], size: tuple[float, float], taken: Sequence[Box], frame: Box) -> Box:
    """Position a name of a given size: the nearest free box within the frame.

    Where no box is free, the one with the smallest overlap.
    """
    width, height = size
    best, least = (point[0], point[1], point[0] + width, point[1] + height), float("inf")
    for ring in RINGS:
        for right, up in SIDES:
            x = point[0] + right * GAP * ring - (width if right < 0 else width / 2 if right == 0 else 0)
            y = point[1] + up * GAP * ring - (height if up < 0 else height / 2 if up == 0 else 0)
            box = (x, y, x + width, y + height)
            outside = width * height - overlap(box, frame)
            covered = outside + sum(overlap(box, other) for other in taken)
            if covered < least:
                best, least = box, covered
        if least <= 1e-6:
            break
    return best


def name_points(
    axes: Any,
    points: Sequence[tuple[str, float, float, float]],
    others: Sequence[tuple[float, float]] = (),
    radius: float = 6.0,
) -> None:
    """Write the names of points so that they cover no point and not the line at 0.

    The layout of the figure is settled first; the names do not change it.

    Parameters
    ----------
    axes
    points
        Points (name, x, y, half the length of the interval), in data units.
    others
        Further points (x, y), without a name.
    radius
        Radius of a point, in pixels.
    """
    figure = axes.figure
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    points_per_pixel = 72 / figure.dpi  # offsets are in points, independent of resolution
    zero = axes.transData.transform((0, 0))[1]
    taken: list[Box] = [(frame.x0, zero - 1, frame.x1, zero + 1)]
    taken += [
        (x - radius, y - radius, x + radius, y + radius) for x, y in map(axes.transData.transform, others)
    ]
    middles = []
    for _, x, y, half in points:
        (px, low), (_, middle), (_, high) = axes.transData.transform([(x, y - half), (x, y), (x, y + half)])
        middles.append((px, middle))
        taken.append((px - radius, low - radius, px + radius, high + radius))
    for (name, x, y, _), middle in zip(points, middles, strict=True):
        text = axes.annotate(name, (x, y), textcoords="offset points", xytext=(0, 0), va="bottom", ha="left")
        text.set_in_layout(False)
        extent = text.get_window_extent()
        box = place(middle, (extent.width, extent.height), taken, (frame.x0, frame.y0, frame.x1, frame.y1))
        text.set_position(((box[0] - middle[0]) * points_per_pixel, (box[1] - middle[1]) * points_per_pixel))
        taken.append(box)
