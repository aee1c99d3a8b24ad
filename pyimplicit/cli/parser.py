"""The arguments of every command. Nothing here imports torch, so that `--help` answers at once."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from pyimplicit import __version__

STRATEGY_HELP = "name or symbol of a strategy, such as uniform, S_BS or linear"
SOURCE_HELP = "such as procedural, debian-cars, folder:PATH, shapenet:PATH or stored:PATH; see `pyimplicit data list`"
PRESETS = "tiny, small or full"
SCALES = "tiny, small, gpu or paper"
STUDY_COMMANDS = {"run", "status", "table", "figures", "report", "claims", "recommend", "-h", "--help"}


class UsageError(Exception):
    """Arguments that do not fit the command; the message is one line."""


class Parser(argparse.ArgumentParser):
    """A parser that raises instead of printing its whole usage over the one line that matters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": argparse.ArgumentDefaultsHelpFormatter, **options})

    def error(self, message: str) -> NoReturn:
        """Raise with the message and where help is."""
        raise UsageError(f"{message}; see {self.prog} --help")


def parse(argv: list[str]) -> argparse.Namespace:
    """Parse arguments; `study` without a command of its own means `study run`.

    Example:
        >>> parse(["study", "--scale", "tiny"]).command
        'study_run'
    """
    if argv[:1] == ["study"] and not {*argv[1:2]} & STUDY_COMMANDS:
        argv = ["study", "run", *argv[1:]]
    return build_parser().parse_args(argv)


