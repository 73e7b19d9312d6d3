"""Checksums of arrays: whether two runs saw the same data, and whether a file is as it was."""

from __future__ import annotations

import zlib
from typing import Any

import jax
import numpy as np


def checksum(array: Any) -> int:
    """CRC-32 of the bytes of an array, its type and its shape."""
    kind = zlib.crc32(f"{array.dtype}{list(array.shape)}".encode())
    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    return zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data, kind)


def fingerprint(tree: Any) -> dict[str, str]:
    """Type, shape and checksum of each array of a tree, by its path.

    Example:
        >>> fingerprint({"x": np.zeros((2, 3), np.float32)})
        {"['x']": 'float32[2, 3] ca9c4500'}
    """
    return {
        jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)} {checksum(leaf):08x}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
