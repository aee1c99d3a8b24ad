"""Stored sets: the same whatever carries out the work, nothing lost or doubled, every failure reported."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pyimplicit.data import LabelledPoints, PrepareConfig, ProceduralCars, ShapeSamples, StoredSet, prepare_set
from pyimplicit.data.prepare_shape import prepare_mesh
from pyimplicit.data.samples import hash_tensors
from pyimplicit.data.store import pending_path, read_pending
from pyimplicit.engines import LocalEngine
from pyimplicit.errors import DataError, MeshError
from pyimplicit.geometry import Surface
from pyimplicit.geometry.mesh import Mesh, take_faces
from tests.engines.jobs import environment
from tests.geometry.shapes import ball, cube

SMALL = PrepareConfig(resolution=24, cloud=60, evaluation=50, pools=(("linear", 40),), shard_size=3)
HERE = LocalEngine(0)
HOLED = take_faces(Mesh(ball().vertices * 6 + 20, ball().faces), np.arange(3, 1280))


class Deeds:
    """A source in which some meshes hang, crash or cannot be closed."""

    name = "deeds"

    def __init__(self, *deeds: str) -> None:
        self.deeds = deeds

    def __len__(self) -> int:
        return len(self.deeds)

    def names(self) -> list[str]:
        return [f"{index} {deed}" for index, deed in enumerate(self.deeds)]

    def groups(self) -> list[str]:
        return [f"group {index // 2}" for index in range(len(self))]

    def splits(self) -> list[str]:
        return [("train", "test")[index % 2] for index in range(len(self))]

    def load(self, index: int) -> Mesh:
        deed = self.deeds[index]
        if deed == "hang":
            time.sleep(60)
        if deed == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if deed == "broken":
            raise MeshError("broken on purpose")
        return {"holed": HOLED, "cube": cube(), "ball": ball()}[deed]


class Samples:
    """A source of samples without meshes."""

    name = "samples"

    def __len__(self) -> int:
        return 2

    def names(self) -> list[str]:
        return ["a", "b"]

    groups = names

    def load_samples(self, index: int) -> ShapeSamples:
        points = torch.full((5, 3), 0.1 * index)  # used twice, which safetensors does not like
        return ShapeSamples(cloud=points, pools={"theirs": LabelledPoints(points, occupancy=torch.arange(5) > 2)})


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_a_set_holds_closed_meshes_and_exact_labels(tmp_path: Path) -> None:
    stored = prepare_set(Deeds("holed", "cube", "ball", "broken"), tmp_path / "set", SMALL, engine=HERE)
    assert stored.names() == ["0 holed", "1 cube", "2 ball"]
    assert stored.groups() == ["group 0", "group 0", "group 1"]
    assert stored.splits() == ["train", "test", "train"]
    assert stored.left_out == {"3 broken": "MeshError: broken on purpose"}
    for position, samples in enumerate(stored):
        surface = Surface(stored.load(position))
        assert surface.is_closed
        assert samples.cloud is not None
        assert samples.evaluation is not None
        assert surface.unsigned_distance(samples.cloud).max() < 1e-6
        for points, count in ((samples.evaluation, 50), (samples.pools["linear-40"], 40)):
            assert points.points.shape == (count, 3)
            assert torch.allclose(points.signed_distance, surface.signed_distance(points.points), atol=1e-6)
    reports = dict(stored.report())
    assert (reports["0 holed"]["method"], reports["1 cube"]["method"]) == ("winding", "none")
    stored.verify()
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert manifest["config"]["seed"] == 0
    assert "torch" in manifest["versions"]
    assert "mesh units" in manifest["units"]
    lines = (tmp_path / "set" / "report.csv").read_text().splitlines()
    assert [line.split(",")[4] for line in lines] == ["status", "stored", "stored", "stored", "left out"]
    assert StoredSet(tmp_path / "set", split="test").names() == ["1 cube"]
    with pytest.raises(ValueError, match="split: expected one of test, train"):
        StoredSet(tmp_path / "set", split="val")


def test_closed_meshes_of_fewer_faces(tmp_path: Path) -> None:
    pytest.importorskip("fast_simplification")
    few = replace(SMALL, faces=300)
    stored = prepare_set(Deeds("holed", "ball"), tmp_path / "few", few, engine=HERE)
    whole = prepare_set(Deeds("holed", "ball"), tmp_path / "whole", SMALL, engine=HERE)
    for position, (_, report) in enumerate(stored.report()):
        mesh = stored.load(position)
        assert report["after"]["faces"] == len(mesh.faces) <= 315
        assert report["simplified_from"] == len(whole.load(position).faces)
        assert Surface(mesh).is_closed
    # Sets that were made before there was a choice go on serving as they are.
    assert "faces" not in SMALL.identity()
    assert few.identity()["faces"] == 300


def test_closed_meshes_of_a_finer_grid(tmp_path: Path) -> None:
    coarse = replace(SMALL, method="fusion", resolution=16)
    fine = replace(coarse, detail=2)
    faces = {}
    for name, config in (("coarse", coarse), ("fine", fine)):
        stored = prepare_set(Deeds("holed"), tmp_path / name, config, engine=HERE)
        ((_, report),) = stored.report()
        assert (report["resolution"], report["detail"]) == (16, config.detail)
        assert Surface(stored.load(0)).is_closed
        faces[name] = len(stored.load(0).faces)
    assert faces["fine"] > 3 * faces["coarse"]
    assert "detail" not in coarse.identity()
    with pytest.raises(DataError, match="differs in its config"):
        prepare_set(Deeds("holed"), tmp_path / "coarse", fine, engine=HERE)


def test_a_second_run_does_nothing(tmp_path: Path) -> None:
    prepare_set(ProceduralCars(4, resolution=16), tmp_path, SMALL, engine=HERE)
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in files(tmp_path) if name != "set.lock"}
    calls: list[tuple[int, int]] = []

    class Engine:
        def outcomes(self, *_: object, **__: object) -> object:
            raise AssertionError("nothing is left to do")

    cars = ProceduralCars(4, resolution=16)
    prepare_set(cars, tmp_path, SMALL, engine=Engine(), progress=lambda *call: calls.append(call))  # type: ignore[arg-type]
    assert before == {name: (tmp_path / name).stat().st_mtime_ns for name in files(tmp_path) if name != "set.lock"}
    assert calls == [(4, 4)]
    assert before.keys() == {
        "manifest.json", "report.csv", "settings.json",
        "shards/00000.json", "shards/00000.safetensors", "shards/00001.json", "shards/00001.safetensors",
    }  # fmt: skip


def test_processes_and_threads_change_nothing_and_a_hang_or_a_crash_costs_one_mesh(tmp_path: Path) -> None:
    deeds = Deeds("holed", "hang", "cube", "crash", "ball", "holed")
    stored = prepare_set(deeds, tmp_path / "two", SMALL, engine=LocalEngine(2), seconds=4, threads=1)
    assert stored.left_out == {
        "1 hang": "took longer than 4 s",
        "3 crash": "worker process killed by SIGKILL (2 attempts)",
    }
    assert stored.names() == ["0 holed", "2 cube", "4 ball", "5 holed"]
    for position, index in enumerate((0, 2, 4, 5)):  # the same bits as in this process, with other threads
        alone, _ = prepare_mesh(deeds.load(index), stored.names()[position], SMALL)
        assert hash_tensors(alone.tensors()) == hash_tensors(stored[position].tensors())


def test_the_content_depends_on_nothing_but_source_and_configuration(tmp_path: Path) -> None:
    def content(folder: str, config: PrepareConfig = SMALL) -> str:
        return prepare_set(ProceduralCars(4, resolution=16), tmp_path / folder, config, engine=HERE).content

    first = content("a")
    assert content("b") == first
    assert content("c", replace(SMALL, shard_size=2)) == first
    assert content("d", replace(SMALL, seed=1)) != first
    shards = [(tmp_path / folder / "shards/00000.safetensors").read_bytes() for folder in ("a", "b")]
    assert shards[0] == shards[1]


SCRIPT = """
import sys
from pathlib import Path
from pyimplicit.data import ProceduralCars, prepare_set
from pyimplicit.engines import LocalEngine
from tests.data.test_preparing import SMALL
if __name__ == "__main__":
    def progress(done, total):
        Path(sys.argv[1] + ".progress").write_text(str(done))
    cars = ProceduralCars(40, resolution=16)
    stored = prepare_set(cars, sys.argv[1], SMALL, engine=LocalEngine(0), progress=progress)
    print(stored.content)
