"""Reconstruction of files with a network whose field is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor, nn

from pyimplicit.cli import main, surfaces
from pyimplicit.errors import DataError, ExtractionError, MeshError, MeshFileError
from pyimplicit.geometry.clouds import load_cloud, save_cloud
from pyimplicit.geometry.files import load_mesh
from pyimplicit.geometry.mesh import Mesh
from pyimplicit.training import TrainConfig, TrainResult, is_cloud_file, reconstruct_file

RADIUS = 0.4


class Ball(nn.Module):
    """Sees a cloud, and answers for the ball around the origin that reaches as far as the cloud does."""

    kind = "encoder"
    device = torch.device("cpu")

    def __init__(self, field: str) -> None:
        super().__init__()
        self.field = field
        self.scale = nn.Parameter(torch.ones(1))
        self.seen: list[Tensor] = []
        self.asked = 0

    def encode(self, cloud: Tensor) -> Tensor:
        self.seen.append(cloud)
        return cloud.norm(dim=2).amax(dim=1, keepdim=True)

    def decode(self, points: Tensor, code: Tensor) -> Tensor:
        self.asked += points.shape[1]
        distance = points.norm(dim=2) - code
        return {"occ": -distance, "sdf": distance, "udf": distance.abs()}[self.field]


def trained(field: str = "occ") -> TrainResult:
    config = TrainConfig(network="ndf" if field == "udf" else "onet", field=field, cloud_size=300)
    return TrainResult(config, Ball(field).eval(), (), None, [0.0], 1, 0.0)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    ball = trimesh.creation.icosphere(3, radius=3.0)
    ball.apply_translation((10.0, 0.0, 0.0))
    ball.export("ball.obj")
    points = trimesh.creation.icosphere(3, radius=RADIUS).vertices.astype(np.float32)
    for suffix in (".ply", ".xyz", ".npy", ".npz"):
        save_cloud(torch.from_numpy(points), tmp_path / f"points{suffix}")
    return tmp_path


def test_what_is_a_cloud(place: Path) -> None:
    trimesh.creation.box().export("mesh.ply")
    trimesh.creation.box().export("text.ply", encoding="ascii")
    names = ["points.ply", "points.xyz", "points.npy", "points.npz", "mesh.ply", "text.ply", "ball.obj", "missing.ply"]
    assert [is_cloud_file(Path(name)) for name in names] == [True] * 4 + [False] * 4


@pytest.mark.parametrize("name", ["ball.obj", "points.xyz"])
def test_noise_on_what_is_seen(place: Path, name: str) -> None:
    """ONet and ConvONet are tested by their authors with the noise of their training."""
    network = trained()
    for noise in (0.0, 0.01, 0.01):
        reconstruct_file(network, name, resolution=16, cloud_noise=noise)
    clean, one, again = network.network.seen
    assert torch.equal(one, again)
    assert float((one - clean).std()) == pytest.approx(0.01, rel=0.12)  # five standard deviations of its estimate
    with pytest.raises(ValueError, match="cloud_noise: expected at least 0"):
        reconstruct_file(network, name, cloud_noise=-1.0)


def test_a_mesh_comes_back_where_it_was(place: Path) -> None:
    found = reconstruct_file(trained(), "ball.obj", resolution=64)
    assert isinstance(found.surface, Mesh)
    away = (found.surface.vertices.double() - torch.tensor([10.0, 0.0, 0.0])).norm(dim=1)
    assert float((away - 3).abs().max()) < 0.02
    assert found.evaluated is not None
    assert found.evaluated < 0.4
    assert found.note == ""


@pytest.mark.parametrize("suffix", [".ply", ".xyz", ".npy", ".npz"])
def test_clouds_of_every_format_give_the_same(place: Path, suffix: str) -> None:
    network = trained()
    found = reconstruct_file(network, place / f"points{suffix}", resolution=32)
    first = reconstruct_file(network, place / "points.ply", resolution=32)
    assert isinstance(found.surface, Mesh)
    assert torch.equal(found.surface.vertices, first.surface.vertices)
    assert float((found.surface.vertices.norm(dim=1) - RADIUS).abs().max()) < 0.02
    seen = network.network.seen[0]
    assert seen.shape == (1, 300, 3)  # of 642 points as many as in training
    assert len(seen[0].unique(dim=0)) == 300


def test_few_points_are_noted_and_foreign_frames_refused_or_fitted(place: Path) -> None:
    points = load_cloud(place / "points.ply")
    save_cloud(points[:50], "few.xyz")
    assert reconstruct_file(trained(), "few.xyz", resolution=16).note.startswith("50 points, trained with 300")
    save_cloud(points * 10 + 7, "far.xyz")
    with pytest.raises(DataError, match=r"far\.xyz: expected points in the cube.*normalize fits them in"):
        reconstruct_file(trained(), "far.xyz")
    found = reconstruct_file(trained(), "far.xyz", resolution=32, normalize=True)
    assert isinstance(found.surface, Mesh)
    assert float(((found.surface.vertices - 7).norm(dim=1) - 4).abs().max()) < 0.2


def test_unsigned_distances_give_a_cloud(place: Path) -> None:
    network = trained("udf")
    found = reconstruct_file(network, "ball.obj", count=2_000)
    assert isinstance(found.surface, torch.Tensor)
    assert found.surface.shape == (2_000, 3)
    away = (found.surface - torch.tensor([10.0, 0.0, 0.0])).norm(dim=1)
    assert float((away - 3).abs().max()) < 0.02
    with pytest.raises(ExtractionError, match="unsigned distances only have a surface"):
        reconstruct_file(network, "ball.obj", form="mesh", resolution=16)


def test_a_cloud_of_a_field_with_a_mesh(place: Path) -> None:
    found = reconstruct_file(trained(), "points.ply", form="cloud", count=500, resolution=32)
    assert isinstance(found.surface, torch.Tensor)
    assert found.surface.shape == (500, 3)
    assert float((found.surface.norm(dim=1) - RADIUS).abs().max()) < 0.02


def test_a_mask_asks_less_and_finds_the_same(place: Path) -> None:
    whole, masked = trained("sdf"), trained("sdf")
    dense = reconstruct_file(whole, "points.ply", resolution=64, method="dense")
    near = reconstruct_file(masked, "points.ply", resolution=64, mask_distance=0.15)
    assert masked.network.asked < 0.7 * whole.network.asked
    assert isinstance(near.surface, Mesh)
    assert isinstance(dense.surface, Mesh)
    assert torch.equal(near.surface.vertices, dense.surface.vertices)


def test_refusals(place: Path) -> None:
    Path("broken.obj").write_text("v 0 0 0\nf 1 2 3\n")
    Path("point.obj").write_text("v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n")
    decoder = trained()
    decoder.network.kind = "decoder"
    for network, name, options, error, words in (
        (trained(), "broken.obj", {}, MeshFileError, "broken.obj"),
        (trained(), "point.obj", {}, (MeshError, MeshFileError), "point.obj"),
        (trained(), "missing.xyz", {}, DataError, "missing.xyz"),
        (decoder, "points.ply", {}, DataError, "onet sees no clouds; expected a closed mesh"),
        (trained(), "points.ply", {"form": "voxels"}, ValueError, "form: expected one of auto, mesh, cloud"),
        (trained(), "points.ply", {"mask_distance": 0.0}, ValueError, "mask_distance: expected a finite number above"),
        (trained(), "points.ply", {"count": 0}, ValueError, "count: expected at least 1"),
    ):
        with pytest.raises(error, match=words):
            reconstruct_file(network, name, **options)


@pytest.fixture
def command(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `in` with a mesh, a cloud, a broken one, and one deeper; the command's network is the ball."""
    monkeypatch.setattr(surfaces, "load_trained", lambda run, device: trained(run))
    Path("in/deep").mkdir(parents=True)
    Path("ball.obj").rename("in/ball.obj")
    Path("points.xyz").rename("in/deep/points.xyz")
    Path("in/bad.obj").write_text("f 1 2 3\n")
    Path("in/readme.txt").write_text("not a mesh")
    return place


