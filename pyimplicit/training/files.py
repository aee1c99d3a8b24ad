"""Reconstruction of files: what a trained network is shown of one, and the surface that comes back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pyimplicit.checks import check_between, check_choice, check_count, check_positive
from pyimplicit.data import Shape
from pyimplicit.errors import DataError, MeshError
from pyimplicit.fields import network_field
from pyimplicit.generation import extract_dense_cloud, extract_mesh_with_report
from pyimplicit.geometry import LONGEST_SIDE, Mesh, Surface
from pyimplicit.geometry.clouds import CLOUD_SUFFIXES, load_cloud
from pyimplicit.geometry.files import load_mesh
from pyimplicit.sampling import DistanceMask
from pyimplicit.training.inference import noisy, observe_cloud, observe_points
from pyimplicit.training.latent import CodeSearch, infer_codes
from pyimplicit.training.loop import TrainResult
from pyimplicit.training.seeds import derive_seed

FORMS = ("auto", "mesh", "cloud")

# Points of a cloud may stick out of the cube by this much: rounding, not another frame.
_SLACK = 0.01

# Longest header of a PLY file that is looked at.
_HEADER = 65_536


@dataclass(frozen=True, eq=False)
class FileReconstruction:
    """The surface of one file, in the file's coordinates.

    Attributes:
        surface: A mesh, or a cloud [N, 3] float32 on the CPU.
        evaluated: Points that the network was asked for, as a share of the grid's nodes; None for a cloud.
        note: What to know about it, or "".
    """

    surface: Mesh | Tensor
    evaluated: float | None = None
    note: str = ""


def is_cloud_file(path: Path) -> bool:
    """Return whether a file is read as a point cloud: by its suffix, and for .ply by whether its header has faces."""
    suffix = path.suffix.lower()
    if suffix != ".ply" or not path.is_file():
        return suffix in CLOUD_SUFFIXES and suffix != ".ply"
    with open(path, "rb") as stream:
        header = stream.read(_HEADER).partition(b"end_header")[0].split(b"\n")
    counts = [line.split() for line in header if line.startswith(b"element")]
    return any(count[1:2] == [b"vertex"] for count in counts) and not any(
        count[1:2] == [b"face"] and count[2:3] != [b"0"] for count in counts
    )


def reconstruct_file(
    trained: TrainResult,
    path: str | Path,
    *,
    form: str = "auto",
    resolution: int = 128,
    method: str = "mise",
    refine: int = 0,
    count: int = 1_000_000,
    mask_distance: float | None = None,
    normalize: bool = False,
    search: CodeSearch | None = None,
    search_points: int = 16_384,
    cloud_noise: float = 0.0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> FileReconstruction:
    """Reconstruct the surface that a file shows.

    Args:
        trained: The trained network.
        path: A closed mesh, which is fitted into the cube and observed as in training; or, for encoder networks, a
            point cloud in the cube [-0.5, 0.5]^3, of which at most as many points as in training count, drawn at
            random.
        form: "mesh", "cloud", or "auto": a cloud for unsigned distances, a mesh for everything else. The cloud of a
            field that has a mesh is drawn evenly from the mesh.
        resolution: Cells per axis of the extraction grid (meshes).
        method: "mise" or "dense", as for `extract_mesh`.
        refine: Newton steps that bring a mesh's vertices to the level, at least 0, as for `extract_mesh`.
        count: Points of the cloud.
        mask_distance: Ask the network only this near the observed shape, mesh units of the cube; None everywhere.
        normalize: Whether to fit a cloud's bounding box into the cube too. A cloud of a part of a shape then comes out
            larger than the network was trained for.
        search: How codes are searched (auto-decoders).
        search_points: Labelled points of that search.
        cloud_noise: Standard deviation of noise added to what an encoder network sees, mesh units of the cube; see
            `reconstruct_shapes`.
        seed: Keys clouds, points and first codes, together with the file's name.
        progress: Called with points or nodes done and their total.

    Returns:
        The surface, in the file's own coordinates.

    Raises:
        DataError: A cloud that cannot be read, lies outside the cube, or that the network cannot see.
        MeshError, MeshFileError: A mesh that cannot be read, or is no solid where signs are needed.
        ExtractionError: A field without a surface, or whose values are not finite.
        ValueError: A wrong argument.
    """
    path = Path(path)
    network, config, device = trained.network, trained.config, trained.network.device
    check_choice("form", form, FORMS)
    count, refine = check_count("count", count), check_count("refine", refine, minimum=0)
    if mask_distance is not None:
        check_positive("mask_distance", mask_distance)
    check_between("cloud_noise", cloud_noise, 0.0, math.inf)
    note, labels = "", None
    if is_cloud_file(path):
        if network.kind != "encoder":
            raise DataError(f"{path}: {config.network} sees no clouds; expected a closed mesh")
        cloud = load_cloud(path)
        center, scale = _frame(path, cloud) if normalize else (torch.zeros(3, dtype=torch.float64), 1.0)
        cloud = ((cloud.double() - center) / scale).float()
        if not normalize and float(cloud.abs().max()) > LONGEST_SIDE / 2 + _SLACK:
            raise DataError(
                f"{path}: expected points in the cube [-0.5, 0.5]^3, got some {float(cloud.abs().max()):.4g} from its "
                "center; normalize fits them in"
            )
        cloud, note = _drawn(cloud, config.cloud_size, derive_seed(seed, "observed cloud", path.stem))
        cloud = noisy(cloud, cloud_noise, derive_seed(seed, "observed noise", path.stem))
        mask_source: Tensor | Mesh = cloud
    else:
        mesh = load_mesh(path)
        center, scale = _frame(path, mesh.bounds)
        mesh = Mesh((mesh.vertices.double() - center) / scale, mesh.faces)
        shape = Shape(path.stem, path.stem, mesh, {})
        if network.kind == "encoder":
            mask_source = cloud = observe_cloud(shape, config.cloud_size, noise=cloud_noise, seed=seed)
        else:
            labels = observe_points(shape, config.strategy, search_points, seed=seed)
            mask_source = mesh
    code: Tensor | dict[str, Tensor]
    if labels is not None:
        points, distance = (part[None].to(device) for part in labels)
        code = infer_codes(network, trained.kind, points, distance, search, seed=seed)[0][None]
    else:
        with torch.no_grad():
            code = network.encode(cloud[None].to(device))
    field = network_field(network, code, trained.kind)
    mask = None
    if mask_distance is not None:
        if isinstance(mask_source, Mesh):
            mask = DistanceMask.from_surface(Surface(mask_source, device=device), mask_distance)
        else:
            mask = DistanceMask.from_cloud(mask_source.to(device), mask_distance)
    if form != "mesh" and trained.kind.name == "udf":
        points = extract_dense_cloud(field, count, seed=seed, mask=mask, progress=progress).cpu()
        return FileReconstruction((points.double() * scale + center).float(), note=note)
    found, report = extract_mesh_with_report(
        field, resolution=resolution, method=method, mask=mask, progress=progress, refine=refine
    )
    surface = Mesh(found.vertices.double() * scale + center, found.faces)
    note = "; ".join(part for part in (note, report.note) if part)
    if form == "cloud":
        return FileReconstruction(Surface(surface).sample_surface(count, seed).points, report.share, note)
    return FileReconstruction(surface, report.share, note)


def _frame(path: Path, points: Tensor) -> tuple[Tensor, float]:
    """Center [3] float64 and longest side of the points' bounding box, which become the origin and 1."""
    low, high = points.double().amin(0), points.double().amax(0)
    extent = float((high - low).max())
    if extent == 0:
        raise MeshError(f"{path}: cannot normalise points without extent: all lie at {low.tolist()}")
    return (low + high) / 2, extent / LONGEST_SIDE


def _drawn(cloud: Tensor, most: int, seed: int) -> tuple[Tensor, str]:
    """Return as many points as the network was trained with, and a remark where there are fewer."""
    if len(cloud) < most:
        return cloud, f"{len(cloud)} points, trained with {most}"
    if len(cloud) == most:
        return cloud, ""
    generator = torch.Generator().manual_seed(seed)
    return cloud[torch.randperm(len(cloud), generator=generator)[:most]], ""
