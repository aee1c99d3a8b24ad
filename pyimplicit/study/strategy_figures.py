"""Figures of where strategies put their query points, and of the weight that S_Linear draws them by."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from pyimplicit.geometry import Surface
from pyimplicit.ops import linear_weights
from pyimplicit.sampling import Linear, Strategy, sample_queries
from pyimplicit.study.figure_style import (
    DISTANCE_MAP,
    DISTANCE_TICKS,
    STYLE,
    distance_norm,
    legend_text,
    save_figure,
    style_of,
)
from pyimplicit.study.pictures import draw_points, draw_surface
from pyimplicit.study.tables import symbol


def strategy_slabs(
    surface: Surface,
    strategies: Sequence[str],
    path: str | os.PathLike[str],
    title: str,
    *,
    count: int = 40_000,
    thickness: float = 0.04,
    seed: int = 0,
) -> Path:
    """Draw where each strategy puts its query points: a slab of the cube, coloured by signed distance (Figure 2).

    Args:
        surface: The shape.
        strategies: Strategies, one panel each.
        path: The PNG file; written in one go.
        title: Heading of the figure.
        count: Query points drawn for each strategy; only those in the slab are shown.
        thickness: Thickness of the slab around z = 0, in mesh units.
        seed: Seed of the points.

    Returns:
        The path.
    """
    columns = min(len(strategies), 3 if len(strategies) > 4 else 2)
    lines = -(-len(strategies) // columns)
    with rc_context({**STYLE, "axes.grid": False, "axes.titlesize": 9.5, "axes.titleweight": "normal"}):
        figure = Figure(figsize=(3.1 * columns + 1.2, 3.3 * lines + 0.9), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
        norm = distance_norm()
        dots: Any = None
        for panel, strategy in zip(panels, strategies, strict=False):
            queries = sample_queries(surface, strategy, count, seed=seed)
            points, distance = queries.points.cpu().numpy(), queries.signed_distance.cpu().numpy()
            dots, shown = _slab(panel, points, distance, thickness, norm)
            panel.set_title(f"{symbol(strategy)}  {strategy}")
            panel.text(0, 0.6, f"{shown:,} points", ha="center", va="top", fontsize=8)
            panel.set_aspect("equal")
            panel.set_xlim(-0.55, 0.55)
            panel.set_ylim(-0.55, 0.62)
            panel.set_xticks([-0.5, 0, 0.5])
            panel.set_yticks([-0.5, 0, 0.5])
        for panel in panels[len(strategies) :]:
            panel.set_visible(False)
        for panel in panels[: len(strategies)]:
            panel.tick_params(labelleft=panel in panels[::columns], labelbottom=True)
        pause = " " if columns > 1 else "\n"
        about = f"{count:,} points a strategy;{pause}shown: those within {thickness / 2:g} of z = 0"
        figure.supxlabel(f"x [mesh units]\n\n{about}", fontsize=10)
        figure.supylabel("y [mesh units]", fontsize=10)
        figure.suptitle(title, x=0.02, ha="left", fontweight="bold")
        bar = figure.colorbar(dots, ax=panels.tolist(), shrink=0.8, extend="both", ticks=DISTANCE_TICKS)
        bar.set_label("signed distance [mesh units], negative inside")
        return save_figure(figure, path)


def strategy_spaces(
    surface: Surface,
    strategies: Sequence[str],
    path: str | os.PathLike[str],
    title: str,
    *,
    count: int = 2_000,
    seed: int = 0,
) -> Path:
    """Draw the shape and the query points of a few strategies in space, coloured by signed distance (Figure 1).

    Args:
        surface: The shape.
        strategies: Strategies, one panel each beside that of the shape.
        path: The PNG file; written in one go.
        title: Heading of the figure.
        count: Query points of each strategy; all are shown.
        seed: Seed of the points.

    Returns:
        The path.
    """
    with rc_context({**STYLE, "axes.grid": False, "axes.titlesize": 10, "axes.titleweight": "normal"}):
        figure = Figure(figsize=(3.0 * (len(strategies) + 1) + 1.0, 3.5), layout="constrained")
        panels = figure.subplots(1, len(strategies) + 1)
        panels[0].imshow(draw_surface(surface))
        panels[0].set_title("the shape", loc="center")
        norm = distance_norm()
        for panel, strategy in zip(panels[1:], strategies, strict=True):
            queries = sample_queries(surface, strategy, count, seed=seed)
            distance = queries.signed_distance.cpu().numpy()
            colours = DISTANCE_MAP(norm(distance))[:, :3]
            panel.imshow(draw_points(queries.points.cpu().numpy(), colours, radius=3))
            panel.set_title(f"{symbol(strategy)}\n{strategy}", loc="center")
        for panel in panels:
            panel.set_axis_off()
        bar = figure.colorbar(
            ScalarMappable(norm, DISTANCE_MAP), ax=panels.tolist(), shrink=0.8, extend="both", ticks=DISTANCE_TICKS
        )
        bar.set_label("signed distance [mesh units]")
        figure.suptitle(title, x=0.02, ha="left", fontweight="bold")
        return save_figure(figure, path)


def weight_function(
    path: str | os.PathLike[str], title: str, *, surface: Surface | None = None, tau: float = 0.1, count: int = 40_000
) -> Path:
    """Draw the weight that S_Linear draws points by against their distance to the surface (Figure 6).

    Args:
        path: The PNG file; written in one go.
        title: Heading of the figure.
        surface: A shape; with one a second panel shows the distances of points drawn on it by S_Linear and S_UNI.
        tau: Distance at which the weight reaches 0, mesh units.
        count: Points drawn for the second panel.

    Returns:
        The path.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(10.5 if surface is not None else 5.5, 3.7), layout="constrained")
        panels = figure.subplots(1, 1 if surface is None else 2, squeeze=False)[0]
        signed = np.linspace(-1.6 * tau, 1.6 * tau, 641)
        weight = linear_weights(torch.from_numpy(np.abs(signed)), tau).numpy()
        panels[0].plot(signed, weight, color=style_of("linear").colour, linewidth=2)
        panels[0].fill_between(signed, weight, color=style_of("balanced_surface").colour, alpha=0.35, linewidth=0)
        panels[0].set_xticks([-tau, 0, tau], ["−τ", "0\nsurface", "τ"])
        panels[0].set(xlabel="signed distance", ylabel="weight w = μ (τ − g)", ylim=(0, 1.08), yticks=(0, 0.5, 1))
        panels[0].set_title(f"weight, τ = {tau:g}, μ = 1/τ", fontsize=10, fontweight="normal")
        if surface is not None:
            edges = np.linspace(-0.1, 0.5, 81)
            for strategy, drawn_as in (("uniform", {"histtype": "step", "linewidth": 2}), ("linear", {"alpha": 0.75})):
                by: str | Strategy = Linear(tau) if strategy == "linear" else strategy
                drawn = sample_queries(surface, by, count, seed=0).signed_distance.cpu().numpy()
                options: dict[str, Any] = {"color": style_of(strategy).colour, "label": legend_text(strategy)}
                panels[1].hist(drawn, edges, density=True, **options, **drawn_as)
            panels[1].legend(fontsize=9)
            panels[1].set(xlabel="signed distance [mesh units], negative inside", ylabel="density of drawn points")
            panels[1].set_title(f"{count:,} points drawn on a shape", fontsize=10, fontweight="normal")
        figure.suptitle(title, x=0.02, ha="left", fontweight="bold")
        return save_figure(figure, path)


