"""The shared argument checks: what passes comes back, what does not is named."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import numpy as np
import pytest
import torch

from pyimplicit import checks

ZEROS = torch.zeros(4, 3)


def test_what_is_right_comes_back():
    assert checks.check_tensor("points", ZEROS, ("N", 3)) is ZEROS
    assert checks.check_tensor("points", ZEROS, (4, None), device=torch.device("cpu")) is ZEROS
    assert checks.check_tensor("points", ZEROS, ("...", 3)) is ZEROS
    assert checks.check_tensor("points", ZEROS[0], ("...", 3)).shape == (3,)
    assert checks.check_tensor("points", ZEROS, ("...",)) is ZEROS
    assert checks.check_tensor("faces", ZEROS.int(), ("F", 3), (torch.int32,)).dtype == torch.int32
    assert checks.check_finite("points", ZEROS) is ZEROS
    assert checks.check_finite("points", ZEROS[:0]).shape == (0, 3)
    assert checks.check_not_negative("distance", ZEROS) is ZEROS
    assert checks.check_count("count", np.int32(3)) == 3
    assert type(checks.check_count("count", np.int32(3))) is int
    assert checks.check_count("count", 0, minimum=0) == 0
    assert checks.check_positive("tau", Fraction(1, 4)) == 0.25
    assert checks.check_positive("tau", np.float32(2)) == 2.0
    assert checks.check_between("share", 0, 0, 1) == 0.0
    assert checks.check_choice("sign", "auto", ("auto", "winding")) == "auto"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: checks.check_tensor("p", [0.0], ("N",)), TypeError, "p: expected a torch tensor, got list"),
        (
            lambda: checks.check_tensor("p", ZEROS.int(), ("N", 3)),
            TypeError,
            "p: expected dtype float32 or float64, got int32",
        ),
        (lambda: checks.check_tensor("p", ZEROS, ("N", 2)), ValueError, "p: expected shape [N, 2], got [4, 3]"),
        (lambda: checks.check_tensor("p", ZEROS[0], ("N", 3)), ValueError, "p: expected shape [N, 3], got [3]"),
        (lambda: checks.check_tensor("p", ZEROS, (5, None)), ValueError, "p: expected shape [5, any], got [4, 3]"),
        (
            lambda: checks.check_tensor("p", torch.tensor(1.0), ("...", 3)),
            ValueError,
            "p: expected shape [..., 3], got []",
        ),
        (
            lambda: checks.check_tensor("p", ZEROS, ("N", 3), device=torch.device("meta")),
            ValueError,
            "p: expected a tensor on meta, got one on cpu",
        ),
        (
            lambda: checks.check_finite("p", torch.tensor([[0.0, 1.0], [math.inf, math.nan]])),
            ValueError,
            "p: expected finite values, got inf at index [1, 0]",
        ),
        (
            lambda: checks.check_finite("p", torch.tensor(math.nan)),
            ValueError,
            "p: expected finite values, got nan at index []",
        ),
        (
            lambda: checks.check_not_negative("d", torch.tensor([1.0, -0.5])),
            ValueError,
            "d: expected no negative values, got -0.5",
        ),
        (lambda: checks.check_count("n", 1.0), TypeError, "n: expected a whole number, got float"),
        (lambda: checks.check_count("n", True), TypeError, "n: expected a whole number, got bool"),
        (lambda: checks.check_count("n", 0), ValueError, "n: expected at least 1, got 0"),
        (lambda: checks.check_positive("tau", 0), ValueError, "tau: expected a finite number above 0, got 0"),
        (lambda: checks.check_positive("tau", math.nan), ValueError, "tau: expected a finite number above 0, got nan"),
        (lambda: checks.check_positive("tau", math.inf), ValueError, "tau: expected a finite number above 0, got inf"),
        (lambda: checks.check_positive("tau", None), TypeError, "tau: expected a number, got NoneType"),
        (lambda: checks.check_positive("tau", True), TypeError, "tau: expected a number, got bool"),
        (lambda: checks.check_between("s", 1, 0, 1), ValueError, "s: expected at least 0 and below 1, got 1"),
        (lambda: checks.check_between("s", math.nan, 0, 1), ValueError, "s: expected at least 0 and below 1, got nan"),
        (lambda: checks.check_between("s", "0", 0, 1), TypeError, "s: expected a number, got str"),
        (lambda: checks.check_choice("s", "x", ("a", "b")), ValueError, "s: expected one of a, b, got 'x'"),
        (lambda: checks.check_choice("s", None, ("a", "b")), ValueError, "s: expected one of a, b, got None"),
        (lambda: checks.check_choice("s", ["a"], ("a", "b")), ValueError, "s: expected one of a, b, got ['a']"),
    ],
)
def test_what_is_wrong_is_named(call, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()


def test_zero_may_be_negative():
    assert checks.check_not_negative("distance", torch.tensor([-0.0])).numel() == 1
