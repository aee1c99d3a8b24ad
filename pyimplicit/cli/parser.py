"""The arguments of every command. Nothing here imports torch, so that `--help` answers at once."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from pyimplicit import __version__

STRATEGY_HELP = "name or symbol of a strategy, such as uniform, S_BS or linear"
SOURCE_HELP = "procedural, debian-cars or folder:PATH"
SCALES = "tiny, small or full"


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
    if argv[:1] == ["study"] and argv[1:2] not in (["run"], ["status"], ["table"], ["report"], ["-h"], ["--help"]):
        argv = ["study", "run", *argv[1:]]
    return build_parser().parse_args(argv)


def build_parser() -> Parser:
    """Build the parser of all commands."""
    parser = Parser(prog="pyimplicit", description="Sampling strategies for implicit 3D reconstruction.")
    parser.add_argument("--version", action="version", version=f"pyimplicit {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _info(commands)
    _data(commands)
    _sample(commands)
    _train(commands)
    _reconstruct(commands)
    _evaluate(commands)
    _study(commands)
    return parser


def _add(commands: Any, name: str, function: str, text: str) -> Parser:
    command: Parser = commands.add_parser(name, help=text, description=text)
    command.set_defaults(command=function)
    return command


def _info(commands: Any) -> None:
    info = _add(commands, "info", "info", "What was built, what was found, why CUDA is or is not used.")
    info.add_argument("--json", action="store_true", help="print JSON")


def _data(commands: Any) -> None:
    data = commands.add_parser("data", help="Data sources: list, fetch, prepare.").add_subparsers(
        title="commands", required=True, metavar="COMMAND"
    )
    _add(data, "list", "data_list", "List the data sources.")
    fetch = _add(data, "fetch", "data_fetch", "Download a data set.")
    fetch.add_argument("name", metavar="NAME", help="name of the data set, such as debian-cars")
    fetch.add_argument("--root", help="folder to keep it in; the data layer's own by default")
    prepare = _add(data, "prepare", "data_prepare", "Make the meshes of a source watertight and normalised.")
    prepare.add_argument("source", metavar="SOURCE", help=SOURCE_HELP)
    prepare.add_argument("--out", required=True, help="folder of the prepared shapes")
    prepare.add_argument("--count", type=int, default=100, help="number of procedural shapes")
    prepare.add_argument("--seed", type=int, default=0, help="seed of the procedural shapes")
    prepare.add_argument("--resolution", type=int, help="cells per axis; the data layer's own by default")


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
    train.add_argument("--config", help="YAML or JSON file of training settings")
    train.add_argument("--network", help="onet, convonet, ifnet, airnet, deepsdf, curriculum_deepsdf or ndf")
    train.add_argument("--variant", help="variant of the network")
    train.add_argument("--field", help="occ, sdf, tsdf or udf; what the network was published with by default")
    train.add_argument("--strategy", help=f"{STRATEGY_HELP}; what the network was published with by default")
    train.add_argument("--scale", default="tiny", help=f"preset of everything else: {SCALES}")
    train.add_argument("--steps", type=int, help="optimiser steps")
    train.add_argument("--seed", type=int, help="seed of the run")
    train.add_argument("--device", help="cpu or cuda")
    train.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="further training settings")
    train.add_argument("--data", default="procedural", help=SOURCE_HELP)
    train.add_argument("--shapes", type=int, default=16, help="number of training shapes")
    train.add_argument("--data-seed", type=int, default=0, help="seed of the shapes")
    train.add_argument("--data-root", help="folder of the prepared shapes; OUT/data by default")
    train.add_argument("--out", required=True, help="folder of the run")


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
    reconstruct.add_argument("--count", type=int, default=1_000_000, help="points of a cloud")
    reconstruct.add_argument(
        "--mask", type=float, metavar="DISTANCE", help="ask the network only this near the observed shape (paper: 0.1)"
    )
    reconstruct.add_argument("--normalize", action="store_true", help="fit clouds into the cube, and results back")
    reconstruct.add_argument(
        "--code-steps", type=int, default=800, help="steps of the search for a code (auto-decoders); authors': 800"
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
    run.add_argument("--networks", nargs="+", metavar="NAME", help="such as onet convonet:grid32 deepsdf")
    run.add_argument("--strategies", nargs="+", metavar="NAME", help=STRATEGY_HELP)
    run.add_argument("--fields", nargs="+", metavar="FIELD", help="occ, sdf, tsdf, for all networks; or onet=occ,sdf")
    run.add_argument("--seeds", type=int, nargs="+", metavar="SEED", help="one run each")
    run.add_argument("--densities", type=int, nargs="+", metavar="COUNT", help="query points per shape and step")
    run.add_argument("--data", metavar="SOURCE", help=SOURCE_HELP)
    run.add_argument("--train", type=int, metavar="COUNT", help="number of training shapes")
    run.add_argument("--test", type=int, metavar="COUNT", help="number of test shapes")
    run.add_argument("--data-root", help="folder of the prepared shapes; OUT/data by default")
    run.add_argument("--resolution", type=int, help="cells per axis of marching cubes")
    run.add_argument("--device", help="auto, cpu or cuda; auto takes a GPU where there is one")
    run.add_argument("--processes", type=int, help="worker processes; does not change any result")
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
    table.add_argument("--format", choices=("text", "markdown", "csv"), default="text", help="form of the table")
    report = _add(
        study, "report", "study_report", "Write tables, figures and report again, of the runs finished so far."
    )
    report.add_argument("folder", metavar="FOLDER", help="folder of the study")
