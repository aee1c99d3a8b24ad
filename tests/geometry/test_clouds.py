"""Point clouds in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from pyimplicit.errors import DataError
from pyimplicit.geometry.clouds import CLOUD_SUFFIXES, load_cloud, save_cloud


@pytest.mark.parametrize("suffix", CLOUD_SUFFIXES)
def test_every_value_comes_back(tmp_path: Path, suffix: str) -> None:
    points = torch.randn(100, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e-6, 1.0, 1e6])
    path = tmp_path / f"cloud{suffix}"
    save_cloud(points.double(), path)
    assert torch.equal(load_cloud(str(path)), points)
    assert list(tmp_path.iterdir()) == [path]


def test_what_others_write(tmp_path: Path) -> None:
    points = np.random.default_rng(0).random((50, 3))
    trimesh.PointCloud(points).export(tmp_path / "cloud.ply")
    np.savez(tmp_path / "pointcloud.npz", points=points.astype(np.float16), normals=points)
    (tmp_path / "cloud.xyz").write_text("".join(f"{x} {y} {z} 0 0 1\n" for x, y, z in points))
    for name, tolerance in (("cloud.ply", 1e-7), ("pointcloud.npz", 1e-3), ("cloud.xyz", 1e-7)):
        np.testing.assert_allclose(load_cloud(tmp_path / name).numpy(), points, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.ply", None, "none.ply: not a point cloud"),
        ("cloud.obj", b"v 0 0 0", "cannot read .obj"),
        ("cloud", b"0 0 0", "cannot read a file without suffix"),
        ("empty.xyz", b"", "expected finite points"),
        ("words.xyz", b"a b c\n", "not a point cloud"),
        ("two.xyz", b"1 2\n", "expected finite points"),
        ("nan.xyz", b"1 2 nan\n", "expected finite points"),
        ("large.xyz", b"1 2 1e99\n", "expected finite points"),
        ("junk.npy", b"junk", "not a point cloud"),
        ("junk.npz", b"junk", "not a point cloud"),
        ("junk.ply", b"\x00\x01junk", "not a readable PLY file"),
    ],
)
def test_refusals(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        load_cloud(tmp_path / name)


def test_a_mesh_an_object_array_and_another_name_are_refused(tmp_path: Path) -> None:
    trimesh.creation.box().export(tmp_path / "mesh.ply")
    np.save(tmp_path / "objects.npy", np.array([[{}]]), allow_pickle=True)
    np.savez(tmp_path / "other.npz", cloud=np.zeros((2, 3)))
    for name, words in (
        ("mesh.ply", "expected points without faces, got a mesh"),
        ("objects.npy", "not a point cloud: Object arrays cannot be loaded"),
        ("other.npz", 'expected an array "points", got cloud'),
    ):
        with pytest.raises(DataError, match=words):
            load_cloud(tmp_path / name)
    with pytest.raises(DataError, match=r"cannot write \.txt"):
        save_cloud(torch.zeros(1, 3), tmp_path / "cloud.txt")
    with pytest.raises(DataError, match="cannot be written"):
        save_cloud(torch.zeros(1, 3), tmp_path / "missing" / "cloud.ply")
    with pytest.raises(ValueError, match="points: expected finite"):
        save_cloud(torch.full((1, 3), torch.nan), tmp_path / "cloud.ply")