"""


def test_killed_at_any_moment_it_loses_and_doubles_nothing(tmp_path: Path) -> None:
    expected = prepare_set(ProceduralCars(40, resolution=16), tmp_path / "whole", SMALL, engine=HERE).content
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    out = tmp_path / "set"
    command = [sys.executable, str(script), str(out)]
    random = np.random.default_rng(0)
    seen = 0
    for _ in range(2):
        with subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL) as process:
            progress = Path(f"{out}.progress")
            until = seen + int(random.integers(3, 15))
            while process.poll() is None and not (progress.exists() and int(progress.read_text() or 0) >= until):
                time.sleep(0.002)
            process.kill()
        shards = [json.loads(path.read_text()) for path in (out / "shards").glob("*.json")]
        whole = [entry["index"] for shard in shards for entry in shard["entries"]]
        pending = {int(path.stem) for path in (out / "pending").glob("*.safetensors")} - set(whole)
        assert len(whole) == len(set(whole))
        assert len(whole) + len(pending) >= until - 1 > seen  # at most the shape in the making is lost
        seen = len(whole) + len(pending)
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
    StoredSet(out).verify()
    assert not [name for name in files(out) if "pending" in name or "tmp" in name]


def test_damaged_files_are_made_anew_or_refused(tmp_path: Path) -> None:
    cars = ProceduralCars(4, resolution=16)
    expected = prepare_set(cars, tmp_path, SMALL, engine=HERE).content
    shard = tmp_path / "shards/00001.safetensors"
    content = shard.read_bytes()
    shard.write_bytes(content[:-8])
    with pytest.raises(DataError, match=r"00001\.safetensors"):
        StoredSet(tmp_path)[3]
    assert prepare_set(cars, tmp_path, SMALL, engine=HERE).content == expected  # truncated: seen by its length
    shard.write_bytes(content[:-8] + b"\xff" * 8)
    with pytest.raises(DataError, match="not what the manifest says"):
        StoredSet(tmp_path).verify()
    # A damaged pending shape is found when its shard is made.
    (tmp_path / "shards/00001.json").unlink()
    pending_path(tmp_path, 3).write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00 noise")
    assert read_pending(pending_path(tmp_path, 3)) is None
    assert prepare_set(cars, tmp_path, SMALL, engine=HERE).content == expected
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match="format"):
        StoredSet(tmp_path)


def test_what_killed_processes_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "pending").mkdir()
    (tmp_path / "shards").mkdir()
    for name in ("pending/.00000001.safetensors.0123.tmp", "shards/.00000.safetensors.0123.tmp", "shards/.tmpAb1Cd2"):
        (tmp_path / name).touch()
    prepare_set(ProceduralCars(2, resolution=16), tmp_path, SMALL, engine=HERE)
    assert not [name for name in files(tmp_path) if "tmp" in name]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_all_files_of_a_set_may_be_read_by_the_same_people(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        prepare_set(ProceduralCars(2, resolution=16), tmp_path, SMALL, engine=HERE)
    finally:
        os.umask(before)
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in files(tmp_path)} == {0o666 & ~mask}


def test_a_shard_of_more_shapes_than_a_process_may_open_files(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    config = replace(SMALL, shard_size=100)
    taken = len(list(Path("/proc/self/fd").iterdir()))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 40, limits[1]))
        prepare_set(ProceduralCars(100, resolution=16), tmp_path, config, engine=HERE)
        assert len(StoredSet(tmp_path)) == 100
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_shape_that_cannot_be_read_now_is_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that is damaged would be."""

    def refuse(path: Path) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("pyimplicit.data.store.MappedTensors", refuse)
    with pytest.raises(DataError, match="Too many open files"):
        prepare_set(ProceduralCars(4, resolution=16), tmp_path, SMALL, engine=HERE)
    monkeypatch.undo()
    assert list((tmp_path / "pending").glob("*.safetensors"))
    prepare_set(ProceduralCars(4, resolution=16), tmp_path, SMALL, engine=HERE)


