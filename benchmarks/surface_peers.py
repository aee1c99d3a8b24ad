"""Other libraries' surface distance, each behind the same calls. Imported only if asked for.

`unsigned` and `signed` are what is timed; `distances` turns their answer into an array, outside the timing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Points = NDArray[np.float32]  # [N, 3]
Distances = NDArray[Any]  # [N]


class Peer:
    """What all peers share. A peer that answers one question only leaves the other method out."""

    def distances(self, answer: Any) -> Distances:
        """Distances [N] from what `unsigned` or `signed` returned."""
        return np.asarray(answer)


class Open3d(Peer):
    """Embree behind open3d's RaycastingScene. Sign by ray parity."""

    def __init__(self, vertices: Points, faces: NDArray[np.int32]) -> None:
        import open3d

        self.tensor = open3d.core.Tensor.from_numpy
        self.scene = open3d.t.geometry.RaycastingScene(nthreads=torch.get_num_threads())
        self.scene.add_triangles(self.tensor(vertices), self.tensor(faces.astype(np.uint32)))
        self.unsigned(vertices[:1])  # the scene is built at the first query

    def unsigned(self, points: Points) -> Distances:
        """Distances [N]."""
        return self.scene.compute_distance(self.tensor(points), nthreads=torch.get_num_threads()).numpy()

    def signed(self, points: Points) -> Distances:
        """Distances [N], negative inside."""
        return self.scene.compute_signed_distance(self.tensor(points), nthreads=torch.get_num_threads()).numpy()


class Fcpw(Peer):
    """FCPW's vectorised wide hierarchy. It has no signed query."""

    def __init__(self, vertices: Points, faces: NDArray[np.int32]) -> None:
        import fcpw

        self.fcpw = fcpw
        self.scene = fcpw.scene_3D()
        self.scene.set_object_count(1)
        self.scene.set_object_vertices(np.asfortranarray(vertices), 0)
        self.scene.set_object_triangles(np.asfortranarray(faces), 0)
        self.scene.build(fcpw.aggregate_type.bvh_surface_area, True)

    def unsigned(self, points: Points) -> Any:
        """FCPW's own list of N answers: its bindings have no array, and reading the list is not what it is good at."""
        found = self.fcpw.interaction_3D_list()
        self.scene.find_closest_points(np.asfortranarray(points), np.full(len(points), np.inf, dtype=np.float32), found)
        return found

    def distances(self, answer: Any) -> Distances:
        """Distances [N]."""
        return np.array([answer[i].d for i in range(len(answer))])


class Warp(Peer):
    """warp's mesh queries, on the CPU (one thread) or the GPU. Sign by winding numbers."""

    def __init__(self, vertices: Points, faces: NDArray[np.int32], device: str = "cpu") -> None:
        import warp

        warp.config.quiet = True
        self.warp, self.device = warp, device
        self.kernels = _warp_kernels()
        self.mesh = warp.Mesh(
            warp.array(vertices, dtype=warp.vec3, device=device),
            warp.array(faces.reshape(-1), dtype=warp.int32, device=device),
            support_winding_number=True,
        )

    def query(self, points: Any, kernel: str) -> Any:
        """Distances [N], on the device of `points`."""
        values = (
            self.warp.from_torch(points, dtype=self.warp.vec3)
            if isinstance(points, torch.Tensor)
            else self.warp.array(points, dtype=self.warp.vec3, device=self.device)
        )
        out = self.warp.empty(len(values), dtype=self.warp.float32, device=self.device)
        self.warp.launch(self.kernels[kernel], len(values), [self.mesh.id, values], [out], device=self.device)
        return out

    def unsigned(self, points: Points) -> Distances:
        """Distances [N]."""
        return self.query(points, "unsigned").numpy()

    def signed(self, points: Points) -> Distances:
        """Distances [N], negative inside."""
        return self.query(points, "signed").numpy()


class Gpytoolbox(Peer):
    """gpytoolbox: libigl's tree for the distance, fast winding numbers for the sign.

    Both trees are built once and asked directly, which skips the barycentric coordinates that
    `gpytoolbox.signed_distance` adds in Python.
    """

    def __init__(self, vertices: Points, faces: NDArray[np.int32]) -> None:
        import gpytoolbox

        self.tree = gpytoolbox.squared_distance_precompute(vertices.astype(np.float64), faces)
        self.winding = gpytoolbox.fast_winding_number_precompute(vertices.astype(np.float64), faces)

    def unsigned(self, points: Points) -> Distances:
        """Distances [N]."""
        return np.sqrt(self.tree.squared_distance(points.astype(np.float64))[0])

    def signed(self, points: Points) -> Distances:
        """Distances [N], negative inside."""
        inside = self.winding.winding_number(points.astype(np.float64)) > 0.5
        return np.where(inside, -1, 1) * self.unsigned(points)


def _warp_kernels() -> dict[str, Any]:
    import warp as wp

    def unsigned(mesh: wp.uint64, points: wp.array(dtype=wp.vec3), out: wp.array(dtype=wp.float32)):  # type: ignore
        i = wp.tid()
        query = wp.mesh_query_point_no_sign(mesh, points[i], 1.0e6)
        out[i] = wp.length(points[i] - wp.mesh_eval_position(mesh, query.face, query.u, query.v))

    def signed(mesh: wp.uint64, points: wp.array(dtype=wp.vec3), out: wp.array(dtype=wp.float32)):  # type: ignore
        i = wp.tid()
        query = wp.mesh_query_point_sign_winding_number(mesh, points[i], 1.0e6)
        arm = points[i] - wp.mesh_eval_position(mesh, query.face, query.u, query.v)
        out[i] = query.sign * wp.length(arm)

    # Annotations must be live objects for warp, not the strings of this module's future import.
    for function in (unsigned, signed):
        function.__annotations__ = {
            "mesh": wp.uint64, "points": wp.array(dtype=wp.vec3), "out": wp.array(dtype=wp.float32)
        }  # fmt: skip
    return {function.__name__: wp.kernel(function) for function in (unsigned, signed)}


PEERS: dict[str, type[Any]] = {"open3d": Open3d, "fcpw": Fcpw, "warp": Warp, "gpytoolbox": Gpytoolbox}

RIGHT_SIGNS = ("warp", "gpytoolbox")
"""Those whose sign is that of a winding number: right on open, overlapping and inconsistently oriented meshes too."""
