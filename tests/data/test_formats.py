"""Other projects' layouts: what is exported comes back, what is damaged is refused with the file's name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pyimplicit.data import (
    DeepSdfSamples,
    IfNetSamples,
    OnetSamples,
    PrepareConfig,
    ProceduralCars,
    ShapeNet,
    StoredSet,
    export_deepsdf,
    export_onet,
    open_source,
    prepare_set,
)
from pyimplicit.engines import LocalEngine
from pyimplicit.errors import ConfigError, DataError
from pyimplicit.geometry import Surface
from pyimplicit.geometry.files import save_mesh
from tests.geometry.shapes import cube

CONFIG = PrepareConfig(
    cloud=203, evaluation=305, evaluation_strategy="padded_uniform", pools=(("balanced_surface", 99),)
)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredSet:
    folder = tmp_path_factory.mktemp("set")
    return prepare_set(ProceduralCars(3, resolution=16), folder, CONFIG, engine=LocalEngine(0))


@pytest.mark.parametrize("half", [True, False])
def test_onet_round_trip(stored: StoredSet, tmp_path: Path, half: bool) -> None:
    source = OnetSamples(export_onet(stored, tmp_path, half=half))
    assert source.names() == [f"procedural-cars/{name}" for name in stored.names()]
    assert source.splits() == ["train"] * 3
    tolerance = 2.5e-4 if half else 0.0
    for position in range(3):
        theirs, ours = source.load_samples(position), stored[position]
        assert torch.allclose(theirs.cloud, ours.cloud, rtol=0, atol=tolerance)
        assert torch.allclose(theirs.normals, ours.normals, rtol=0, atol=5e-4 if half else 0.0)
        pool = theirs.pools["points"]
        assert torch.allclose(pool.points, ours.evaluation.points, rtol=0, atol=tolerance)
        assert pool.points.abs().max() > 0.5  # the padded box
        assert torch.equal(pool.occupancy, ours.evaluation.inside)
        assert 0 < pool.occupancy.sum() < 305


def test_onet_files_are_as_its_authors_loader_reads_them(stored: StoredSet, tmp_path: Path) -> None:
    """The lines of im2mesh/data/fields.py, in other words: bits unpacked and cut to the number of points."""
    export_onet(stored, tmp_path)
    folder = tmp_path / "procedural-cars" / stored.names()[0]
    with np.load(folder / "points.npz") as file:
        assert (file["points"].dtype, file["occupancies"].dtype) == (np.float16, np.uint8)
        bits = np.unpackbits(file["occupancies"])[: file["points"].shape[0]]
        assert (file["loc"].shape, file["scale"].shape) == ((3,), ())
    assert bits.tolist() == stored[0].evaluation.inside.int().tolist()
    assert (tmp_path / "procedural-cars" / "test.lst").read_text() == ""


def test_onet_with_points_to_measure_with_and_a_missing_model(tmp_path: Path) -> None:
    folder = tmp_path / "02958343" / "abc"
    folder.mkdir(parents=True)
    points = np.linspace(-0.5, 0.5, 30).reshape(10, 3)
    np.savez(folder / "points_iou.npz", points=points, occupancies=np.packbits(np.arange(10) % 2))
    np.savez(folder / "pointcloud.npz", points=points, normals=points)
    (tmp_path / "02958343" / "val.lst").write_text("abc\ngone\n")
    source = OnetSamples(tmp_path)
    assert (source.names(), source.splits()) == (["02958343/abc", "02958343/gone"], ["val", "val"])
    assert OnetSamples(tmp_path / "02958343").names() == source.names()  # one class alone
    assert source.load_samples(0).evaluation.inside.tolist() == [False, True] * 5
    stored = prepare_set(source, tmp_path / "set", engine=LocalEngine(0))
    assert stored.names() == ["02958343/abc"]
    assert "listed, but holds neither" in stored.left_out["02958343/gone"]


def test_deepsdf_round_trip(stored: StoredSet, tmp_path: Path) -> None:
    export_deepsdf(stored, tmp_path, pool="balanced_surface-99")
    assert json.loads((tmp_path / "procedural-cars_train.json").read_text()) == {
        "procedural-cars": {"shapes": stored.names()}
    }
    source = DeepSdfSamples(tmp_path, frame="original")
    assert source.splits() == ["train"] * 3
    for position in range(3):
        pool, ours = source.load_samples(position).pools["sdf"], stored[position].pools["balanced_surface-99"]
        order = torch.argsort((ours.signed_distance <= 0).int(), stable=True)  # positive ones first
        assert torch.allclose(pool.points, ours.points[order], atol=1e-6)
        assert torch.allclose(pool.signed_distance, ours.signed_distance[order], atol=1e-6)


def test_deepsdf_in_its_sphere(stored: StoredSet, tmp_path: Path) -> None:
    export_deepsdf(stored, tmp_path)
    with np.load(tmp_path / "SdfSamples/procedural-cars/shapes" / f"{stored.names()[0]}.npz") as file:
        assert (file["pos"].dtype, file["pos"].shape[1], file["neg"].shape[1]) == (np.float32, 4, 4)
        assert (file["pos"][:, 3] > 0).all()
        assert (file["neg"][:, 3] <= 0).all()
    mesh = stored.load(0)
    radius = mesh.vertices.norm(dim=1).max()
    pool = DeepSdfSamples(tmp_path).load_samples(0).pools["sdf"]
    surface = Surface(type(mesh)(mesh.vertices * 0.5 / (1.03 * radius), mesh.faces))
    assert torch.allclose(surface.signed_distance(pool.points), pool.signed_distance, atol=1e-6)


def test_deepsdf_leaves_out_what_is_not_finite(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "SdfSamples/a/b"
    folder.mkdir(parents=True)
    rows = np.ones((4, 4), np.float32)
    rows[2, 3] = np.nan
    np.savez(folder / "c.npz", pos=rows, neg=-rows[:2])
    source = DeepSdfSamples(tmp_path)
    assert source.names() == ["a/b/c"]
    assert len(source.load_samples(0).pools["sdf"].points) == 5
    assert "1 samples are not finite" in caplog.text
    (tmp_path / "x_test.json").write_text(json.dumps({"a": {"b": ["c", "d"]}}))
    source = DeepSdfSamples(tmp_path)
    assert source.splits() == ["test", "test"]
    with pytest.raises(DataError, match=r"d\.npz: no such file"):
        source.load_samples(1)
    (tmp_path / "x_test.json").write_text(json.dumps({"a": {"b": ["../../secret"]}}))
    with pytest.raises(DataError, match="is not the name of a shape"):
        DeepSdfSamples(tmp_path)


def test_ifnet(tmp_path: Path) -> None:
    folder = tmp_path / "02958343" / "abc"
    folder.mkdir(parents=True)
    points = np.random.default_rng(0).uniform(-0.6, 0.6, (20, 3))
    for sigma in ("0.1", "0.01"):
        np.savez(
            folder / f"boundary_{sigma}_samples.npz",
            points=points,
            occupancies=points[:, 0] > 0,
            grid_coords=points * 2,
        )
    for count in (300, 3000):
        cloud = np.full((count, 3), 0.25)
        np.savez(folder / f"voxelized_point_cloud_128res_{count}points.npz", point_cloud=cloud, res=128)
    save_mesh(cube(), folder / "isosurf_scaled.off")
    source = IfNetSamples(tmp_path)
    assert (source.names(), source.splits()) == (["02958343/abc"], [""])
    samples = source.load_samples(0)
    assert sorted(samples.pools) == ["boundary_0.01", "boundary_0.1"]
    assert samples.pools["boundary_0.1"].occupancy.tolist() == (points[:, 0] > 0).tolist()
    assert len(samples.cloud) == 3000
    assert len(samples.mesh.faces) == 12
    np.savez(tmp_path / "split_shapenet.npz", train=np.array(["/02958343/abc"]), test=np.array(["/02958343/no"]))
    source = IfNetSamples(tmp_path)
    assert (source.names(), source.splits()) == (["02958343/abc", "02958343/no"], ["train", "test"])
    with pytest.raises(DataError, match="holds no samples"):
        source.load_samples(1)
    np.savez(tmp_path / "split_shapenet.npz", train=np.array(["/../abc"]))
    with pytest.raises(DataError, match="not the name of a shape"):
        IfNetSamples(tmp_path)


@pytest.mark.parametrize("place", ["model.obj", "models/model_normalized.obj"])
def test_shapenet(tmp_path: Path, place: str) -> None:
    for kind, model in (("02691156", "a"), ("02691156", "b"), ("02958343", "c")):
        file = tmp_path / kind / model / place
        file.parent.mkdir(parents=True)
        save_mesh(cube(), file)
    assert ShapeNet(tmp_path).splits() == ["", "", ""]
    (tmp_path / "all.csv").write_text(
        "id,synsetId,subSynsetId,modelId,split\n0,2691156,0,a,train\n1,02691156,0,b,val\n2,02958343,0,c,test\n"
    )
    source = ShapeNet(tmp_path)
    assert source.names() == ["02691156/a", "02691156/b", "02958343/c"]
    assert source.splits() == ["train", "val", "test"]
    assert len(source.load(2).faces) == 12
    assert source.fingerprint(0) == source.fingerprint(1)
    assert ShapeNet(tmp_path / "02691156").splits() == ["train", "val"]  # one class, the table above it
    (tmp_path / "02691156/test.lst").write_text("b\nlost\n")
    source = ShapeNet(tmp_path / "02691156")
    assert (source.names(), source.splits()) == (["02691156/b", "02691156/lost"], ["test", "test"])
    with pytest.raises(DataError, match="listed, but holds neither"):
        source.load(1)
    (tmp_path / "02691156/train.lst").write_text("b\n")
    with pytest.raises(DataError, match="is also in"):
        ShapeNet(tmp_path / "02691156")


@pytest.mark.parametrize("kind", ["folder", "shapenet", "onet", "deepsdf", "ifnet", "stored"])
def test_nothing_there(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError, match="nowhere"):
        open_source(f"{kind}:{tmp_path / 'nowhere'}")
    with pytest.raises(DataError, match=str(tmp_path)):
        open_source(f"{kind}:{tmp_path}")
    with pytest.raises(ConfigError, match="expected procedural"):
        open_source(kind)


def points_file(**changes: object) -> dict[str, object]:
    return {"points": np.zeros((16, 3), np.float16), "occupancies": np.zeros(2, np.uint8), **changes}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (points_file(points=np.zeros((16, 2))), "points: expected numbers"),
        (points_file(points=np.array(["a"] * 3)), "points: expected numbers"),
        (points_file(points=np.full((16, 3), np.inf)), "finite"),
        (points_file(occupancies=np.zeros(3, np.uint8)), "occupancies: expected bits or booleans of 16 points"),
        (points_file(occupancies=np.zeros(16)), "occupancies: expected bits"),
        ({"points": np.zeros((16, 3))}, "holds no array 'occupancies'"),
        (points_file(points=np.array([{}], dtype=object)), "Python objects"),
    ],
)
def test_damaged_samples_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    folder = tmp_path / "class" / "model"
    folder.mkdir(parents=True)
    np.savez(folder / "points.npz", **arrays)
    with pytest.raises(DataError, match=rf"points\.npz.*{message}"):
        OnetSamples(tmp_path).load_samples(0)