def strategy_picture(
    surface: Surface,
    strategy: str | Strategy,
    path: str | os.PathLike[str],
    title: str,
    *,
    count: int = 20_000,
    thickness: float = 0.04,
    seed: int = 0,
) -> Path:
    """Draw one strategy's query points in space, in a slab, and the histogram of their distances (Figures 1, 2, 6).

    Args:
        surface: The shape.
        strategy: Name, symbol or object.
        path: The PNG file; written in one go.
        title: Heading of the figure.
        count: Query points drawn; the histogram is of all, the pictures show at most 8,000 and those in the slab.
        thickness: Thickness of the slab around z = 0, in mesh units.
        seed: Seed of the points.

    Returns:
        The path.
    """
    queries = sample_queries(surface, strategy, count, seed=seed)
    points, distance = queries.points.cpu().numpy(), queries.signed_distance.cpu().numpy()
    norm = distance_norm()
    with rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(12.5, 4.4), layout="constrained")
        space = figure.add_subplot(1, 3, 1, projection="3d")
        # The picture's z is up; meshes have y up.
        x, y, z = points[:8000].T
        dots = space.scatter(x, -z, y, c=distance[:8000], s=1.5, cmap=DISTANCE_MAP, norm=norm, linewidths=0)
        space.set_box_aspect((1, 1, 1))
        space.set(xlim=(-0.5, 0.5), ylim=(-0.5, 0.5), zlim=(-0.5, 0.5), xlabel="x", ylabel="-z", zlabel="y")
        space.set_title(f"{min(count, 8000):,} of {count:,} points")
        slab = figure.add_subplot(1, 3, 2)
        _, shown = _slab(slab, points, distance, thickness, norm)
        slab.set(aspect="equal", xlim=(-0.55, 0.55), ylim=(-0.55, 0.55))
        slab.set(xlabel="x [mesh units]", ylabel="y [mesh units]")
        slab.set_title(f"{shown:,} points within {thickness / 2:g} of z = 0")
        bar = figure.colorbar(dots, ax=[space, slab], shrink=0.75, extend="both", ticks=DISTANCE_TICKS)
        bar.set_label("signed distance [mesh units]")
        histogram = figure.add_subplot(1, 3, 3)
        histogram.hist(distance, bins=100, density=True, color="#4878a8")
        histogram.axvline(0, color="black", linewidth=0.8)
        histogram.set(xlabel="signed distance [mesh units], negative inside", ylabel="density")
        inside = 100 * float((distance < 0).mean())
        histogram.set_title(f"{inside:.1f}% inside, mean distance {float(np.abs(distance).mean()):.3f}")
        figure.suptitle(title, x=0.02, ha="left", fontweight="bold")
        return save_figure(figure, path)


def _slab(panel: Any, points: Any, distance: Any, thickness: float, norm: Any) -> tuple[Any, int]:
    """Dots of the points near z = 0, and how many they are. Those nearest to the surface come last: none hides them."""
    shown = np.abs(points[:, 2]) <= thickness / 2
    order = np.argsort(-np.abs(distance[shown]))
    x, y, value = (column[shown][order] for column in (points[:, 0], points[:, 1], distance))
    return panel.scatter(x, y, c=value, s=2.0, cmap=DISTANCE_MAP, norm=norm, linewidths=0, rasterized=True), len(x)