def build_parser() -> Parser:
    """Build the parser of all commands."""
    parser = Parser(prog="pyimplicit", description="Sampling strategies for implicit 3D reconstruction.")
    parser.add_argument("--version", action="version", version=f"pyimplicit {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _info(commands)
    _data(commands)
    _prepare(commands)
    _sample(commands)
    _train(commands)
    _profile(commands)
    _reconstruct(commands)
    _evaluate(commands)
    _study(commands)
    return parser


def _mask(text: str) -> float | None:
    return None if text == "none" else float(text)


def _add(commands: Any, name: str, function: str, text: str) -> Parser:
    command: Parser = commands.add_parser(name, help=text, description=text)
    command.set_defaults(command=function)
    return command


def _info(commands: Any) -> None:
    info = _add(commands, "info", "info", "What was built, what was found, why CUDA is or is not used.")
    info.add_argument("--json", action="store_true", help="print JSON")


def _data(commands: Any) -> None:
    text = "Data sources and stored sets: list, fetch, prepare, export, verify, unpack."
    data = commands.add_parser("data", help=text).add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add(data, "list", "data_list", "List the data sources.")
    fetch = _add(data, "fetch", "data_fetch", "Download a data set.")
    fetch.add_argument("name", metavar="NAME", help="name of the data set, such as debian-aircraft")
    fetch.add_argument("--root", help="folder to keep it in; the data layer's own by default")
    fetch.add_argument("--packages", metavar="FOLDER", help="folder of Debian packages that were downloaded before")
    _prepare_arguments(_add(data, "prepare", "prepare", "The same as `pyimplicit prepare`."))
    export = _add(data, "export", "data_export", "Write a stored set in another project's layout.")
    export.add_argument("stored", metavar="SET", help="folder that `pyimplicit prepare` filled")
    export.add_argument("--format", required=True, choices=("onet", "deepsdf"), help="whose layout")
    export.add_argument("--out", required=True, help="folder to write to")
    export.add_argument("--pool", help="pool to export; the evaluation points by default")
    verify = _add(data, "verify", "data_verify", "Compare every byte of a stored set with its hashes.")
    verify.add_argument("stored", metavar="SET", help="folder that `pyimplicit prepare` filled")
    unpack = _add(data, "unpack", "data_unpack", "Unpack a zip or tar archive, refusing dangerous ones.")
    unpack.add_argument("archive", metavar="ARCHIVE", help="zip or tar file")
    unpack.add_argument("--out", required=True, help="new folder")


def _prepare(commands: Any) -> None:
    text = "Make a training set of a source: closed meshes, clouds, labelled points. Goes on where it was interrupted."
    _prepare_arguments(_add(commands, "prepare", "prepare", text))


def _prepare_arguments(prepare: Parser) -> None:
    prepare.add_argument("source", metavar="SOURCE", help=SOURCE_HELP)
    prepare.add_argument("--out", required=True, help="folder of the set")
    prepare.add_argument("--count", type=int, default=100, help="number of procedural shapes")
    prepare.add_argument("--seed", type=int, default=0, help="seed of the procedural shapes and of all points")
    prepare.add_argument("--method", default="winding", help="how meshes are closed; none leaves them as they are")
    prepare.add_argument("--resolution", type=int, default=128, help="cells along the longest side of a rebuilt mesh")
    prepare.add_argument("--detail", type=int, default=1, help="cells of the grid to each of them, for fusion")
    prepare.add_argument("--faces", type=int, help="simplify closed meshes to about as many faces; all by default")
    prepare.add_argument("--cloud", type=int, default=100_000, help="points on the surface, with normals")
    prepare.add_argument("--evaluation", type=int, default=100_000, help="points to measure with")
    prepare.add_argument("--box", choices=("cube", "padded"), default="cube", help="where they lie; padded as ONet's")
    prepare.add_argument(
        "--pools", nargs="+", default=[], metavar="STRATEGY:COUNT", help="query points to store, such as linear:20000"
    )
    prepare.add_argument("--no-mesh", dest="mesh", action="store_false", help="do not store the closed meshes")
    prepare.add_argument("--shard-size", type=int, default=32, help="shapes in one file")
    prepare.add_argument("--engine", choices=("local", "ray"), default="local", help="where the work is done")
    prepare.add_argument("--processes", type=int, help="local worker processes; the number of cores by default")
    prepare.add_argument("--address", default="auto", help="HOST:PORT of the Ray cluster's head")
    prepare.add_argument("--cpus", type=float, default=1, help="CPUs of a job on Ray")
    prepare.add_argument("--seconds", type=float, default=600, help="time limit of one shape")
    prepare.add_argument("--retry", action="store_true", help="try those again that were left out")


def _sample(commands: Any) -> None:
    sample = _add(commands, "sample", "sample", "Draw query points with exact signed distances from a mesh.")
    sample.add_argument("mesh", metavar="MESH", help="mesh file")
    sample.add_argument("--strategy", default="linear", help=STRATEGY_HELP)
    sample.add_argument("--count", type=int, default=2_000, help="number of query points")
    sample.add_argument("--seed", type=int, default=0, help="seed of the points")
    sample.add_argument("--out", required=True, help="file to write: .npz, .ply or .safetensors")
    sample.add_argument("--plot", help="PNG file for a picture of the points and the histogram of their distances")
    sample.add_argument("--watertight", action="store_true", help="make the mesh watertight first")
    sample.add_argument(
        "--no-normalize",
        dest="normalize",
        action="store_false",
        help="keep the mesh as it is instead of fitting it into the cube [-0.5, 0.5]^3",
    )


def _train(commands: Any) -> None:
    train = _add(commands, "train", "train", "Train a network, or go on with a run that was interrupted.")
    _training_settings(train)
    train.add_argument("--log-dir", help="folder of TensorBoard curves")
    train.add_argument("--out", required=True, help="folder of the run")


def _profile(commands: Any) -> None:
    profile = _add(commands, "profile", "profile", "Measure what a training step costs at several numbers of points.")
    _training_settings(profile)
    profile.add_argument(
        "--densities", type=int, nargs="+", default=[2_000, 20_000], metavar="COUNT", help="query points per shape"
    )
    profile.add_argument("--measured", type=int, default=20, help="steps that are measured")
    profile.add_argument("--warm-up", type=int, default=3, help="steps before these")
    profile.add_argument("--out", required=True, help="folder of the results")


def _training_settings(command: Parser) -> None:
    command.add_argument("--config", help="YAML or JSON file of training settings")
    command.add_argument("--network", help="onet, convonet, ifnet, airnet, deepsdf, curriculum_deepsdf or ndf")
    command.add_argument("--variant", help="variant of the network")
    command.add_argument("--field", help="occ, sdf, tsdf or udf; what the network was published with by default")
    command.add_argument("--strategy", help=f"{STRATEGY_HELP}; what the network was published with by default")
    command.add_argument("--scale", default="tiny", help=f"preset of everything else: {PRESETS}")
    command.add_argument("--steps", type=int, help="optimiser steps")
    command.add_argument("--seed", type=int, help="seed of the run")
    command.add_argument("--device", help="cpu or cuda")
    command.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="further training settings")
    command.add_argument("--data", default="procedural", help=SOURCE_HELP)
    command.add_argument("--shapes", type=int, default=16, help="number of training shapes")
    command.add_argument("--data-seed", type=int, default=0, help="seed of the shapes")
    command.add_argument("--data-root", help="folder of the prepared shapes; OUT/data by default")


