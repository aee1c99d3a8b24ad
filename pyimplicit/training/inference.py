"""From a trained network back to meshes of shapes it has not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyimplicit import ops
from pyimplicit.checks import check_between
from pyimplicit.data import Shape
from pyimplicit.errors import ExtractionError
from pyimplicit.fields import ImplicitFunction, network_field
from pyimplicit.generation import extract_mesh
from pyimplicit.geometry import Mesh, Surface
from pyimplicit.networks import Network
from pyimplicit.ops import RandomStream
from pyimplicit.sampling import DistanceMask, sample_queries
from pyimplicit.training.latent import CodeSearch, infer_codes
from pyimplicit.training.loop import TrainResult
from pyimplicit.training.seeds import derive_seed


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """The mesh of one shape, or the reason why there is none."""

    name: str
    mesh: Mesh | None
    reason: str | None = None


def reconstruct(
    network: Network,
    kind: ImplicitFunction,
    *,
    cloud: Tensor | None = None,  # [N, 3]
    code: Tensor | None = None,  # [C]
    resolution: int = 128,
    mask_distance: float | None = None,
) -> Mesh:
    """Extract the surface that a trained network gives one shape.

    Args:
        network: The trained network; it is evaluated in evaluation mode and left as it was.
        kind: The implicit function it was trained on.
        cloud: Input cloud for an encoder network, [N, 3] float32 on the network's device.
        code: Code for an auto-decoder, [C] float32 on the network's device.
        resolution: Cells per axis of the extraction grid over the bounding cube.
        mask_distance: Distance from the cloud, in mesh units, beyond which the network is not asked; None is no mask.

    Raises:
        ValueError: Not exactly the one of `cloud` and `code` that the network needs.
        ExtractionError: The field never crosses the level, or is not finite.
    """
    wanted, given, other = ("cloud", cloud, code) if network.kind == "encoder" else ("code", code, cloud)
    if given is None or other is not None:
        raise ValueError(f"{wanted}: {network.name} needs a {wanted} and nothing else")
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            latent = network.encode(given[None]) if network.kind == "encoder" else given[None]
        mask = None if mask_distance is None or cloud is None else DistanceMask.from_cloud(cloud, mask_distance)
        return extract_mesh(network_field(network, latent, kind), resolution=resolution, mask=mask)
    finally:
        network.train(training)


def reconstruct_shapes(
    trained: TrainResult,
    shapes: Sequence[Shape],
    *,
    resolution: int = 128,
    search: CodeSearch | None = None,
    search_points: int = 16_384,
    cloud_noise: float = 0.0,
    seed: int = 0,
) -> list[Reconstruction]:
    """Reconstruct unseen shapes from what the protocol shows of them.

    An encoder network sees a cloud of `config.cloud_size` surface points, whose distance mask keeps it from far points
    if it was trained so. For an auto-decoder a code is searched with
    `search_points` points drawn by the strategy of its training, with their exact signed distances.

    Args:
        trained: The trained network.
        shapes: The shapes; what is drawn from one depends on its name and `seed` alone.
        resolution: Cells per axis of the extraction grid.
        search: How codes are searched (auto-decoders).
        search_points: Labelled points per shape (auto-decoders).
        cloud_noise: Standard deviation of noise on the observed clouds, along each axis, mesh units. The authors of
            ONet and ConvONet test with the noise of their training (`trained.config.cloud_noise`).
        seed: Keys clouds, points and first codes.

    Returns:
        One entry per shape, in order. A field without a surface gives an entry without a mesh, not an error.
    """
    if not shapes:
        return []
    device = trained.network.device
    clouds: list[Tensor | None] = [None] * len(shapes)
    codes: list[Tensor | None] = [None] * len(shapes)
    if trained.network.kind == "encoder":
        clouds = [
            observe_cloud(shape, trained.config.cloud_size, noise=cloud_noise, seed=seed).to(device) for shape in shapes
        ]
    else:
        seen = [observe_points(shape, trained.config.strategy, search_points, seed=seed) for shape in shapes]
        points, signed_distance = (torch.stack(part).to(device) for part in zip(*seen, strict=True))
        codes = list(infer_codes(trained.network, trained.kind, points, signed_distance, search, seed=seed))
    return [
        _attempt(trained, shape.name, cloud, code, resolution)
        for shape, cloud, code in zip(shapes, clouds, codes, strict=True)
    ]


def observe_cloud(shape: Shape, count: int, *, noise: float = 0.0, seed: int = 0) -> Tensor:
    """Return the cloud of `count` surface points that an encoder network sees of `shape`: [count, 3] float32.

    Args:
        shape: The shape.
        count: Points.
        noise: Standard deviation of the Gaussian noise added along each axis, mesh units.
        seed: Keys points and noise, together with the shape's name. The points do not depend on the noise.

    Raises:
        TypeError, ValueError: An argument of a wrong type or out of range.
    """
    check_between("noise", noise, 0.0, math.inf)
    points = Surface(shape.mesh).sample_surface(count, seed=derive_seed(seed, "observed cloud", shape.name)).points
    return noisy(points, noise, derive_seed(seed, "observed noise", shape.name))


def noisy(cloud: Tensor, noise: float, seed: int) -> Tensor:
    """Return a cloud [N, 3] with Gaussian noise of a standard deviation `noise` along each axis; 0 leaves it alone."""
    if not noise:
        return cloud
    return cloud + noise * ops.normal(len(cloud), RandomStream(seed), device=cloud.device).to(cloud.dtype)


def observe_points(shape: Shape, strategy: str, count: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return the labelled points an auto-decoder sees of `shape`: points [count, 3], signed distances [count]."""
    seed = derive_seed(seed, "observed points", shape.name)
    queries = sample_queries(Surface(shape.mesh), strategy, count, seed=seed)
    return queries.points, queries.signed_distance


def _attempt(
    trained: TrainResult, name: str, cloud: Tensor | None, code: Tensor | None, resolution: int
) -> Reconstruction:
    try:
        mesh = reconstruct(
            trained.network, trained.kind, cloud=cloud, code=code, resolution=resolution,
            mask_distance=trained.config.mask_distance,
        )  # fmt: skip
        return Reconstruction(name, mesh)
    except ExtractionError as error:
        return Reconstruction(name, None, str(error))
