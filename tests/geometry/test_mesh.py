"""The mesh: what its constructor refuses, what the inspection counts, welding and normalising."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimplicit.errors import MeshError
from pyimplicit.geometry.mesh import (
    LONGEST_SIDE,
    Mesh,
    body_volumes,
    check_mesh,
    face_components,
    flip_faces,
    inspect_mesh,
    merge_vertices,
    normalize_mesh,
    take_faces,
)
from tests.geometry.shapes import CORNERS, SIDES, ball, cube, join

TRIANGLE = np.eye(3)
FACE = np.array([[0, 1, 2]])


def soup(faces: int, vertices: int, seed: int) -> Mesh:
    rng = np.random.default_rng(seed)
    return Mesh(rng.standard_normal((vertices, 3)), rng.integers(0, vertices, (faces, 3)))


@pytest.mark.parametrize("float_dtype", [np.float32, np.float64, torch.float32, torch.float64])
@pytest.mark.parametrize("int_dtype", [np.uint8, np.int16, np.uint32, np.int64, np.uint64, torch.int32, torch.int64])
def test_arrays_and_tensors_of_any_width_become_float32_and_int32(float_dtype, int_dtype):
    vertices = torch.tensor(TRIANGLE, dtype=float_dtype) if isinstance(float_dtype, torch.dtype) else None
    faces = torch.tensor(FACE, dtype=int_dtype) if isinstance(int_dtype, torch.dtype) else None
    mesh = Mesh(
        TRIANGLE.astype(float_dtype) if vertices is None else vertices,
        FACE.astype(int_dtype) if faces is None else faces,
    )
    assert mesh.vertices.dtype == torch.float32
    assert mesh.faces.dtype == torch.int32
    assert mesh.vertices.tolist() == TRIANGLE.tolist()
    assert mesh.faces.tolist() == FACE.tolist()


def test_input_is_copied_and_made_contiguous():
    vertices, faces = np.asfortranarray(np.eye(3, dtype=np.float32)), np.asfortranarray(SIDES[:, ::-1].astype(np.int32))
    source = np.asfortranarray(CORNERS.astype(np.float32))
    mesh = Mesh(source, faces)
    faces[:] = 99
    source[:] = np.nan
    assert mesh.vertices.is_contiguous()
    assert mesh.faces.is_contiguous()
    assert mesh.faces.max() == 7
    assert mesh.vertices.isfinite().all()
    leaf = torch.tensor(vertices, requires_grad=True)
    assert not Mesh(leaf, FACE).vertices.requires_grad


@pytest.mark.parametrize(
    ("vertices", "faces", "error", "words"),
    [
        (np.zeros((0, 3)), np.zeros((0, 3), int), MeshError, "empty mesh"),
        (TRIANGLE, np.zeros((0, 3), int), MeshError, "empty mesh.*3 and 0"),
        (np.zeros((0, 3)), FACE, MeshError, "empty mesh"),
        (np.where(np.eye(3) == 1, np.nan, 0.0), FACE, MeshError, "vertices.*nan.*at vertex 0"),
        (np.array([[0, 0, 0], [1, 0, np.inf], [0, 1, 0.0]]), FACE, MeshError, "inf.*at vertex 1"),
        (np.array([[0, 0, 0], [1, 0, 0], [0, 1e39, 0.0]]), FACE, MeshError, "float32.*at vertex 2"),
        (TRIANGLE, np.array([[0, 1, 2], [0, 1, 3]]), MeshError, r"faces: expected 0 to 2, got \[0, 1, 3\] at face 1"),
        (TRIANGLE, np.array([[0, -1, 2]]), MeshError, r"\[0, -1, 2\] at face 0"),
        (TRIANGLE, np.array([[0, 1, 2**40]]), MeshError, "at face 0"),
        (TRIANGLE, np.array([[0, 1, 2**32 + 2]]), MeshError, "at face 0"),
        (TRIANGLE, np.array([[0, 1, 2**64 - 1]], dtype=np.uint64), MeshError, "at face 0"),
        (np.zeros((3, 2)), FACE, MeshError, r"vertices: expected shape \[n, 3\], got \[3, 2\]"),
        (np.zeros(3), FACE, MeshError, r"got \[3\]"),
        (np.zeros((1, 3, 3)), FACE, MeshError, r"got \[1, 3, 3\]"),
        (np.float64(1.0), FACE, TypeError, "vertices: expected a numpy array or torch tensor"),
        (np.array(1.0), FACE, MeshError, r"got \[\]"),
        (TRIANGLE, np.array([[0, 1, 2, 0]]), MeshError, r"faces: expected shape \[n, 3\], got \[1, 4\]"),
        (TRIANGLE, FACE.astype(float), TypeError, "faces: expected integers, got float64"),
        (TRIANGLE, FACE.astype(bool), TypeError, "faces: expected integers, got bool"),
        (TRIANGLE.astype(int), FACE, TypeError, "vertices: expected float32 or float64, got int64"),
        (TRIANGLE.astype(np.float16), FACE, TypeError, "float16"),
        (TRIANGLE.astype(complex), FACE, TypeError, "complex128"),
        (TRIANGLE.astype(object), FACE, TypeError, "object"),
        (TRIANGLE.tolist(), FACE, TypeError, "got list"),
        (None, FACE, TypeError, "got NoneType"),
        (TRIANGLE, None, TypeError, "faces: expected a numpy array or torch tensor, got NoneType"),
        (torch.eye(3, dtype=torch.bfloat16), FACE, TypeError, "bfloat16"),
        (torch.eye(3).to_sparse(), FACE, TypeError, "sparse"),
        (torch.eye(3, device="meta"), FACE, MeshError, "on the CPU, got one on meta"),
    ],
)
def test_bad_input_is_refused_by_name(vertices, faces, error, words):
    with pytest.raises(error, match=words):
        Mesh(vertices, faces)


def test_cube():
    report = inspect_mesh(cube())
    assert report.is_solid
    assert report.is_closed
    assert report.is_oriented
    assert (report.vertices, report.faces, report.components) == (8, 12, 1)
    assert report.volume == pytest.approx(1)
    assert report.area == pytest.approx(6)
    assert report.bounds == ((0, 0, 0), (1, 1, 1))
    assert report.summary() == "8 vertices, 12 faces, 1 body, closed, volume 1"


def test_each_fault_is_counted_alone():
    faultless = inspect_mesh(cube())
    lidless = inspect_mesh(Mesh(CORNERS, SIDES[:-2]))
    assert (lidless.boundary_edges, lidless.is_closed, lidless.is_oriented) == (4, False, True)
    turned = SIDES.copy()
    turned[3] = turned[3, ::-1]
    turned_report = inspect_mesh(Mesh(CORNERS, turned))
    assert (turned_report.inconsistent_edges, turned_report.is_closed, turned_report.is_oriented) == (3, True, False)
    doubled = inspect_mesh(Mesh(CORNERS, np.concatenate([SIDES, SIDES[:1, [1, 2, 0]]])))
    assert (doubled.duplicate_faces, doubled.non_manifold_edges, doubled.is_closed) == (1, 3, False)
    spare = inspect_mesh(Mesh(np.concatenate([CORNERS, [[9, 9, 9]]]), SIDES))
    assert (spare.unreferenced_vertices, spare.bounds, spare.is_solid) == (1, faultless.bounds, True)
    repeated = inspect_mesh(Mesh(CORNERS, np.concatenate([SIDES, [[0, 0, 1]]])))
    assert (repeated.degenerate_faces, repeated.is_closed, repeated.non_manifold_edges) == (1, True, 0)
    needle = inspect_mesh(Mesh(np.array([[0, 0, 0], [1, 1, 1], [2, 2, 2.0]]), FACE))
    assert needle.degenerate_faces == 1
    inside_out = inspect_mesh(flip_faces(cube()))
    assert (inside_out.volume, inside_out.is_closed, inside_out.is_solid) == (pytest.approx(-1), True, False)
    only_repeats = inspect_mesh(Mesh(CORNERS, np.array([[0, 0, 1]])))
    assert not only_repeats.is_closed


def test_a_sliver_of_aspect_one_million_is_not_degenerate():
    assert inspect_mesh(Mesh(np.array([[0, 0, 0], [1, 0, 0], [0.5, 1e-6, 0]]), FACE)).degenerate_faces == 0


def test_two_cubes_that_share_an_edge_are_closed_but_not_manifold():
    pair = merge_vertices(join(cube(), Mesh(CORNERS + np.array([1, 1, 0]), SIDES)))
    report = inspect_mesh(pair)
    assert (report.non_manifold_edges, report.is_solid, report.volume) == (1, True, pytest.approx(2))


def test_summary_names_every_fault():
    words = inspect_mesh(soup(40, 8, seed=1)).summary()
    for fault in ("open", "not oriented", "non-manifold", "degenerate", "duplicate"):
        assert fault in words


def test_volume_far_from_the_origin_keeps_its_digits():
    assert inspect_mesh(cube(4096.0, 4097.0)).volume == pytest.approx(1, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 10_000))
def test_counts_agree_with_a_loop_over_edges(faces, vertices, seed):
    mesh = soup(faces, vertices, seed)
    uses: dict[tuple[int, int], list[int]] = {}
    degenerate_by_index = 0
    for a, b, c in mesh.faces.tolist():
        if len({a, b, c}) < 3:
            degenerate_by_index += 1
            continue
        for start, end in ((a, b), (b, c), (c, a)):
            uses.setdefault((min(start, end), max(start, end)), []).append(1 if start < end else -1)
    report = inspect_mesh(mesh)
    assert report.boundary_edges == sum(len(signs) == 1 for signs in uses.values())
    assert report.non_manifold_edges == sum(len(signs) > 2 for signs in uses.values())
    assert report.inconsistent_edges == sum(abs(sum(signs)) > len(signs) % 2 for signs in uses.values())
    assert report.is_closed == (bool(uses) and all(len(signs) % 2 == 0 for signs in uses.values()))
    sets = [frozenset(face) if len(set(face)) == 3 else tuple(sorted(face)) for face in mesh.faces.tolist()]
    assert report.duplicate_faces == len(sets) - len(set(sets))
    assert report.degenerate_faces >= degenerate_by_index


def test_inspection_agrees_with_trimesh():
    mesh = join(ball(0.4), cube(1.0, 1.5))
    reference = trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False)
    report = inspect_mesh(mesh)
    assert report.is_closed == reference.is_watertight
    assert report.is_oriented == reference.is_winding_consistent
    assert report.volume == pytest.approx(reference.volume)
    assert report.area == pytest.approx(reference.area)
    assert report.components == reference.body_count == 2


def test_bodies_are_numbered_by_their_first_face_and_joined_by_edges_only():
    touching = merge_vertices(join(cube(0, 1), cube(1, 2)))  # one common corner
    labels = face_components(touching)
    assert labels.tolist() == [0] * 12 + [1] * 12
    assert body_volumes(touching, labels) == pytest.approx([1, 1])
    shuffled = Mesh(touching.vertices, touching.faces.flip(0))
    assert face_components(shuffled).tolist() == [0] * 12 + [1] * 12


def test_take_faces_drops_unused_vertices():
    one = take_faces(join(cube(), ball()), np.arange(12))
    assert inspect_mesh(one).is_solid
    assert len(one.vertices) == 8
    with pytest.raises(MeshError, match="no faces chosen"):
        take_faces(cube(), np.zeros(12, dtype=bool))


def test_merging_restores_a_mesh_from_its_loose_triangles():
    mesh = ball()
    loose = Mesh(mesh.vertices[mesh.faces.long()].reshape(-1, 3), np.arange(3 * len(mesh.faces)).reshape(-1, 3))
    assert not inspect_mesh(loose).is_closed
    merged = merge_vertices(loose)
    assert inspect_mesh(merged).is_solid
    assert len(merged.vertices) == len(mesh.vertices)
    assert torch.equal(merged.vertices[merged.faces.long()], mesh.vertices[mesh.faces.long()])


def test_merging_takes_minus_zero_for_zero_and_keeps_everything_else():
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [-0.0, 0, 0], [5, 5, 5], [1, 1, 1e-30]])
    merged = merge_vertices(Mesh(vertices, np.array([[3, 1, 2], [0, 2, 5]])))
    assert merged.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, float(np.float32(1e-30))]]
    assert merged.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert not torch.signbit(merged.vertices).any()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(1e-3, 1e3), st.floats(-50, 50), st.floats(0.1, 4))
def test_normalised_meshes_are_centred_and_of_the_asked_size(seed, scale, shift, side):
    mesh = soup(20, 9, seed)
    moved = Mesh(mesh.vertices.double() * scale + shift * scale, mesh.faces)
    low, high = normalize_mesh(moved, side).bounds
    assert float((high - low).max()) == pytest.approx(side, rel=1e-5)
    assert (low + high).abs().max() < 1e-4 * side


def test_normalising_ignores_unused_vertices_and_defaults_to_the_unit_cube():
    mesh = Mesh(np.concatenate([10 * CORNERS, [[99, 0, 0]]]), SIDES)
    assert normalize_mesh(mesh).bounds.tolist() == [[-LONGEST_SIDE / 2] * 3, [LONGEST_SIDE / 2] * 3]


def test_what_cannot_be_normalised_is_refused():
    with pytest.raises(MeshError, match="without extent"):
        normalize_mesh(Mesh(np.ones((3, 3)), FACE))
    with pytest.raises(ValueError, match="longest_side"):
        normalize_mesh(cube(), longest_side=0)
    with pytest.raises(TypeError, match="mesh: expected a Mesh, got ndarray"):
        check_mesh(CORNERS)
