"""The error classes: one family, each also the built-in that a caller would expect."""

from __future__ import annotations

import inspect

import pytest

from pyimplicit import errors

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and value.__module__ == errors.__name__]


def test_the_family():
    names = {error.__name__ for error in CLASSES}
    assert names >= {
        "PyImplicitError",
        "MeshError",
        "MeshFileError",
        "DataError",
        "CheckpointError",
        "ConfigError",
        "ExtractionError",
        "StudyError",
        "NativeError",
    }


@pytest.mark.parametrize("error", CLASSES)
def test_each_is_documented_and_of_the_family(error):
    assert issubclass(error, errors.PyImplicitError)
    assert error.__doc__
    if error is not errors.PyImplicitError:
        assert issubclass(error, ValueError | RuntimeError)
        assert issubclass(error.__bases__[0], errors.PyImplicitError)


@pytest.mark.parametrize("error", CLASSES)
def test_each_carries_its_message(error):
    with pytest.raises(errors.PyImplicitError, match="what was wrong"):
        raise error("what was wrong")
