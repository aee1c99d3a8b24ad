from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import trimesh

from pyimplicit.cli import main
from pyimplicit.cli.parser import parse

# Arguments after which a command has all it needs but what the case gets wrong.
OUT = ["--out", "out.npz"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a good mesh, an open one and some bad files."""
    monkeypatch.chdir(tmp_path)
    trimesh.creation.icosphere(2, radius=0.4).export("ball.obj")
    trimesh.creation.box((2.0, 1.0, 1.0)).export("box.stl")
    Path("corrupt.obj").write_text("v 0 0 0\nf 1 2 3\n")
    Path("noise.ply").write_bytes(b"\x00\x01\x02 not a mesh")
    Path("empty.off").write_text("")
    Path("mesh.xyzw").write_text("what?")
    Path("bad.yaml").write_text("networks: [onet")
    Path("unknown.yaml").write_text("netwroks: [onet]")
    Path("cloud.npy").write_bytes(b"junk")
    Path("busy").mkdir()
    Path("busy/thesis.txt").write_text("precious")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "required: COMMAND"),
        ("smaple ball.obj", "invalid choice: 'smaple'"),
        ("data", "required: COMMAND"),
        ("data fetch shapenet", "debian-cars"),
        ("data prepare shapenet --out prepared", "'shapenet'"),
        ("data prepare folder:nowhere --out prepared", "nowhere"),
        ("data prepare procedural --out prepared --count 0", "count"),
        ("data prepare procedural --out prepared --count 1 --resolution 1", "resolution"),
        ("prepare procedural --out busy --count 1", "busy"),
        ("prepare procedural --out prepared --count 1 --pools linear", "STRATEGY:COUNT"),
        ("prepare procedural --out prepared --count 1 --pools gaussian:20", "gaussian"),
        ("prepare procedural --out prepared --count 1 --seconds 0", "seconds"),
        ("prepare onet:nowhere --out prepared", "nowhere"),
        ("data export busy --format onet --out exported", "busy"),
        ("data verify nowhere", "nowhere"),
        ("data unpack noise.ply --out unpacked", "noise.ply"),
        ("sample none.obj --out out.npz", "none.obj"),
        ("sample corrupt.obj --out out.npz", "corrupt.obj"),
        ("sample noise.ply --out out.npz", "noise.ply"),
        ("sample empty.off --out out.npz", "empty.off"),
        ("sample mesh.xyzw --out out.npz", "mesh.xyzw"),
        ("sample busy --out out.npz", "busy"),
        ("sample ball.obj", "--out"),
        ("sample ball.obj --out out.txt", "expected a file ending in .npz, .ply, .safetensors, got 'out.txt'"),
        ("sample ball.obj --out nowhere/out.npz", "nowhere"),
        ("sample ball.obj --out out.npz --strategy gaussian", "gaussian"),
        ("sample ball.obj --out out.npz --count 0", "count"),
        ("sample ball.obj --out out.npz --count many", "invalid int value: 'many'"),
        ("sample ball.obj --out out.npz --seed -1", "seed"),
        ("train --out run", "--network"),
        ("train --network resnet --out run", "resnet"),
        ("train --network onet --out run --steps 0", "steps"),
        ("train --network onet --out run --scale huge", "huge"),
        ("train --network onet --out run --field density", "density"),
        ("train --network onet --out run --set stepz=3", "stepz"),
        ("train --network onet --out run --set steps", "KEY=VALUE"),
        ("train --network onet --out run --shapes 0", "--shapes"),
        ("train --config none.yaml --out run", "none.yaml"),
        ("reconstruct none ball.obj --out out.ply", "none"),
        ("reconstruct ball.obj ball.obj --out out.ply", "ball.obj"),
        ("evaluate none.obj ball.obj", "none.obj"),
        ("evaluate ball.obj corrupt.obj", "corrupt.obj"),
        ("evaluate ball.obj ball.obj --samples 0", "samples"),
        ("evaluate ball.obj ball.obj --thresholds -1", "threshold"),
        ("study --out busy", "not the folder of a study and not empty"),
        ("study --out busy/thesis.txt", "expected a folder"),
        ("study --scale huge --out out", "huge"),
        ("study --networks resnet --out out", "resnet"),
        ("study --strategies gaussian --out out", "gaussian"),
        ("study --fields onet=occ sdf --out out", "mixture"),
        ("study --fields density --out out", "density"),
        ("study --processes -1 --out out", "processes"),
        ("study --device tpu --out out", "device"),
        ("study --seeds x --out out", "invalid int value: 'x'"),
        ("study --train 0 --out out", "data.train"),
        ("study --set onet.stepz=3 --out out", "stepz"),
        ("study --config none.yaml --out out", "none.yaml"),
        ("study --config bad.yaml --out out", "bad.yaml"),
        ("study --config unknown.yaml --out out", "netwroks: unknown key (did you mean networks?)"),
        ("study --data folder:nowhere --out out", "nowhere"),
        ("study status busy", "not the folder of a study"),
        ("study status nowhere", "not the folder of a study"),
        ("study table busy", "not the folder of a study"),
        ("study report busy", "not the folder of a study"),
        ("study figures busy", "not the folder of a study"),
        ("study table", "required: FOLDER"),
    ],
)
@pytest.mark.usefixtures("place")
def test_bad_input_ends_with_code_2_and_one_line(
    command: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split()) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("pyimplicit: error: ")
    assert message in lines[-1]
    assert not any("Traceback" in line for line in lines)


def test_a_traceback_on_request(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYIMPLICIT_DEBUG", "1")
    assert main(["sample", "none.obj", *OUT]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_help_and_version_without_torch() -> None:
    script = "import sys; from pyimplicit.cli import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    for argument in ("--help", "--version"):
        done = subprocess.run([sys.executable, "-c", script, argument], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "False"


def test_a_process_ends_with_the_code(place: Path) -> None:
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "pyimplicit", "sample", "none.obj", *OUT],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert not list(place.glob("out*"))


def test_study_alone_means_study_run() -> None:
    assert parse(["study"]).command == "study_run"
    assert parse(["study", "--out", "x"]).out == "x"
    assert parse(["study", "run", "--scale", "small"]).scale == "small"
    assert parse(["study", "status", "x"]).command == "study_status"


def test_samples_agree_with_the_sphere(place: Path) -> None:
    for suffix in ("npz", "safetensors", "ply"):
        assert main(["sample", "ball.obj", "--strategy", "S_BS", "--count", "500", "--out", f"out.{suffix}"]) == 0
    with np.load("out.npz") as stored:
        points, distance = stored["points"], stored["signed_distance"]
        assert (str(stored["strategy"]), str(stored["seed"])) == ("balanced_surface", "0")
    # Normalised: radius 0.5; a subdivided icosahedron stays inside its sphere by a few per cent.
    np.testing.assert_allclose(distance, np.linalg.norm(points, axis=1) - 0.5, atol=0.02)
    tensors = safetensors.numpy.load_file("out.safetensors")
    np.testing.assert_array_equal(tensors["points"], points)
    np.testing.assert_array_equal(tensors["signed_distance"], distance)
    np.testing.assert_array_equal(np.asarray(trimesh.load("out.ply").vertices, dtype=np.float32), points)


def test_sampling_keeps_a_mesh_as_it_is_on_request(place: Path) -> None:
    assert main(["sample", "ball.obj", "--no-normalize", "--strategy", "near_surface", "--count", "100", *OUT]) == 0
    with np.load("out.npz") as stored:
        assert np.abs(np.linalg.norm(stored["points"], axis=1) - 0.4).max() < 0.1


def test_a_picture_of_the_samples(place: Path) -> None:
    assert main(["sample", "ball.obj", "--count", "100", "--plot", "out.png", *OUT]) == 0
    assert Path("out.png").stat().st_size > 10_000


def test_evaluate_a_mesh_against_itself(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = ["--samples", "2000", "--iou-points", "2000"]
    assert main(["evaluate", "ball.obj", "ball.obj", "--json", *counts]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert (scores["iou"], scores["f_score"], scores["nearest"]) == (1.0, 1.0, "surface")
    assert scores["normal_consistency"] >= 0.999
    assert main(["evaluate", "ball.obj", "ball.obj", *counts]) == 0
    printed = capsys.readouterr().out
    assert "iou: 1   (volume of intersection over volume of union" in printed
    assert main(["evaluate", "ball.obj", "ball.obj", *counts, "--preset", "onet", "--floor", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert (scores["onet"]["iou"], scores["floor"]["iou"]) == (1.0, 1.0)
    assert scores["onet"]["chamfer-L1"] == scores["chamfer_l1"] == scores["floor"]["chamfer_l1"] > 0


def test_evaluate_folders(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("truth/a.obj", "truth/b.obj", "found/a.obj", "found/c.obj"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(Path("ball.obj").read_bytes())
    evaluate = ["evaluate", "found", "truth", "--samples", "200", "--iou-points", "500"]
    assert main([*evaluate, "--preset", "convonet"]) == 1
    found = capsys.readouterr()
    assert "2 shapes, 1 of them measured, convonet" in found.out
    assert "iou: 0.5   (volume of intersection over volume of union, no unit, best 1; 500 points" in found.out
    assert "convonet: normals: " in found.out
    assert "b: counts with the worst scores: no file of this name" in found.err
    assert "found/c.obj: in no mean" in found.err
    assert {path.name for path in Path("found/scores").iterdir()} == {"scores.csv", "scores.json", "shapes"}
    Path("found/b.obj").write_bytes(Path("ball.obj").read_bytes())
    assert main([*evaluate, "--out", "out", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["means"]["iou"], facts["failed"], facts["unmatched"]) == (1.0, {}, ["found/c.obj"])
    assert main(["evaluate", "found", "ball.obj"]) == 2
    assert "expected two files or two folders" in capsys.readouterr().err


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    assert "cuda" in capsys.readouterr().out
    assert main(["info", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"versions", "machine", "build", "cuda"}


def test_data_list_and_prepare(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    assert "procedural" in capsys.readouterr().out
    few = ["--cloud", "100", "--evaluation", "80", "--processes", "0"]
    assert main(["data", "prepare", "procedural", "--count", "1", "--out", "prepared", *few]) == 0
    assert "1 of 1 shapes in prepared, content" in capsys.readouterr().out
    assert [path.name for path in Path("prepared").rglob("*.safetensors")] == ["00000.safetensors"]


def test_train_reconstruct_evaluate(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = "network_config={code_size: 16, hidden_size: 16, decoder_size: 16}"
    settings = [small, "batch_size=2", "pool_size=2000", "cloud_pool=500", "learning_rate=3e-3"]
    train = ["train", "--network", "onet", "--strategy", "uniform", "--steps", "60", "--shapes", "2", "--out", "run"]
    assert main([*train, "--set", *settings]) == 0
    assert "run: 60 steps" in capsys.readouterr().out
    car = str(next(Path("run/data").rglob("*.safetensors")))
    capsys.readouterr()
    code = main(["reconstruct", "run", "ball.obj", "box.stl", "--resolution", "16", "--out", "meshes"])
    found = capsys.readouterr()
    assert code == (1 if "no reconstruction" in found.err else 0)
    # A cloud of the ball gives what its mesh gives to a network that sees points only.
    np.save("points.npy", np.asarray(trimesh.load("ball.obj").vertices, dtype=np.float32)[:100])
    assert main(["reconstruct", "run", "points.npy", "--resolution", "16", "--out", "cloud.ply"]) in (0, 1)
    assert main(["reconstruct", "run", "cloud.npy", "--out", "cloud.ply"]) == 2
    assert main(["reconstruct", "run", "ball.obj", "box.stl", "--out", "one.ply"]) == 2
    assert main(["reconstruct", "run", car, "--out", "one.ply"]) == 2


MICRO = """
device: cpu
networks: [onet]
strategies: [S_BS, linear]
data: {train: 2, test: 1}
evaluation: {resolution: 20, samples: 1000, iou_points: 5000}
training:
  steps: 50
  batch_size: 2
  pool_size: 4000
  cloud_pool: 1000
  learning_rate: 3.0e-3
  network_config: {code_size: 32, hidden_size: 32, decoder_size: 32}
"""


def test_a_study_end_to_end(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("micro.yaml").write_text(MICRO)
    study = ["study", "--config", "micro.yaml", "--densities", "500", "--out", "study"]
    assert main([*study, "--processes", "2"]) == 0
    printed = capsys.readouterr().out
    assert "ONet OCC" in printed
    assert printed.splitlines()[-1] == "report: study/report.html"
    assert main(["study", "status", "study"]) == 0
    assert "2 of 2 runs finished" in capsys.readouterr().out
    assert main(["study", "table", "study", "--format", "markdown"]) == 0
    assert capsys.readouterr().out == Path("study/table.md").read_text()
    assert main(["study", "table", "study", "--format", "csv"]) == 0
    assert capsys.readouterr().out == Path("study/table.csv").read_text()
    assert main(["study", "figures", "study"]) == 0
    shown = capsys.readouterr()
    assert "study/figures/figure_4.png" in shown.out.splitlines()
    assert "Figure 10 is not drawn: the study has no run on unsigned distances" in shown.err
    records = [json.loads(line) for line in Path("study/records.jsonl").read_text().splitlines()]
    assert [record["status"] for record in records] == ["done", "done"]
    # Alone in this process, from scratch: the same results to the last bit.
    again = [*study[:-1], "again", "--processes", "0", "--quiet"]
    assert main(again) == 0
    assert Path("again/table.csv").read_text() == Path("study/table.csv").read_text()
    assert main([*study, "--seeds", "1"]) == 2
    assert "differing in seeds" in capsys.readouterr().err
