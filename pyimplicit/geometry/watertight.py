"""Closed, oriented meshes from open, inconsistent or overlapping ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyimplicit.checks import check_choice, check_count
from pyimplicit.errors import MeshError
from pyimplicit.geometry.fusion import VisibleHull, draw_in, pin_covers, visible_hull_field
from pyimplicit.geometry.marching import marching_cubes
from pyimplicit.geometry.mesh import (
    LONGEST_SIDE,
    Mesh,
    MeshReport,
    body_volumes,
    face_components,
    flip_faces,
    inspect_mesh,
    merge_vertices,
    normalize_mesh,
    take_faces,
)
from pyimplicit.geometry.simplify import simplify_mesh
from pyimplicit.geometry.surface import Surface
from pyimplicit.geometry.visibility import visible_sides

METHODS = ("winding", "fusion")
RESOLUTIONS = {"winding": 128, "fusion": 256}
"""What `make_watertight` accepts as its method, and the cells along the longest side that each takes by default."""

MIN_BODY_SHARE = 1e-3
"""Bodies, and cavities, with less volume than this share of the largest body's are dropped."""

MIN_VISIBLE = 0.02
"""A face of which less than this share is seen from outside is hidden; see `visible_sides`. In the open it is 0.4."""

FLIP_RATIO = 2.0
"""A face is turned round if its back is seen this many times as much as its front."""

HOLE_SCALE = 3.0
"""Cells. Caps the distance field at this times |2 w - 1|, w being the winding number: where the solid ends in a hole of
the input, no surface is near and w passes 0.5 gradually, this makes the field pass zero gradually too."""

REPORT_SAMPLES = 10_000
"""Surface points drawn on each of the two meshes for the report's distances."""

CHUNK = 2**18
"""Grid nodes whose fields are computed in one call."""


@dataclass(frozen=True)
class WatertightReport:
    """What was wrong with a mesh, and what `make_watertight` made of it."""

    method: str  # "none" if the input was closed and oriented already
    resolution: int  # cells along the longest side
    detail: int  # cells of the grid to each of them, along an axis
    before: MeshReport
    after: MeshReport
    hidden_faces: int  # dropped, since nothing of them is seen from outside
    flipped_faces: int  # turned round, since their backs are seen
    bodies_kept: int
    bodies_dropped: int  # smaller than MIN_BODY_SHARE
    input_to_output: float  # mean distance of points on the input's shown faces to the output, mesh units
    output_to_input: float  # and the other way round
    largest_input_to_output: float  # of those points, mesh units
    largest_output_to_input: float
    simplified_from: int = 0  # faces before they were made fewer; 0 if that was not asked for, needed or possible

    def summary(self) -> str:
        """One line for people."""
        fewer = f", simplified from {self.simplified_from:,} faces" if self.simplified_from else ""
        if self.method == "none":
            return (
                f"kept as it was{' but turned outside out' * bool(self.flipped_faces)}: {self.after.summary()}{fewer}"
            )
        changes = (
            (self.hidden_faces, "hidden faces dropped"),
            (self.flipped_faces, "faces turned round"),
            (self.bodies_dropped, "small bodies dropped"),
        )
        done = "".join(f", {count:,} {words}" for count, words in changes if count)
        moved = f"mean distance {self.input_to_output:.2g} out and {self.output_to_input:.2g} back"
        return f"before: {self.before.summary()}; after: {self.after.summary()}{done}{fewer}; {moved}"

    def as_dict(self) -> dict[str, Any]:
        """Return the report as nested dictionaries of plain numbers and strings, fit for JSON."""
        return asdict(self)


