"""Figures of reconstructed shapes: input, truth and reconstruction side by side; clouds with and without a mask."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyimplicit.geometry import Mesh, Surface
from pyimplicit.study.figure_style import DISTANCE_MAP, STYLE, distance_norm, save_figure
from pyimplicit.study.pictures import Pixels, crop_together, draw_points, draw_surface
from pyimplicit.study.reconstructions import FAR, Case, Reconstructions
from pyimplicit.study.tables import symbol

# Points of a dense cloud that are drawn, as in the paper.
CLOUD_POINTS = 10_000
_FAR_COLOUR, _NEAR_COLOUR = (0.84, 0.30, 0.10), (0.13, 0.33, 0.60)
_FAR_NOTE = f"orange: farther than {FAR:g} from the true surface"
_Row = tuple[str, list[tuple[str, Pixels]]]  # name of the row; its panels with their titles


def case_pictures(shapes: Reconstructions, case: Case) -> list[tuple[str, Pixels]]:
    """Return pictures of a case's input, ground truth and reconstruction, with their titles."""
    points, distance = shapes.observed(case)
    colours = None if distance is None else DISTANCE_MAP(distance_norm()(distance))[:, :3]
    truth, found = shapes.surface(case.index), shapes.found(case)
    title = "input" if distance is None else "input: labelled points"
    pictures = [(title, draw_points(points, colours, radius=3)), ("ground truth", draw_surface(truth))]
    if isinstance(found, Mesh):
        share = shapes.far_share(case, found)
        pictures.append((f"reconstruction, {100 * share:.0f}% far", draw_surface(Surface(found), truth=truth)))
    return pictures


def draw_cases(shapes: Reconstructions, cases: Sequence[Case], path: str | os.PathLike[str], title: str) -> Path:
    """Draw input, ground truth and reconstruction of each case in a row (the paper's Figures 5 and 8).

    Args:
        shapes: The study's shapes and reconstructions.
        cases: Cases that have a mesh, at least one.
        path: The PNG file; written in one go.
        title: Heading of the figure.

    Returns:
        The path.
    """
    rows = [(f"{case.label}\n{symbol(case.record.strategy)}", case_pictures(shapes, case)) for case in cases]
    return _draw_rows(rows, path, title, _FAR_NOTE)


def draw_clouds(
    shapes: Reconstructions, pairs: Sequence[tuple[Case, Case]], path: str | os.PathLike[str], title: str
) -> Path:
    """Draw dense clouds of an unsigned distance without and with a mask beside the true shape (Figure 10).

    Args:
        shapes: The study's shapes and reconstructions.
        pairs: Cases of a run without a mask and one with it, both with a cloud; at least one.
        path: The PNG file; written in one go.
        title: Heading of the figure.

    Returns:
        The path.
    """
    rows: list[_Row] = []
    for plain, masked in pairs:
        truth = shapes.surface(plain.index)
        panels = [("ground truth", draw_surface(truth))]
        for name, case in (("without a mask", plain), (f"with a mask of {masked.record.mask:g}", masked)):
            cloud = shapes.found(case)
            if isinstance(cloud, np.ndarray):
                near, picture = _cloud_picture(cloud, truth)
                panels.append((f"{name}, {100 * (1 - near):.0f}% far", picture))
        rows.append((f"{plain.label}\n{symbol(plain.record.strategy)}", panels))
    count = min(CLOUD_POINTS, *(len(cloud) for cloud in map(shapes.found, pairs[0]) if isinstance(cloud, np.ndarray)))
    return _draw_rows(rows, path, title, f"{count:,} points of each cloud; {_FAR_NOTE}")


def _cloud_picture(cloud: NDArray[np.float32], truth: Surface) -> tuple[float, Pixels]:
    """Draw a cloud, far points in orange; returns the share of near ones too."""
    shown = cloud[:: max(1, len(cloud) // CLOUD_POINTS)][:CLOUD_POINTS]
    near = (truth.unsigned_distance(torch.from_numpy(np.ascontiguousarray(shown))) <= FAR).numpy()
    return float(near.mean()), draw_points(shown, np.where(near[:, None], _NEAR_COLOUR, _FAR_COLOUR), radius=1)


def _draw_rows(rows: Sequence[_Row], path: str | os.PathLike[str], title: str, note: str) -> Path:
    rows = [
        (name, list(zip((t for t, _ in panels), crop_together([p for _, p in panels]), strict=True)))
        for name, panels in rows
    ]
    columns = max(len(panels) for _, panels in rows)
    tallness = [panels[0][1].shape[0] / panels[0][1].shape[1] for _, panels in rows]
    with rc_context({**STYLE, "axes.grid": False, "axes.titlesize": 9.5, "axes.titleweight": "normal"}):
        # Smaller pictures where there are many: the file stays small.
        side = 2.6 if len(rows) <= 3 else 2.2 if len(rows) <= 4 else 1.9
        height = sum(side * tall + 0.3 for tall in tallness) + 0.7
        figure = Figure(figsize=(side * columns + 1.3, height), layout="constrained")
        grid = figure.subplots(len(rows), columns, squeeze=False, gridspec_kw={"height_ratios": tallness})
        for line, (name, panels) in zip(grid, rows, strict=True):
            for axes in line:
                axes.set_axis_off()
            for axes, (heading, picture) in zip(line, panels, strict=False):
                axes.imshow(picture, interpolation="antialiased")
                axes.set_title(heading, loc="center")
            line[0].text(
                *(-0.06, 0.5, name), transform=line[0].transAxes, ha="right", va="center", fontsize=9.5, weight="bold"
            )
        figure.suptitle(title, x=0.02, ha="left", fontweight="bold")
        figure.supxlabel(note, fontsize=9)
        return save_figure(figure, path)