def test_nothing_stays_behind_of_the_sizes_of_meshes(tmp_path: Path) -> None:
    """What is kept by ctypes for every size that is written once would be 270 MiB in 50,000 shapes."""
    prepare_set(ProceduralCars(4, resolution=16), tmp_path / "first", SMALL, engine=HERE)
    kept = len(ctypes._pointer_type_cache)  # type: ignore[attr-defined]
    stored = prepare_set(ProceduralCars(12, seed=1, resolution=24), tmp_path / "second", SMALL, engine=HERE)
    assert len({len(stored.load(position).vertices) for position in range(12)}) > 8
    assert len(ctypes._pointer_type_cache) == kept  # type: ignore[attr-defined]


def test_what_was_left_out_can_be_tried_again(tmp_path: Path) -> None:
    source = Deeds("cube", "broken", "ball", "cube")
    assert len(prepare_set(source, tmp_path, SMALL, engine=HERE)) == 3

    class Mended(Deeds):
        def load(self, index: int) -> Mesh:
            return cube() if self.deeds[index] == "broken" else super().load(index)

    mended = Mended(*source.deeds)
    assert len(prepare_set(mended, tmp_path, SMALL, engine=HERE)) == 3
    stored = prepare_set(mended, tmp_path, SMALL, engine=HERE, retry=True)
    assert stored.names() == source.names()
    stored.verify()


