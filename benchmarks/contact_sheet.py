"""Meshes drawn small, with their names, into one picture: by rays, so that nothing but this package is needed."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from pyimplicit.geometry import Mesh, Surface, normalize_mesh

WIDTH, HEIGHT = 160, 116  # pixels of a picture
AZIMUTH, ELEVATION = -35.0, 25.0  # degrees: from the front and the side, from above
COLOUR = (0.75, 0.85, 1.0)
COLUMNS = 10


def draw_mesh(mesh: Mesh) -> NDArray[np.float32]:
    """The mesh as [HEIGHT, WIDTH, 3] values in [0, 1], as large as fits, white around it.

    Faces are lit from the viewer's side, whatever their orientation.
    """
    unit = normalize_mesh(mesh)
    surface = Surface(unit)
    azimuth, elevation = math.radians(AZIMUTH), math.radians(ELEVATION)
    towards = np.array(
        [math.sin(azimuth) * math.cos(elevation), math.sin(elevation), math.cos(azimuth) * math.cos(elevation)]
    )
    right = np.cross([0.0, 1.0, 0.0], towards)
    right /= np.linalg.norm(right)
    up = np.cross(towards, right)
    flat = unit.vertices.double().numpy() @ np.stack([right, up], 1)
    low, high = flat.min(0), flat.max(0)
    pixel = max((high - low) / (WIDTH - 6, HEIGHT - 6))
    across = (low + high)[0] / 2 + (np.arange(WIDTH) + 0.5 - WIDTH / 2) * pixel
    down = (low + high)[1] / 2 - (np.arange(HEIGHT) + 0.5 - HEIGHT / 2) * pixel
    starts = across[None, :, None] * right + down[:, None, None] * up + 2 * towards
    origins = torch.from_numpy(starts.reshape(-1, 3)).float()
    hits = surface.cast_rays(origins, torch.from_numpy(-towards).float().expand_as(origins).contiguous())
    normals = _smooth_normals(unit)[unit.faces[hits.face.clamp(min=0)].numpy()]
    normals = np.einsum("nkc,nk->nc", normals, hits.barycentric.double().numpy())
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)
    light = 0.15 + 0.5 * np.abs(normals @ towards) + 0.35 * np.abs(normals @ up)
    seen = hits.hit.numpy()[:, None]
    picture = np.where(seen, light.clip(0, 1)[:, None] * COLOUR, 1.0)
    return picture.reshape(HEIGHT, WIDTH, 3).astype(np.float32)


def _smooth_normals(mesh: Mesh) -> NDArray[np.float64]:
    """A normal for each vertex: its faces', by their areas, so that the directions of slivers do not show."""
    corners = mesh.vertices.double().numpy()[mesh.faces.numpy()]
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros((len(mesh.vertices), 3))
    for corner in range(3):
        np.add.at(normals, mesh.faces[:, corner].numpy(), areas)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-30)


def save_sheet(pictures: Mapping[str, NDArray[np.float32]], path: Path) -> Path:
    """Write all pictures with their names above them into one PNG file."""
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    title = 14  # pixels
    figure = Figure(figsize=(columns * WIDTH / 100, rows * (HEIGHT + title) / 100), dpi=100)
    for place, (name, picture) in enumerate(pictures.items()):
        row, column = divmod(place, columns)
        share = HEIGHT / (HEIGHT + title)
        axes = figure.add_axes((column / columns, 1 - (row + 1) / rows, 1 / columns, share / rows))
        axes.imshow(picture)
        axes.set_axis_off()
        axes.set_title(name, fontsize=7, pad=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    figure.savefig(content)
    with Image.open(content) as image:  # 64 colours: a third of the size
        image.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
    return path
