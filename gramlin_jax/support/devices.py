"""Where arrays lie: spread over the devices of a mesh, or whole on each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


def automatic(mesh: Mesh | None) -> Mesh | None:
    """The mesh with axes that the compiler shards by itself, whatever the caller's are."""
    return None if mesh is None else Mesh(mesh.devices, mesh.axis_names)


def devices_of(mesh: Mesh | None) -> int:
    """Devices along the mesh's first axis; 1 without a mesh."""
    return 1 if mesh is None else mesh.shape[mesh.axis_names[0]]


def spread(batches: PyTree, mesh: Mesh | None) -> PyTree:
    """Batches (count, n, ...) with their samples spread over the devices, if n divides by these."""
    if mesh is None:
        return jax.tree.map(jnp.asarray, batches)

    def place(array: Any) -> Array:
        divides = np.shape(array)[1] % devices_of(mesh) == 0
        spec = PartitionSpec(None, mesh.axis_names[0]) if divides else PartitionSpec()
        return jax.device_put(array, NamedSharding(mesh, spec))

    return jax.tree.map(place, batches)


def replicated(arrays: PyTree, mesh: Mesh | None) -> PyTree:
    """Arrays on all devices of the mesh; those that lie on it already stay as they are."""
    if mesh is None:
        return arrays

    def place(array: Any) -> Array:
        on_mesh = getattr(getattr(array, "sharding", None), "mesh", None) == mesh
        return array if on_mesh else jax.device_put(array, NamedSharding(mesh, PartitionSpec()))

    return jax.tree.map(place, arrays)