def make_watertight(
    mesh: Mesh,
    method: str = "winding",
    resolution: int | None = None,
    outer_shell: bool = True,
    faces: int | None = None,
    detail: int = 1,
) -> tuple[Mesh, WatertightReport]:
    """Make a closed, outward oriented mesh of the solid that a mesh means.

    A mesh that is closed and oriented once vertices at the same position are merged is returned so, unchanged but for
    the merging, and turned round if it was inside out.

    Any other is rebuilt, by one of two methods.

    "fusion" makes the visible hull, without anything inside: what depth maps from 100 directions around do not see
    past. As in the paper it keeps what is seen, whatever its orientation, closes cavities, and gives sheets a
    thickness. Unlike it, there is no renderer, views are orthographic, and the field near the surface is not an
    average along rays but the exact distance to the mesh: the result is extracted half a cell outside what is seen,
    where no sheet is missed, and its vertices drawn in to a quarter (`OFFSET` and `DISTANCE` in fusion.py; the authors
    move depths by 1.5 cells).

    "winding" keeps thin parts and inner walls, and wants faces oriented alike. First, faces that cannot be seen from
    outside are dropped (seats, linings, engines: a lining behind a panel would cancel it), and faces seen mostly from
    behind are turned round. A point is then inside where the generalised winding number is above a half, which closes
    holes roughly as a soap film would. The field on the grid is that sign times the exact distance to the input, so
    marching cubes puts its vertices on the input, not on grid steps. Overlapping parts become one. What is lost:
    sheets that enclose nothing, walls and gaps thinner than about a cell, and edges sharper than the grid.

    Args:
        mesh: Any mesh.
        method: "winding" or "fusion".
        resolution: Cells along the longest side of the bounding box, 8 to 1024; by default 128 for "winding", 256 for
            "fusion".
        outer_shell: For "winding": drop hidden faces and turn others by what is seen. If False, all faces are used as
            they are, and should be oriented alike: for solids with inner walls or cavities that are meant.
        faces: About the most faces that the result may have, at least 4: more are simplified by `simplify_mesh`, also
            those of a mesh that was closed before. Where the result would not stay closed it is left as it is, which
            the report's `after.faces` shows. By default nothing is simplified.
        detail: For "fusion": cells of the grid on which the surface is extracted along each cell of `resolution`, for
            which the depth maps are made; together at most 1024 along the longest side. With 2, narrow gaps that views
            see into stay open also where the coarser grid has no node in them; the result has four times the faces and
            takes several times as long.

    Returns:
        The closed mesh, in the coordinates of the input, and a `WatertightReport`.

    Raises:
        ValueError: An unknown method, or a number out of range.
        MeshError: A mesh that encloses nothing at this resolution, or without extent, or `faces` without the library
            that it needs.

    Source:
        Stutz and Geiger, Learning 3D Shape Completion under Weak Supervision, IJCV 2020, section 4.1 (fusion);
        Jacobson et al., Robust Inside-Outside Segmentation using Generalized Winding Numbers, SIGGRAPH 2013.

    Example:
        >>> corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
        >>> lidless = Mesh(corners, np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2]]))
        >>> closed, report = make_watertight(lidless, resolution=32)
        >>> report.before.is_closed, report.after.is_closed
        (False, True)
    """
    resolution = check_closing(method, resolution, faces, detail)
    before = inspect_mesh(mesh)
    whole = before.is_closed and before.is_oriented
    welded = mesh if whole else merge_vertices(mesh)
    found = before if whole else inspect_mesh(welded)
    if found.is_closed and found.is_oriented and found.volume != 0:
        flipped = found.faces if found.volume < 0 else 0
        result, simplified = _fewer_faces(flip_faces(welded) if flipped else welded, faces)
        after = inspect_mesh(result) if flipped or simplified else found
        moved = (0.0, 0.0, 0.0, 0.0)
        if simplified:
            given = Surface(welded)
            moved = _distances(given, given.sample_surface(REPORT_SAMPLES).points, Surface(result))
        return result, WatertightReport(
            "none", resolution, detail, before, after, 0, flipped, found.components, 0, *moved, simplified
        )

    unit = normalize_mesh(welded)  # float32 is finest near the origin
    hidden = flipped = 0
    if outer_shell and method == "winding":
        unit, hidden, flipped = _outer_shell(unit)
    surface = Surface(unit)
    spacing = LONGEST_SIDE / resolution
    shown = surface.sample_surface(REPORT_SAMPLES).points
    hull = None
    if method == "fusion":
        hull = VisibleHull(surface, spacing, detail)
        spacing = hull.cell
        shown = shown[hull.shown(shown)]
        field, origin = visible_hull_field(hull, unit.bounds.double().numpy())
    else:
        field, origin = _winding_field(surface, unit.bounds.double().numpy(), spacing)
    if not (field < 0).any():
        raise MeshError(f"nothing is enclosed at resolution {resolution}: {found.summary()}")
    np.negative(field, out=field)
    rebuilt = marching_cubes(field, origin, (spacing, spacing, spacing))
    rebuilt, kept, dropped = _largest_bodies(rebuilt)
    if hull is not None:
        rebuilt = draw_in(pin_covers(rebuilt, hull, origin), hull)
    rebuilt, simplified = _fewer_faces(rebuilt, faces)
    low, high = welded.bounds.double()
    scale = float((high - low).max()) / LONGEST_SIDE
    result = Mesh(rebuilt.vertices.double() * scale + (low + high) / 2, rebuilt.faces)
    after = inspect_mesh(result)
    if not after.is_solid:
        raise MeshError(f"the rebuilt mesh is not closed at resolution {resolution}: {after.summary()}")
    moved = _distances(surface, shown, Surface(rebuilt), scale)
    return result, WatertightReport(
        method=method,
        resolution=resolution,
        detail=detail,
        before=before,
        after=after,
        hidden_faces=hidden,
        flipped_faces=flipped,
        bodies_kept=kept,
        bodies_dropped=dropped,
        input_to_output=moved[0],
        output_to_input=moved[1],
        largest_input_to_output=moved[2],
        largest_output_to_input=moved[3],
        simplified_from=simplified,
    )


