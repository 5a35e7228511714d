"""Crops and paddings that bring frames of another aspect ratio to a world's.

The command line imports this module, so it imports no torch.
"""

import reprlib
from typing import Any, Literal, cast, get_args

Fit = Literal["crop", "pad"]
"""Ways to change an aspect ratio: crop to the centre, or pad two sides by repeating the outermost pixels."""


def require_fit(fit: Any) -> Fit:
    """Return ``fit`` if it is a ``Fit``; otherwise raise ``ValueError``."""
    if fit not in get_args(Fit):
        raise ValueError(f"fit must be one of {get_args(Fit)}, got {reprlib.repr(fit)}")
    return cast(Fit, fit)


def describe_resize(h: int, w: int, height: int, width: int, fit: Fit = "crop") -> str:
    """Describe how ``resize`` changes a frame: ``80 x 64 pixels, 16 columns cut off, scaled to 64 x 64``."""
    if (h, w) == (height, width):
        return f"{w} x {h} pixels, as they are"
    if fit == "pad":
        rows, columns = missing_pixels(h, w, height, width)
    else:
        left, top, _, _ = centre_box(h, w, height, width)
        rows, columns = round(2 * top), round(2 * left)
    done = "added" if fit == "pad" else "cut off"
    parts = [f"{n} {what} {done}" for n, what in ((rows, "rows"), (columns, "columns")) if n]
    return ", ".join([f"{w} x {h} pixels", *parts, f"scaled to {width} x {height}"])


def missing_pixels(h: int, w: int, height: int, width: int) -> tuple[int, int]:
    """Return the numbers of rows and columns to add to (h, w) pixels for the aspect ratio height : width."""
    scale = max(h / height, w / width)
    return max(0, round(scale * height) - h), max(0, round(scale * width) - w)


def centre_box(h: int, w: int, height: int, width: int) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of the largest centred box with the aspect ratio height : width."""
    scale = min(h / height, w / width)
    box_h, box_w = min(h, scale * height), min(w, scale * width)
    left, top = (w - box_w) / 2, (h - box_h) / 2
    return left, top, left + box_w, top + box_h
