"""Arithmetic modulo p on all pairs: the data of grokking."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral

import numpy as np

from gramlin_jax.data.dataset import Dataset, one_hot

_Operation = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def _quotient(x: np.ndarray, y: np.ndarray, p: int) -> np.ndarray:
    inverse = np.array([0] + [pow(i, -1, p) for i in range(1, p)])
    return x * inverse[y]


_OPERATIONS: dict[str, _Operation] = {
    "x+y": lambda x, y, p: x + y,
    "x-y": lambda x, y, p: x - y,
    "x*y": lambda x, y, p: x * y,
    "x/y": _quotient,
    "(x//y)if(y%2==1)else(x-y)": lambda x, y, p: np.where(y % 2 == 1, _quotient(x, y, p), x - y),
    "x^2+y": lambda x, y, p: x**2 + y,
    "x^2+y^2": lambda x, y, p: x**2 + y**2,
    "x^2+xy+y^2": lambda x, y, p: x**2 + x * y + y**2,
    "x^2+xy+y^2+x": lambda x, y, p: x**2 + x * y + y**2 + x,
    "x^3+xy": lambda x, y, p: x**3 + x * y,
    "x^3+xy^2+x": lambda x, y, p: x**3 + x * y**2 + x,
}

MODULAR_OPERATIONS = tuple(_OPERATIONS)
"""Operations that ``modular_table`` accepts."""


def modular_table(operation: str, p: int) -> tuple[np.ndarray, np.ndarray]:
    """Every pair and its result: label = operation(x, y) mod p.

    Pairs are in lexicographic order, 0 ≤ x, y < p. The exception is "x/y", which omits y = 0 and is
    ordered by result, then by y. Division is modular, x·y⁻¹ mod p.

    The paper's reference implementation differs twice: its "x^3+xy^2+x" adds y instead of x, and
    its "(x//y)if(y%2==1)else(x-y)" fails. Here both do what their names say.

    Args:
        operation: One of ``MODULAR_OPERATIONS``.
        p: The modulus, a prime where the operation divides.

    Returns:
        Pairs (n, 2) int64 and labels (n,) int64; n = p², or p(p−1) for "x/y".

    Raises:
        ValueError: If the operation is unknown, p is not an integer of at least 2, or the operation
            divides and p is not prime.

    Source: Power et al., arXiv:2201.02177.

    Example:
        >>> pairs, labels = modular_table("x+y", 3)
        >>> pairs[5].tolist(), int(labels[5])
        ([1, 2], 0)
    """
    if operation not in _OPERATIONS:
        raise ValueError(
            f"operation is {operation!r}: wanted one of {', '.join(map(repr, MODULAR_OPERATIONS))}"
        )
    if not isinstance(p, Integral) or p < 2:
        raise ValueError(f"p is {p}: wanted an integer modulus of at least 2")
    p = int(p)  # or NumPy's short integers overflow
    if "/" in operation and any(p % i == 0 for i in range(2, int(p**0.5) + 1)):
        raise ValueError(f"p is {p}: wanted a prime such as 61, since {operation!r} divides")
    if operation == "x/y":
        labels, y = (axis.ravel() for axis in np.mgrid[:p, 1:p])
        return np.stack([labels * y % p, y], axis=1), labels
    x, y = (axis.ravel() for axis in np.mgrid[:p, :p])
    return np.stack([x, y], axis=1), _OPERATIONS[operation](x, y, p) % p


def modular_arithmetic(operation: str = "x+y", p: int = 61) -> Dataset:
    """All pairs as [one-hot x, one-hot y], labelled with the result of the operation.

    Args:
        operation: One of ``MODULAR_OPERATIONS``.
        p: The modulus.

    Returns:
        Dataset with x (n, 2p) float32, y (n,) int32 and p classes, ordered as ``modular_table``.

    Raises:
        ValueError: As ``modular_table``.

    Source: Power et al., arXiv:2201.02177.

    Example:
        >>> modular_arithmetic("x*y", 5).x.shape
        (25, 10)
    """
    pairs, labels = modular_table(operation, p)
    return Dataset(
        x=np.concatenate([one_hot(pairs[:, 0], p), one_hot(pairs[:, 1], p)], axis=1),
        y=labels.astype(np.int32),
        num_classes=p,
        name=f"{operation} mod {p}",
        split="all",
        source="computed: every pair once",
    )
