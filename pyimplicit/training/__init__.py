"""Training: one loop for encoder networks and auto-decoders, exact checkpoints, codes of unseen shapes."""

from pyimplicit.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pyimplicit.training.config import PAPER_DEFAULTS, TrainConfig
from pyimplicit.training.curriculum import Curriculum
from pyimplicit.training.files import FileReconstruction, is_cloud_file, reconstruct_file
from pyimplicit.training.inference import Reconstruction, observe_cloud, observe_points, reconstruct, reconstruct_shapes
from pyimplicit.training.latent import CodeSearch, infer_codes
from pyimplicit.training.loop import TrainResult, load_trained, train
from pyimplicit.training.presets import preset, search_preset
from pyimplicit.training.recipes import Recipe, recipe
from pyimplicit.training.run import field_kind

__all__ = [
    "PAPER_DEFAULTS",
    "Checkpoint",
    "CodeSearch",
    "Curriculum",
    "FileReconstruction",
    "Recipe",
    "Reconstruction",
    "TrainConfig",
    "TrainResult",
    "field_kind",
    "infer_codes",
    "is_cloud_file",
    "load_checkpoint",
    "load_trained",
    "observe_cloud",
    "observe_points",
    "preset",
    "recipe",
    "reconstruct",
    "reconstruct_file",
    "reconstruct_shapes",
    "save_checkpoint",
    "search_preset",
    "train",
]