def _reconstruct(commands: Any) -> None:
    reconstruct = _add(commands, "reconstruct", "reconstruct", "Reconstruct surfaces with a trained network.")
    reconstruct.add_argument("run", metavar="RUN", help="folder of a training run, or a checkpoint file")
    reconstruct.add_argument(
        *("inputs",),
        metavar="INPUT",
        nargs="+",
        help="closed mesh files to observe, or, for encoder networks, point clouds (.ply, .xyz, .npy, .npz) in the "
        "cube [-0.5, 0.5]^3; or a folder of such files",
    )
    reconstruct.add_argument(
        "--out", required=True, help="file, or a folder for several inputs; files that are done are left as they are"
    )
    reconstruct.add_argument(
        "--form", choices=("auto", "mesh", "cloud"), default="auto", help="auto: a cloud for unsigned distances"
    )
    reconstruct.add_argument("--suffix", help="of the files in a folder: .ply by default")
    reconstruct.add_argument("--resolution", type=int, default=128, help="cells per axis of marching cubes")
    reconstruct.add_argument(
        "--method", choices=("mise", "dense"), default="mise", help="coarse to fine, or all nodes of the grid"
    )
    reconstruct.add_argument(
        "--refine", type=int, default=0, metavar="STEPS", help="Newton steps that bring a mesh's vertices to the level"
    )
    reconstruct.add_argument("--count", type=int, default=1_000_000, help="points of a cloud")
    reconstruct.add_argument(
        "--mask", type=float, metavar="DISTANCE", help="ask the network only this near the observed shape (paper: 0.1)"
    )
    reconstruct.add_argument("--normalize", action="store_true", help="fit clouds into the cube, and results back")
    reconstruct.add_argument(
        "--code-steps", type=int, default=800, help="steps of the search for a code (auto-decoders); authors': 800"
    )
    reconstruct.add_argument(
        "--noise", type=float, default=0.0, metavar="SIGMA", help="noise on the observed cloud (ONet, ConvONet: 0.005)"
    )
    reconstruct.add_argument("--seed", type=int, default=0, help="seed of the observed points")
    reconstruct.add_argument("--device", default="cpu", help="cpu or cuda")


def _evaluate(commands: Any) -> None:
    evaluate = _add(
        commands, "evaluate", "evaluate", "Compare a mesh with a reference mesh, or a folder of them with another."
    )
    evaluate.add_argument("predicted", metavar="PRED", help="mesh file to judge, or a folder of them")
    evaluate.add_argument("reference", metavar="REF", help="closed mesh file to compare with, or a folder of them")
    evaluate.add_argument(
        "--preset",
        default="pyimplicit",
        metavar="NAME",
        help="conventions: pyimplicit, or those of the authors of onet, convonet, ifnet, airnets, deepsdf",
    )
    evaluate.add_argument("--samples", type=int, help="points drawn on each surface; the preset's by default")
    evaluate.add_argument("--iou-points", type=int, help="points drawn for the IoU; the preset's by default")
    evaluate.add_argument(
        "--thresholds", type=float, nargs="+", help="distances of the F-Score, in mesh units; the preset's by default"
    )
    evaluate.add_argument(
        "--nearest", choices=("samples", "surface"), help="measure distances to the other mesh's samples or to itself"
    )
    evaluate.add_argument("--seed", type=int, default=0, help="seed of the points")
    evaluate.add_argument(
        "--normalize", action="store_true", help="fit each reference into the unit cube and move its prediction along"
    )
    evaluate.add_argument("--clouds", action="store_true", help="predictions are point clouds (.ply, .xyz, .npy, .npz)")
    evaluate.add_argument("--closed-only", action="store_true", help="open predictions get the IoU 0")
    evaluate.add_argument("--floor", action="store_true", help="also measure what a perfect prediction would get")
    evaluate.add_argument("--out", help="folder of scores.csv and scores.json; PRED itself by default for folders")
    evaluate.add_argument("--processes", type=int, default=1, help="processes that measure; changes no result")
    evaluate.add_argument("--json", action="store_true", help="print JSON")


