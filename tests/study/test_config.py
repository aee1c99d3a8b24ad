from __future__ import annotations

import json
from typing import Any

import pytest

from pyimplicit import _native
from pyimplicit.errors import ConfigError
from pyimplicit.study.config import RECIPES, StudyConfig, load_config
from pyimplicit.study.scales import SCALES
from pyimplicit.study.settings import differing_keys


def test_the_default_study_is_the_matrix_of_three_networks_and_five_strategies() -> None:
    runs = StudyConfig.at_scale("tiny").runs()
    assert len(runs) == 15
    assert len({run.hash for run in runs}) == len({run.name for run in runs}) == 15
    assert {(run.network, run.variant, run.field) for run in runs} == {
        ("onet", None, "occ"),
        ("convonet", "3plane", "occ"),
        ("deepsdf", None, "sdf"),
    }


def test_every_scale_and_recipe_builds() -> None:
    for scale in SCALES:
        config = StudyConfig.at_scale(scale)
        assert config.data.train == SCALES[scale]["data"]["train"]
        assert config.recipe == SCALES[scale]["recipe"]
        assert StudyConfig.from_dict(config.as_dict()).runs() == config.runs()
    widths = {
        name: StudyConfig.at_scale("tiny", networks=["onet"], recipe=name).runs()[0].training["network_config"]
        for name in RECIPES
    }
    assert widths["tiny"]
    assert widths["paper"] == widths["author"] == {}
    with pytest.raises(ConfigError, match=r"recipe: .*'own'"):
        StudyConfig.at_scale("tiny", recipe="own")


def test_a_scale_of_the_whole_programme_gives_way_to_axes_of_ones_own() -> None:
    whole = StudyConfig.at_scale("small")
    assert {run.field for run in whole.runs()} == {"occ", "sdf", "tsdf", "udf"}
    assert len({run.network for run in whole.runs()}) == 6
    own = StudyConfig.at_scale("small", networks=["onet"], strategies=["S_BS"])
    assert [(run.network, run.strategy) for run in own.runs()] == [("onet", "balanced_surface")]
    assert StudyConfig.at_scale("small", data={"train": 3}).runs()[-1].field == "udf"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"network": ["onet"]}, "network: unknown key (did you mean networks?)"),
        ({"networks": ["onett"]}, "networks: .*'onett' (did you mean onet?)"),
        ({"networks": []}, "networks: expected at least one"),
        ({"networks": "onet"}, "networks: expected a list"),
        ({"networks": ["convonet:4plane"]}, "networks: .*'4plane'"),
        ({"networks": ["onet:wide"]}, "networks: .*'wide'"),
        ({"networks": ["onet", "onet"]}, "networks: .*once"),
        ({"networks": ["convonet", "convonet:3plane"]}, "networks: .*once"),
        ({"strategies": ["unifrom"]}, "strategies: .*unifrom"),
        ({"strategies": ["S_UNI", "uniform"]}, "strategies: .*once"),
        ({"strategies": 3}, "strategies: expected a list"),
        ({"fields": ["gifs"]}, "fields.onet: .*'gifs'"),
        ({"fields": {"ifnet": ["occ"]}}, "fields: .*'ifnet'"),
        ({"fields": 1}, "fields: expected a list or a mapping"),
        ({"scale": "huge"}, "scale: .*'huge'"),
        ({"scale": ["tiny"]}, "scale: "),
        ({"seeds": [-1]}, "seeds: .*-1"),
        ({"seeds": [True]}, "seeds: .*True"),
        ({"seeds": []}, "seeds: "),
        ({"densities": [0]}, "densities: .*0"),
        ({"processes": -1}, "processes: .*-1"),
        ({"processes": 1.5}, "processes: .*1.5"),
        ({"threads": 0}, "threads: .*0"),
        ({"device": "tpu"}, "device: .*'tpu'"),
        ({"data": {"source": "shapenet"}}, "data.source: .*'shapenet'"),
        ({"data": {"source": "folder:"}}, "data.source: "),
        ({"data": {"source": 7}}, "data.source: .*7"),
        ({"data": {"trains": 3}}, "data.trains: unknown key (did you mean train?)"),
        ({"data": {"test": 0}}, "data.test: .*0"),
        ({"data": {"resolution": 2}}, "data.resolution: .*2"),
        ({"data": 3}, "data: expected a mapping"),
        ({"evaluation": {"resolution": "fine"}}, "evaluation.resolution: .*'fine'"),
        ({"evaluation": {"threshold": 0.0}}, "evaluation.threshold: .*0.0"),
        ({"evaluation": {"threshold": float("nan")}}, "evaluation.threshold: .*nan"),
        ({"evaluation": {"code_steps": 0}}, "evaluation.code_steps: .*0"),
        ({"training": {"stepz": 3}}, "training.stepz: unknown key (did you mean steps?)"),
        ({"training": {"strategy": "linear"}}, "training.strategy: set by the study itself"),
        ({"training": {"onet": {"seed": 3}}}, "training.seed: set by the study itself"),
        ({"training": {"onet": 3}}, "training.onet: expected a mapping"),
        ({"training": {"steps": 0}}, "training.steps: .*0"),
        ({"training": []}, "training: expected a mapping"),
    ],
)
def test_a_bad_value_names_its_key(values: dict[str, Any], message: str) -> None:
    pattern = message.replace("(", r"\(").replace(")", r"\)").replace("?", r"\?")
    with pytest.raises(ConfigError, match=f"^{pattern}"):
        StudyConfig.from_dict(values)


