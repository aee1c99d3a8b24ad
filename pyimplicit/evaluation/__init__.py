"""How good a reconstruction is: metrics of one shape, means over shapes, and the deviation score of strategies."""

from pyimplicit.evaluation.deviation import DScores, d_score
from pyimplicit.evaluation.folders import FolderScores, evaluate_folders
from pyimplicit.evaluation.metrics import Reference, evaluate
from pyimplicit.evaluation.protocols import PRESETS, Protocol, resolve_protocol
from pyimplicit.evaluation.scores import Measurement, Scores
from pyimplicit.evaluation.writers import mean_scores, write_scores_csv

__all__ = [
    "PRESETS",
    "DScores",
    "FolderScores",
    "Measurement",
    "Protocol",
    "Reference",
    "Scores",
    "d_score",
    "evaluate",
    "evaluate_folders",
    "mean_scores",
    "resolve_protocol",
    "write_scores_csv",
]