def _study(commands: Any) -> None:
    study = commands.add_parser("study", help="Compare sampling strategies; without a command: run.").add_subparsers(
        title="commands", required=True, metavar="COMMAND"
    )
    run = _add(study, "run", "study_run", "Run a study, or go on with one that was interrupted.")
    run.set_defaults(out="runs/study")
    run.add_argument("--out", help="folder of the study", default="runs/study")
    run.add_argument("--config", help="YAML or JSON file of a study; arguments given here override it")
    run.add_argument("--scale", help=f"size of everything: {SCALES}; tiny if neither this nor --config is given")
    run.add_argument("--recipe", help="how networks are trained: tiny, small, author or paper; the scale's by default")
    run.add_argument("--networks", nargs="+", metavar="NAME", help="such as onet convonet:grid32 deepsdf")
    run.add_argument("--strategies", nargs="+", metavar="NAME", help=STRATEGY_HELP)
    run.add_argument("--fields", nargs="+", metavar="FIELD", help="occ, sdf, tsdf, udf; or onet=occ,sdf")
    run.add_argument("--seeds", type=int, nargs="+", metavar="SEED", help="one run each")
    run.add_argument("--densities", type=int, nargs="+", metavar="COUNT", help="query points per shape and step")
    run.add_argument(
        *("--masks",), type=_mask, nargs="+", metavar="DISTANCE", help="distance masks in mesh units; none is no mask"
    )
    run.add_argument("--data", metavar="SOURCE", help=SOURCE_HELP)
    run.add_argument("--train", type=int, metavar="COUNT", help="number of training shapes")
    run.add_argument("--test", type=int, metavar="COUNT", help="number of test shapes")
    run.add_argument("--data-root", help="folder of the prepared shapes; OUT/data by default")
    run.add_argument("--resolution", type=int, help="cells per axis of marching cubes")
    run.add_argument("--device", help="auto, cpu or cuda; auto takes a GPU where there is one")
    run.add_argument("--processes", type=int, help="worker processes; does not change any result")
    run.add_argument("--engine", help="local, ray or ray:HOST:PORT; does not change any result")
    run.add_argument("--threads", type=int, help="torch threads of each process")
    run.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="training settings, or NETWORK.KEY=VALUE"
    )
    run.add_argument("--retry", action="store_true", help="carry out again the runs that ended by an error")
    run.add_argument("--quiet", action="store_true", help="show no progress")
    status = _add(study, "status", "study_status", "Say how far a study has got.")
    status.add_argument("folder", metavar="FOLDER", help="folder of the study")
    table = _add(study, "table", "study_table", "Print the table of a study.")
    table.add_argument("folder", metavar="FOLDER", help="folder of the study")
    table.add_argument(
        *("--which",),
        choices=("main", "I", "II", "III", "IV", "all"),
        default="main",
        help="all metrics and the D-Score, or the paper's tables I to IV, or all",
    )
    table.add_argument(
        "--format", choices=("text", "markdown", "csv", "latex"), default="text", help="form of the table"
    )
    report = _add(
        study, "report", "study_report", "Write tables, figures and the HTML report, of the runs finished so far."
    )
    report.add_argument("folder", metavar="FOLDER", help="folder of the study")
    figures = _add(study, "figures", "study_figures", "Draw the paper's figures from the runs finished so far.")
    figures.add_argument("folder", metavar="FOLDER", help="folder of the study")
    claims = _add(study, "claims", "study_claims", "Judge the paper's claims by the runs finished so far.")
    claims.add_argument("folder", metavar="FOLDER", help="folder of the study")
    claims.add_argument("--format", choices=("text", "markdown", "json"), default="text", help="form of the answers")
    recommend = _add(
        study, "recommend", "study_recommend", "Say which strategy and how many points to train with, and why."
    )
    recommend.add_argument(
        "folder", metavar="FOLDER", nargs="?", help="folder of a study; without one: the paper's figures"
    )
    recommend.add_argument("--network", required=True, metavar="NAME", help="such as onet or convonet:grid32")
    recommend.add_argument("--field", help="occ, sdf, tsdf or udf; that of the network's authors by default")
    recommend.add_argument(
        "--budget", type=int, default=2_000, metavar="COUNT", help="most query points per shape and step"
    )