def test_the_plain_form_and_back_is_the_same_study() -> None:
    config = StudyConfig.at_scale(
        "small",
        networks=["convonet:grid32", "deepsdf"],
        fields={"deepsdf": "tsdf"},
        training={"deepsdf": {"tau": 0.05}},
    )
    again = StudyConfig.from_dict(json.loads(json.dumps(config.as_dict())))
    assert [run.hash for run in again.runs()] == [run.hash for run in config.runs()]
    assert again.identity() == config.identity()


def test_yaml_file(tmp_path: Any) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("scale: small\nnetworks: [onet]\nstrategies: [S_BS]\ndata: {train: 5}\ntraining: {steps: 3}\n")
    run = load_config(path).runs()[0]
    assert (run.strategy, run.data.train, run.training["steps"]) == ("balanced_surface", 5, 3)
    assert run.data.test == SCALES["small"]["data"]["test"]


@pytest.mark.parametrize("text", ["networks: [onet", "- 1\n- 2", "\x00", "just words"])
def test_a_file_that_is_no_configuration(tmp_path: Any, text: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"study\.yaml"):
        load_config(path)


def test_a_missing_file(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match="not found"):
        load_config(tmp_path / "none.yaml")


def test_tau_reaches_truncated_runs_only() -> None:
    config = StudyConfig.at_scale("tiny", networks=["deepsdf"], fields=["sdf", "tsdf"], training={"tau": 0.05})
    assert {(run.field, run.training["tau"]) for run in config.runs()} == {("sdf", None), ("tsdf", 0.05)}


def test_the_hash_follows_what_determines_the_result_and_nothing_else() -> None:
    base = StudyConfig.at_scale("tiny", networks=["onet"], strategies=["uniform"])

    def hash_of(**changes: Any) -> str:
        return StudyConfig.at_scale("tiny", networks=["onet"], strategies=["uniform"], **changes).runs()[0].hash

    same = [{"processes": 1}, {"data": {"root": "elsewhere"}}, {"training": {"save_every": 3}}]
    assert {hash_of(**changes) for changes in same} == {base.runs()[0].hash}
    other = [
        {"seeds": [1]},
        {"densities": [77]},
        {"threads": 2},
        {"data": {"seed": 1}},
        {"data": {"test": 1}},
        {"evaluation": {"resolution": 16}},
        {"training": {"learning_rate": 0.123}},
    ]
    assert len({base.runs()[0].hash, *(hash_of(**changes) for changes in other)}) == 1 + len(other)


@pytest.mark.parametrize(("usable", "device"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_a_gpu_that_can_be_used(usable: bool, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_native, "cuda_status", lambda: (usable, "for a reason"))
    config = StudyConfig.at_scale("tiny")
    assert config.device == device
    assert {run.training["device"] for run in config.runs()} == {device}


def test_differing_keys() -> None:
    assert differing_keys({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "e": 3}) == ["a.c", "d", "e"]
    assert differing_keys({"a": None}, {}) == ["a"]


def test_parts_are_matrices_of_their_own_and_a_run_of_two_parts_is_one() -> None:
    config = StudyConfig.from_dict(
        {
            "networks": ["onet", "deepsdf"],
            "strategies": ["uniform", "linear(tau=0.2)"],
            "fields": {"onet": ["occ", "sdf"]},
            "parts": [
                {},
                {"networks": ["onet"], "seeds": [0, 1]},
                {"networks": ["deepsdf"], "fields": ["tsdf"], "strategies": ["S_BS"], "densities": [10, 20]},
            ],
        }
    )
    runs = config.runs()
    assert len({run.name for run in runs}) == len(runs) == 6 + 4 + 2
    assert [(run.network, run.field, run.seed) for run in runs[6:]] == [
        *[("onet", "occ", 1)] * 2,
        *[("onet", "sdf", 1)] * 2,
        *[("deepsdf", "tsdf", 0)] * 2,
    ]
    assert [run.density for run in runs[-2:]] == [10, 20]
    again = StudyConfig.from_dict(config.as_dict())
    assert again == config
    assert [run.hash for run in again.runs()] == [run.hash for run in runs]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"parts": {}}, "parts: expected a list"),
        ({"parts": [1]}, "parts: expected mappings, got 1"),
        ({"parts": [{"seed": [1]}]}, "parts.seed: unknown key (did you mean seeds?)"),
        ({"parts": [{"seeds": [-1]}]}, "parts.seeds: "),
        ({"parts": [{"networks": ["onett"]}]}, "networks: .*'onett'"),
        ({"parts": [{"fields": {"ifnet": ["occ"]}}]}, "parts.fields: .*'ifnet'"),
        ({"masks": [0.0]}, "masks: .*0.0"),
        ({"masks": [0.1, 0.1]}, "masks: .*once"),
        ({"strategies": ["linear(tau=-1)"]}, "strategies: tau: "),
        ({"strategies": ["uniform(tau=1)"]}, "strategies: .*of none"),
        ({"engine": "cloud"}, "engine: .*'cloud'"),
        ({"evaluation": {"collapse_iou": 2.0}}, "evaluation.collapse_iou: .*2.0"),
    ],
)
def test_a_bad_axis_names_its_key(values: dict[str, Any], message: str) -> None:
    pattern = message.replace("(", r"\(").replace(")", r"\)").replace("?", r"\?")
    with pytest.raises(ConfigError, match=f"^{pattern}"):
        StudyConfig.from_dict({"networks": ["onet"], **values})


def test_engine_and_processes_are_no_part_of_what_a_study_is() -> None:
    one = StudyConfig.from_dict({"networks": ["onet"], "engine": "ray:head:6379", "processes": 7})
    other = StudyConfig.from_dict({"networks": ["onet"]})
    assert one.identity() == other.identity()
    assert [run.hash for run in one.runs()] == [run.hash for run in other.runs()]
