"""Every error this package raises on purpose.

Each class also derives from the built-in error a caller would expect (`ValueError`, `RuntimeError`), so code that
catches the built-in keeps working. A wrong argument of a function is a plain `ValueError` or `TypeError`; the classes
here are for things that outlive one call: files, meshes, checkpoints, configurations, studies.
"""

from __future__ import annotations


class PyImplicitError(Exception):
    """Base of all errors raised on purpose by pyimplicit."""


class MeshError(PyImplicitError, ValueError):
    """A mesh that cannot be used: empty, not finite, indices out of range."""


class MeshFileError(PyImplicitError, ValueError):
    """A mesh file that is missing, corrupt, too large or of an unknown format."""


class DataError(PyImplicitError, ValueError):
    """A data source or a prepared data set that is missing, incomplete or inconsistent."""


class CheckpointError(PyImplicitError, ValueError):
    """A checkpoint that is missing, incomplete, unsafe or made for another network."""


class ConfigError(PyImplicitError, ValueError):
    """A configuration with an unknown name, a value out of range or an impossible combination."""


class ExtractionError(PyImplicitError, ValueError):
    """A field from which no surface can be extracted."""


class StudyError(PyImplicitError, ValueError):
    """A study directory that belongs to another configuration or is damaged."""


class ExtraError(PyImplicitError, RuntimeError):
    """A library that only one feature needs and that is not installed; the message names the extra that brings it."""


class EngineError(PyImplicitError, RuntimeError):
    """Workers that cannot be started, or a cluster that cannot be reached."""


class NativeError(PyImplicitError, RuntimeError):
    """A compiled module that is missing, or a failure inside one."""


class TrainingError(PyImplicitError, RuntimeError):
    """A training run, or a search for codes, whose loss stopped being finite."""


class CollapseError(TrainingError):
    """A network in training that answers with a constant and gets no gradient any more."""
