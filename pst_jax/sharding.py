"""Where arrays live: the device mesh, and batches spread over it."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

DATA_AXIS = "data"


def make_mesh(num_devices: int | None = None) -> Mesh:
    """Returns a mesh of all devices (or the first `num_devices`) along the axis "data"."""
    devices = jax.devices()[:num_devices]
    return Mesh(np.array(devices), (DATA_AXIS,))


def over_batch(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: the leading axis over the devices."""
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds in whole."""
    return NamedSharding(mesh, PartitionSpec())


def shard_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, Any]:
    """Makes global arrays of this host's part of a batch, leading axis over the devices.

    Args:
        batch: name -> [b, ...], b a multiple of this host's devices.
        mesh: of `make_mesh`.

    Returns:
        name -> global array [b * hosts, ...].

    Raises:
        ValueError: if b does not divide over the devices.
    """
    devices = mesh.local_mesh.size
    sizes = {len(value) for value in batch.values()}
    if any(size % devices for size in sizes):
        raise ValueError(
            f"a batch of {sorted(sizes)} clips does not divide over {devices} devices: make the "
            f"batch size a multiple of {devices}"
        )
    sharding = over_batch(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, value)
        for name, value in batch.items()
    }
