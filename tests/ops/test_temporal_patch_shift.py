import chex
import einops
import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from pst_jax import ops, sharding
from pst_jax.ops import temporal_patch_shift as tps

SIZES = ["16x7x7", "8x8x8", "5x10x9"]


class PatchShiftGolden(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_equals_the_golden_mosaics_forward_and_inverse(self):
        golden = golden_files.load("patch_shift_op")
        for size in SIZES:
            for name in "ABCD":
                shift = self.variant(lambda x, name=name: ops.patch_shift(x, name))
                undo = self.variant(lambda x, name=name: ops.patch_shift(x, name, inverse=True))
                x = golden[f"{size}/x"]
                np.testing.assert_array_equal(shift(x), golden[f"{size}/{name}/fwd"])
                np.testing.assert_array_equal(undo(x), golden[f"{size}/{name}/inv"])


def test_tiles_are_those_printed():
    golden = golden_files.load("patch_shift_op")
    for name, printed in ((n, golden[f"tile/{n}"]) for n in "ABCD"):
        np.testing.assert_array_equal(tps.frame_offsets(name, *printed.shape), printed)


def test_equals_the_released_operator_on_windows():
    golden = golden_files.load("patch_shift_op")
    sizes = dict(b=2, t=16, h=7)
    n, c = golden["official/x"].shape[1], golden["official/x"].shape[3]

    def ours(x, inverse):
        x = einops.rearrange(x, "(b t w) n (h v) c -> (b w) t h v (n c)", **sizes)
        x = ops.patch_shift(jnp.asarray(x), "C", inverse)
        return einops.rearrange(x, "(b w) t h v (n c) -> (b t w) n (h v) c", b=2, n=n, c=c)

    x = golden["official/x"]
    np.testing.assert_array_equal(ours(x, False), golden["official/psm_fwd"])
    np.testing.assert_array_equal(ours(x, True), golden["official/psm_inv"])


def test_is_the_equation_of_the_paper():
    # Z^ = A * Z' + (1 - A) * Z, the mask A one where a patch of another frame is taken.
    x = np.random.default_rng(0).normal(size=(1, 5, 4, 4, 3))
    tile = ((0, 2), (-1, 0))
    z_other = np.zeros_like(x)
    mask = np.zeros((1, 1, 4, 4, 1))
    for row in range(4):
        for column in range(4):
            offset = tile[row % 2][column % 2]
            mask[..., row, column, :] = offset != 0
            z_other[:, :, row, column] = np.roll(x[:, :, row, column], offset, axis=1)
    expected = mask * z_other + (1 - mask) * x
    np.testing.assert_array_equal(
        ops.patch_shift(jnp.asarray(x), tile), expected.astype(np.float32)
    )


@pytest.mark.parametrize("frames", [1, 7, 16, 32])
@pytest.mark.parametrize("pattern", ["A", "B", "C", "D", ((0, 9),)])
def test_shift_back_undoes_the_shift_and_gradients_are_the_inverse(frames, pattern):
    x = jax.random.normal(jax.random.key(0), (2, frames, 7, 8, 4))
    shifted = ops.patch_shift(x, pattern)
    np.testing.assert_array_equal(ops.patch_shift(shifted, pattern, inverse=True), x)
    _, pull_back = jax.vjp(lambda x: ops.patch_shift(x, pattern), x)
    np.testing.assert_array_equal(
        pull_back(shifted)[0], ops.patch_shift(shifted, pattern, inverse=True)
    )
    if frames == 1:
        np.testing.assert_array_equal(shifted, x)


def test_keeps_dtype():
    x = jnp.zeros((1, 4, 3, 3, 2), jnp.bfloat16)
    assert ops.patch_shift(x).dtype == jnp.bfloat16


@pytest.mark.parametrize("operation", [ops.patch_shift, ops.channel_shift])
def test_compiles_to_no_collective_with_the_batch_sharded(operation):
    mesh = sharding.make_mesh()
    assert mesh.size == 8
    x = jax.device_put(
        jnp.ones((8, 4, 7, 7, 16)), NamedSharding(mesh, PartitionSpec(sharding.DATA_AXIS))
    )
    loss_gradient = jax.jit(jax.grad(lambda x: (operation(x) ** 2).sum()))
    text = loss_gradient.lower(x).compile().as_text()
    for collective in ("all-gather", "all-to-all", "collective-permute", "all-reduce"):
        assert collective not in text
    assert jax.jit(operation)(x).sharding.shard_shape(x.shape) == (1, 4, 7, 7, 16)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("E", "unknown"), (((1, 2), (3,)), "rectangle"), ((), "rectangle"), (((0.5,),), "rectangle")],
)
def test_refuses_what_is_no_tile(pattern, message):
    with pytest.raises(ValueError, match=message):
        ops.patch_shift(jnp.zeros((1, 2, 3, 3, 1)), pattern)


def test_refuses_another_rank():
    with pytest.raises(ValueError, match=r"\[B, T, H, W, C\]"):
        ops.patch_shift(jnp.zeros((2, 3, 3, 1)))