def test_a_folder_goes_on_where_it_stopped(command: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["reconstruct", "occ", "in", "--out", "out", "--resolution", "16"]
    assert main(run) == 1
    found = capsys.readouterr()
    assert "in/bad.obj: no reconstruction: " in found.err
    assert "1 of 3 inputs without a reconstruction" in found.err
    assert "out/deep/points.ply: " in found.out
    made = sorted(str(path) for path in Path("out").rglob("*.*"))
    assert made == ["out/ball.ply", "out/deep/points.ply", "out/reconstruct.json"]
    Path("in/bad.obj").unlink()
    Path("out/ball.ply").unlink()
    before = Path("out/deep/points.ply").stat().st_mtime_ns
    assert main(run) == 0
    found = capsys.readouterr()
    assert "1 of 2 were there already" in found.err
    assert "out/ball.ply: " in found.out
    assert Path("out/deep/points.ply").stat().st_mtime_ns == before
    assert main([*run[:-1], "32"]) == 2
    assert "made with other settings, see out/reconstruct.json" in capsys.readouterr().err


def test_refined_vertices_are_on_the_networks_level(command: Path) -> None:
    assert main(["reconstruct", "occ", "points.npz", "--out", "ball.off", "--resolution", "16", "--refine", "3"]) == 0
    plain, refined = (
        reconstruct_file(trained(), "points.npz", resolution=16, refine=steps).surface for steps in (0, 3)
    )
    assert torch.equal(load_mesh("ball.off").faces, refined.faces)
    for mesh in (refined, load_mesh("ball.off")):
        assert (mesh.vertices.norm(dim=1) - RADIUS).abs().max() < 2e-6
    assert (plain.vertices.norm(dim=1) - RADIUS).abs().max() > 1e-4


def test_clouds_and_single_files(command: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reconstruct", "udf", "in/ball.obj", "--out", "dense.xyz", "--count", "200"]) == 0
    assert "dense.xyz: 200 points" in capsys.readouterr().out
    assert load_cloud("dense.xyz").shape == (200, 3)
    assert main(["reconstruct", "occ", "in/ball.obj", "--out", "ball.off", "--resolution", "16", "--mask", "0.2"]) == 0
    assert len(load_mesh("ball.off").faces) > 100
    for arguments, words in (
        (["udf", "in/ball.obj", "--out", "dense.obj"], "a cloud goes into .npy, .npz, .ply, .xyz, got .obj"),
        (["occ", "in/ball.obj", "--out", "ball.npy", "--form", "mesh"], "expected a file ending in .glb"),
        (["occ", "in/bad.obj", "--out", "bad.ply"], "bad.obj"),
        (["occ", "in", "--out", "all.ply"], "expected a folder for 3 inputs"),
        (["occ", "in", "in/ball.obj", "--out", "out"], "files of different names"),
        (["occ", "in/deep", "--out", "in/readme.txt/x"], "readme.txt"),
    ):
        assert main(["reconstruct", *arguments]) == 2
        assert words in capsys.readouterr().err


def test_the_fingerprint_is_of_the_weights() -> None:
    first, other = trained(), trained()
    assert surfaces._fingerprint(first) == surfaces._fingerprint(other)
    other.network.scale.data += 1
    assert surfaces._fingerprint(first) != surfaces._fingerprint(replace(other))
