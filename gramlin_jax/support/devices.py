"""Where arrays lie: samples spread over the devices of a mesh, parameters as they lie on it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


class Placement(NamedTuple):
    """A mesh whose axes the compiler shards by itself, and those along which samples are spread.

    Attributes:
        mesh: The mesh; None: arrays stay where they are.
        axes: Names of the axes of the samples.
    """

    mesh: Mesh | None
    axes: tuple[str, ...] = ()

    @property
    def devices(self) -> int:
        """Over how many devices samples are spread."""
        return 1 if self.mesh is None else math.prod(self.mesh.shape[axis] for axis in self.axes)


def placement(mesh: Mesh | None, axes: str | tuple[str, ...] | None, arrays: PyTree) -> Placement:
    """Where samples go: over the first axis of the mesh, or of the one that ``arrays`` lie on.

    Args:
        mesh: Of any kind of axes; None: that of the arrays, if they lie on one.
        axes: Other axes for the samples; None: the first.
        arrays: The parameters.

    Raises:
        ValueError: If the mesh has no such axis, or axes are named without a mesh.
    """
    if mesh is None:
        meshes = [found for array in jax.tree.leaves(arrays) if (found := _mesh_of(array))]
        mesh = next((found for found in meshes if found.size > 1), None)
    if mesh is None:
        if axes is not None:
            raise ValueError(f"data_axes is {axes!r} and there is no mesh: wanted mesh=, too")
        return Placement(None)
    names = (mesh.axis_names[0],) if axes is None else (axes,) if isinstance(axes, str) else axes
    if unknown := [name for name in names if name not in mesh.axis_names]:
        raise ValueError(f"data_axes has {unknown}: wanted axes out of {mesh.axis_names}")
    return Placement(Mesh(mesh.devices, mesh.axis_names), tuple(names))


def spread(batches: PyTree, where: Placement) -> PyTree:
    """Batches (count, n, ...) with their samples spread over the devices, if n divides by these."""
    if where.mesh is None:
        return jax.tree.map(jnp.asarray, batches)
    mesh = where.mesh

    def place(array: Any) -> Array:
        divides = np.shape(array)[1] % where.devices == 0
        spec = PartitionSpec(None, where.axes) if divides else PartitionSpec()
        return jax.device_put(array, NamedSharding(mesh, spec))

    return jax.tree.map(place, batches)


def placed(arrays: PyTree, where: Placement) -> PyTree:
    """Arrays on the mesh: those that lie on its devices as they do, others on all of them."""
    if where.mesh is None:
        return arrays
    mesh = where.mesh

    def place(array: Any) -> Array:
        found = _mesh_of(array)
        there = found is not None and found.devices.tolist() == mesh.devices.tolist()
        spec = array.sharding.spec if there else PartitionSpec()
        return jax.device_put(array, NamedSharding(mesh, spec))

    return jax.tree.map(place, arrays)


def automatic(array: Any) -> Any:
    """An array of a mesh with explicit axes as one of a mesh whose axes the compiler shards.

    It stays where it is. On explicit axes, each reshape would have to name its result's.
    """
    mesh = _mesh_of(array)
    if mesh is None or AxisType.Explicit not in mesh.axis_types:
        return array
    free = Mesh(mesh.devices, mesh.axis_names)
    return jax.device_put(array, NamedSharding(free, array.sharding.spec))


def _mesh_of(array: Any) -> Mesh | None:
    mesh = getattr(getattr(array, "sharding", None), "mesh", None)
    return mesh if isinstance(mesh, Mesh) else None
