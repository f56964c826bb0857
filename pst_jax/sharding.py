"""Where arrays live: the device mesh, and batches spread over it."""

import pickle
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
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


def local_rows(array: jax.Array) -> np.ndarray:
    """Returns this host's rows of a global array [B, ...] that lies over the batch.

    They are in the order of the rows that this host gave to `shard_batch`.
    """
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])


def gather_from_hosts(value: Any) -> list[Any]:
    """Returns every host's `value`, on every host, in the order of the hosts.

    Args:
        value: anything that can be pickled; its numbers come over exactly.
    """
    if jax.process_count() == 1:
        return [value]
    data = np.frombuffer(pickle.dumps(value), np.uint8)
    sizes = multihost_utils.process_allgather(np.array(len(data)))
    # All hosts must bring the same shape.
    rows = multihost_utils.process_allgather(np.pad(data, (0, int(sizes.max()) - len(data))))
    return [pickle.loads(row[:size].tobytes()) for row, size in zip(rows, sizes)]