def test_a_folder_serves_one_set(tmp_path: Path) -> None:
    prepare_set(ProceduralCars(2, resolution=16), tmp_path / "set", SMALL, engine=HERE)
    with pytest.raises(DataError, match="differs in its config"):
        prepare_set(ProceduralCars(2, resolution=16), tmp_path / "set", replace(SMALL, cloud=7), engine=HERE)
    with pytest.raises(DataError, match="differs in its shapes"):
        prepare_set(ProceduralCars(3, resolution=16), tmp_path / "set", SMALL, engine=HERE)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").touch()
    with pytest.raises(DataError, match=r"thesis\.txt"):
        prepare_set(ProceduralCars(2), tmp_path / "mine", SMALL, engine=HERE)
    with pytest.raises(DataError, match="no shape could be prepared; the first, 0 broken: MeshError"):
        prepare_set(Deeds("broken"), tmp_path / "none", SMALL, engine=HERE)


def test_a_full_disk_is_a_typed_error_and_the_set_goes_on_afterwards(tmp_path: Path) -> None:
    """Files may not grow beyond some bytes, as on a disk that is nearly full."""
    cars = ProceduralCars(4, resolution=16)
    expected = prepare_set(cars, tmp_path / "whole", SMALL, engine=HERE).content
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    try:
        with pytest.raises(DataError, match=f"cannot be written: .*{os.strerror(errno.EFBIG)}"):
            prepare_set(cars, tmp_path / "set", SMALL, engine=HERE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert prepare_set(cars, tmp_path / "set", SMALL, engine=HERE).content == expected


def test_a_target_that_is_no_folder_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        prepare_set(ProceduralCars(1), tmp_path / "file", SMALL, engine=HERE)


def test_a_source_of_samples_is_stored_as_it_is(tmp_path: Path) -> None:
    stored = prepare_set(Samples(), tmp_path, SMALL, engine=HERE)
    assert stored[1].pools["theirs"].inside.tolist() == [False, False, False, True, True]
    assert torch.equal(stored[1].pools["theirs"].points, torch.full((5, 3), 0.1))
    assert torch.equal(stored.tensor(1, "cloud.points"), torch.full((5, 3), 0.1))
    with pytest.raises(DataError, match="without its mesh"):
        stored.load(0)


def test_a_set_is_read_in_workers_and_kept_on_the_device_where_it_fits(tmp_path: Path) -> None:
    prepare_set(ProceduralCars(4, resolution=16), tmp_path, SMALL, engine=HERE)
    stored = StoredSet(tmp_path, cache_bytes=10**9)
    first = stored[0]
    assert stored[0] is first  # kept
    copy = pickle.loads(pickle.dumps(stored))
    assert copy[0] is not first
    assert hash_tensors(copy[0].tensors()) == hash_tensors(first.tensors())
    size = sum(tensor.numel() * tensor.element_size() for tensor in first.tensors().values())
    half = StoredSet(tmp_path, cache_bytes=size + 1)
    kept = [half[position] is half[position] for position in range(4)]
    assert kept == [True, False, False, False]
    loader = torch.utils.data.DataLoader(stored, batch_size=None, num_workers=1, multiprocessing_context="spawn")
    assert [hash_tensors(samples.tensors()) for samples in loader] == [hash_tensors(s.tensors()) for s in stored]
    with pytest.raises(IndexError, match="position"):
        stored[4]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"cloud": -1}, ValueError), ({"shard_size": 0}, ValueError), ({"pools": (("linear", 0),)}, ValueError),
        ({"pools": ("linear",)}, TypeError), ({"pools": (("gaussian", 3),)}, ValueError), ({"seed": 0.5}, TypeError),
        ({"evaluation_strategy": "gaussian"}, ValueError), ({"faces": 3}, ValueError), ({"method": "glue"}, ValueError),
        ({"resolution": 2048}, ValueError), ({"detail": 2}, ValueError), ({"resolution": 16, "detail": "2"}, TypeError),
        ({"method": "fusion", "detail": 0}, ValueError), ({"resolution": None}, TypeError),
        ({"method": "none", "detail": 2}, ValueError), ({"method": "none", "detail": 0}, ValueError),
        ({"method": "fusion", "resolution": 600, "detail": 2}, ValueError),
    ],
)  # fmt: skip
def test_wrong_configurations(wrong: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        PrepareConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"cloud.points": torch.zeros(3, 2)}, {"cloud.points": torch.full((2, 3), float("nan"))},
        {"cloud.normals": torch.zeros(2, 3)}, {"evaluation.points": torch.zeros(2, 3)}, {"strange": torch.zeros(2)},
        {"vertices": torch.zeros(3, 3)}, {"pool.a.points": torch.zeros(2, 3), "pool.a.occupancy": torch.zeros(2)},
        {"pool.a.signed_distance": torch.zeros(2)},
    ],
)  # fmt: skip
def test_samples_that_do_not_fit_together_are_refused(wrong: dict[str, torch.Tensor]) -> None:
    with pytest.raises(DataError, match="samples"):
        ShapeSamples.from_tensors(wrong)
