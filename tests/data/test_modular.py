"""Modular arithmetic: the reference's tables, and the laws of arithmetic."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from gramlin_jax.data import MODULAR_OPERATIONS, modular_arithmetic, modular_table

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "operation_mod_p.npz")
NAMES = [str(name) for name in GOLDEN["op_names"]]
CASES = [
    (name, p)
    for i, name in enumerate(NAMES)
    for p in (7, 13, 61)
    if f"op{i}_p{p}_inputs" in GOLDEN.files
]
ODD_QUOTIENT = "(x//y)if(y%2==1)else(x-y)"
WRONG_IN_REFERENCE = "x^3+xy^2+x"


def test_knows_every_operation_of_the_reference():
    assert list(MODULAR_OPERATIONS) == NAMES


@pytest.mark.parametrize(("operation", "p"), CASES)
def test_golden(operation, p):
    key = f"op{NAMES.index(operation)}_p{p}"
    pairs, labels = modular_table(operation, p)
    np.testing.assert_array_equal(pairs, GOLDEN[f"{key}_inputs"])
    if operation == WRONG_IN_REFERENCE:
        x, y = pairs.T
        np.testing.assert_array_equal((x**3 + x * y**2 + y) % p, GOLDEN[f"{key}_labels"])
        np.testing.assert_array_equal((x**3 + x * y**2 + x) % p, labels)
    else:
        np.testing.assert_array_equal(labels, GOLDEN[f"{key}_labels"])


def test_the_reference_fails_on_one_operation_only():
    failing = {NAMES[int(key[2:].split("_")[0])] for key in GOLDEN.files if "raises" in key}
    assert failing == {ODD_QUOTIENT}


@pytest.mark.parametrize("operation", MODULAR_OPERATIONS)
def test_short_integers_of_numpy_do_not_overflow(operation):
    for found, expected in zip(
        modular_table(operation, np.int8(101)), modular_table(operation, 101), strict=True
    ):
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("p", [2, 3, 7, 13])
def test_quotient_solves_its_equation(p):
    pairs, quotient = modular_table("x/y", p)
    x, y = pairs.T
    np.testing.assert_array_equal(quotient * y % p, x)
    assert len({tuple(pair) for pair in pairs.tolist()}) == p * (p - 1)
    assert y.min() == 1


@pytest.mark.parametrize("p", [2, 3, 7, 13])
def test_quotient_where_y_is_odd(p):
    pairs, labels = modular_table(ODD_QUOTIENT, p)
    x, y = pairs.T
    odd = y % 2 == 1
    np.testing.assert_array_equal((labels * y % p)[odd], x[odd])
    np.testing.assert_array_equal(labels[~odd], ((x - y) % p)[~odd])
    assert len(pairs) == p**2


@pytest.mark.parametrize("operation", ["x+y", "x-y", "x^2+y"])
def test_a_composite_modulus_is_fine_without_division(operation):
    _, labels = modular_table(operation, 6)
    np.testing.assert_array_equal(np.bincount(labels), [6] * 6)


@pytest.mark.parametrize("operation", MODULAR_OPERATIONS)
def test_dataset_is_the_table_in_one_hot(operation):
    data = modular_arithmetic(operation, 5)
    pairs, labels = modular_table(operation, 5)
    assert data.x.dtype == np.float32
    assert data.x.shape == (len(pairs), 10)
    np.testing.assert_array_equal(data.x.reshape(-1, 2, 5).argmax(axis=2), pairs)
    np.testing.assert_array_equal(data.x.sum(axis=1), 2)
    np.testing.assert_array_equal(data.y, labels)
    assert data.y.dtype == np.int32
    assert data.num_classes == 5


@pytest.mark.parametrize("make", [modular_table, modular_arithmetic])
@pytest.mark.parametrize(
    ("operation", "p", "message"),
    [
        ("x**y", 7, "operation is 'x**y': wanted one of 'x+y', 'x-y'"),
        ("x+y", 1, "p is 1: wanted an integer modulus of at least 2"),
        ("x+y", 6.5, "p is 6.5: wanted an integer modulus"),
        ("x+y", -3, "p is -3"),
        ("x/y", 9, "p is 9: wanted a prime such as 61, since 'x/y' divides"),
        (ODD_QUOTIENT, 15, "p is 15: wanted a prime"),
    ],
)
def test_refuses(make, operation, p, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make(operation, p)
