"""Where arrays lie: samples spread over the devices of a mesh, parameters as they lie on it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
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

    @property
    def own(self) -> int:
        """Over how many of them this process spreads its own samples."""
        if self.mesh is None:
            return 1
        parts = self.sharding().addressable_devices_indices_map((1, self.devices))
        return len({index[1].indices(self.devices) for index in parts.values() if index})

    def sharding(self) -> NamedSharding:
        """Of batches (count, n, ...)."""
        return NamedSharding(cast("Mesh", self.mesh), PartitionSpec(None, self.axes))


def placement(mesh: Mesh | None, axes: str | tuple[str, ...] | None, arrays: PyTree) -> Placement:
    """Where samples go: over the first axis of the mesh, or of the one that ``arrays`` lie on.

    Args:
        mesh: Of any kind of axes; None: that of the arrays, if they lie on one.
        axes: Other axes for the samples; None: the first.
        arrays: The parameters.

    Raises:
        ValueError: If the mesh has no such axis, or axes are named without a mesh.
        TypeError: If it is no mesh.
    """
    if not isinstance(mesh, Mesh | None):
        kind = type(mesh).__name__
        raise TypeError(f"mesh is a {kind}, {mesh!r}: wanted a jax.sharding.Mesh")
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
    """Batches (count, n, ...) with their samples spread over the devices, if n divides by these.

    Where a mesh spans processes, NumPy arrays are the samples of this process alone, and JAX arrays
    those of all.

    Raises:
        ValueError: If a process cannot spread its samples evenly over its devices.
    """
    if where.mesh is None:
        return jax.tree.map(jnp.asarray, batches)
    mesh, several = where.mesh, spans_processes(where.mesh)

    def place(array: Any) -> Array:
        n = np.shape(array)[1]
        if several and not isinstance(array, jax.Array):
            check_own_samples(n, where)
            return jax.make_array_from_process_local_data(where.sharding(), np.asarray(array))
        even = n % where.devices == 0
        return jax.device_put(array, where.sharding() if even else NamedSharding(mesh, REPLICATED))

    return jax.tree.map(place, batches)


REPLICATED = PartitionSpec()


def check_own_samples(n: int, where: Placement) -> None:
    """Raise ``ValueError`` if n samples of this process do not spread evenly over its devices."""
    if where.mesh is not None and spans_processes(where.mesh) and n % where.own:
        raise ValueError(
            f"batches has {n} samples on process {jax.process_index()}: wanted a multiple of "
            f"{where.own}, its devices along the axes {where.axes} of the mesh"
        )


def check_equal_samples(n: int, where: Placement, name: str = "batches") -> None:
    """Raise ``ValueError`` if the processes of a mesh have different numbers of samples.

    Those with more would wait for the others for ever. Not checked on a mesh of some processes
    only, because all take part in the exchange of the numbers.
    """
    if where.mesh is None or not spans_processes(where.mesh):
        return
    if len({device.process_index for device in where.mesh.devices.flat}) < jax.process_count():
        return
    with jax.enable_x64(True):
        counts = np.asarray(multihost_utils.process_allgather(np.int64(n))).tolist()
    if len(set(counts)) > 1:
        raise ValueError(
            f"{name} has {counts} samples on processes 0 to {len(counts) - 1}: wanted as many on "
            "each; pad with samples of weight 0"
        )


def spans_processes(mesh: Mesh) -> bool:
    """Whether devices of other processes are on the mesh."""
    return any(d.process_index != jax.process_index() for d in mesh.devices.flat)


def on_host(arrays: PyTree) -> PyTree:
    """The arrays as NumPy's, but for those that are spread over processes: these stay there."""

    def fetch(array: Any) -> Any:
        spread = isinstance(array, jax.Array) and not (
            array.is_fully_addressable or array.is_fully_replicated
        )
        return array if spread else jax.device_get(array)

    return jax.tree.map(fetch, arrays)


def gathered(array: Any) -> np.ndarray:
    """The whole array as NumPy's, on each process; all processes have to call it."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        with jax.enable_x64(True):
            return np.asarray(multihost_utils.process_allgather(array, tiled=True))
    return np.asarray(array)


def placed(arrays: PyTree, where: Placement) -> PyTree:
    """Arrays on the mesh: those that lie on its devices as they do, others on all of them."""
    if where.mesh is None:
        return arrays
    mesh = where.mesh

    def place(array: Any) -> Array:
        found = _mesh_of(array)
        there = found is not None and found.devices.tolist() == mesh.devices.tolist()
        spec = array.sharding.spec if there else REPLICATED
        return jax.device_put(array, NamedSharding(mesh, spec))

    return jax.tree.map(place, arrays)


def on_one_device(array: Array) -> Array:
    """An array of a mesh on its first device, others as they are."""
    mesh = _mesh_of(array)
    return array if mesh is None else jax.device_put(array, mesh.devices.flat[0])


def automatic(array: Any) -> Any:
    """An array of a mesh with explicit axes as one of a mesh whose axes the compiler shards.

    It stays where it is. On explicit axes, each reshape would have to name its result's.
    """
    mesh = _mesh_of(array)
    if mesh is None or AxisType.Explicit not in mesh.axis_types:
        return array
    free = Mesh(mesh.devices, mesh.axis_names)
    return jax.device_put(array, NamedSharding(free, array.sharding.spec))


def check_automatic(name: str, arrays: PyTree) -> None:
    """Raise ``ValueError`` if an array is cut along explicit axes, where sums over it fail."""
    for leaf in jax.tree.leaves(arrays):
        of = getattr(jax.typeof(leaf), "sharding", None) if isinstance(leaf, jax.Array) else None
        kinds = dict(zip(of.mesh.axis_names, of.mesh.axis_types, strict=True)) if of else {}
        cut = jax.tree.leaves(tuple(of.spec)) if of else ()
        if explicit := [axis for axis in cut if kinds.get(axis) is AxisType.Explicit]:
            raise ValueError(
                f"{name} is cut along the explicit axis {explicit[0]!r} of a mesh: wanted "
                "automatic ones, jax.make_mesh(…, axis_types=(jax.sharding.AxisType.Auto, …))"
            )


def check_axis(axis_name: str | tuple[str, ...]) -> None:
    """Raise ``ValueError`` outside of what is mapped over these axes."""
    try:
        jax.lax.psum(1, axis_name)
    except NameError as error:
        raise ValueError(
            f"axis_name is {axis_name!r}, which is no axis here: wanted a call inside shard_map "
            "over it, or None"
        ) from error


def _mesh_of(array: Any) -> Mesh | None:
    mesh = getattr(getattr(array, "sharding", None), "mesh", None)
    return mesh if isinstance(mesh, Mesh) else None