def check_closing(method: str, resolution: int | None, faces: int | None, detail: int) -> int:
    """Check arguments of `make_watertight`, without a mesh.

    Returns:
        The resolution.

    Raises:
        TypeError, ValueError: As there.

    Example:
        >>> check_closing("fusion", None, None, 2)
        256
    """
    check_choice("method", method, METHODS)
    if resolution is None:
        resolution = RESOLUTIONS[method]
    if check_count("resolution", resolution, minimum=8) > 1024:
        raise ValueError(f"resolution: expected 8 to 1024 cells, got {resolution}")
    if check_count("detail", detail) > 1 and method != "fusion":
        raise ValueError(f"detail: expected 1 for the method {method}, got {detail}")
    if resolution * detail > 1024:
        raise ValueError(f"detail: expected at most {1024 // resolution} at resolution {resolution}, got {detail}")
    if faces is not None:
        check_count("faces", faces, minimum=4)
    return resolution


def _fewer_faces(mesh: Mesh, faces: int | None) -> tuple[Mesh, int]:
    """Return a mesh of fewer faces and how many it had, or the mesh itself and 0."""
    if faces is None or len(mesh.faces) <= faces:
        return mesh, 0
    made = simplify_mesh(mesh, faces)
    return (mesh, 0) if made is None else (made, len(mesh.faces))


def _distances(
    source: Surface, shown: Tensor, result: Surface, scale: float = 1.0
) -> tuple[float, float, float, float]:
    """Return the mean distances from points of the input to the result and back, and the largest of both."""
    out = result.unsigned_distance(shown).double() * scale
    back = source.unsigned_distance(result.sample_surface(REPORT_SAMPLES).points).double() * scale
    return float(out.mean()), float(back.mean()), float(out.max()), float(back.max())


def _outer_shell(mesh: Mesh) -> tuple[Mesh, int, int]:
    """Drop hidden faces and turn those seen from behind; return the mesh and the numbers of both."""
    front, back = visible_sides(Surface(mesh))
    shown = front + back >= MIN_VISIBLE
    turned = shown & (back > FLIP_RATIO * front)
    faces = mesh.faces.numpy().copy()
    faces[turned] = faces[turned][:, [0, 2, 1]]
    return take_faces(Mesh(mesh.vertices, faces), shown), int((~shown).sum()), int(turned.sum())


def _winding_field(
    surface: Surface,
    bounds: NDArray[np.float64],  # [2, 3]
    spacing: float,
) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
    """Sample the signed field on a grid around the mesh; return it and its origin."""
    cells = np.ceil((bounds[1] - bounds[0]) / spacing).astype(int) + 4  # two cells of air on each side
    origin = (bounds[0] + bounds[1] - cells * spacing) / 2
    axes = [torch.from_numpy(origin[k] + np.arange(cells[k] + 1) * spacing).float() for k in range(3)]
    distance, winding = [], []
    slab = max(1, CHUNK // (len(axes[1]) * len(axes[2])))
    for x in torch.split(axes[0], slab):
        points = torch.cartesian_prod(x, axes[1], axes[2])
        distance.append(surface.unsigned_distance(points))
        winding.append(surface.winding_number(points))
    side = 1 - 2 * torch.cat(winding)  # negative inside
    field = side.sign() * torch.minimum(torch.cat(distance), side.abs() * (HOLE_SCALE * spacing))
    shape = tuple(len(axis) for axis in axes)
    return field.reshape(shape).numpy(), (float(origin[0]), float(origin[1]), float(origin[2]))


def _largest_bodies(mesh: Mesh) -> tuple[Mesh, int, int]:
    """Drop small bodies and cavities; return what is left and how many were kept and dropped."""
    body = face_components(mesh)
    volumes = body_volumes(mesh, body)
    large = np.abs(volumes) >= MIN_BODY_SHARE * volumes.max()
    kept = int(large.sum())
    return take_faces(mesh, large[body]), kept, len(volumes) - kept
