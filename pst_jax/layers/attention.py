"""The only attention module: every method differs in its Mixer alone."""

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from pst_jax.ops import mixing, partitions, relative_bias
from pst_jax.ops.attention import attend
from pst_jax.ops.mixing import Mixer
from pst_jax.ops.windows import Windows

BiasKeys = Literal["own", "first_frame", "cut"]
# Truncated at two units, which is 100 standard deviations, in the released code: a normal.
INIT = nn.initializers.normal(0.02)


class Attention(nn.Module):
    """Multi-head attention in groups of tokens, with a token movement around it.

    Attributes:
        num_heads: attention heads; must divide the channels.
        mixer: the token movement.
        bias_window: (frames, rows, columns) that the relative position table spans; None: no bias.
        bias_keys: where the bias sees a key: at its "own" place; in the "first_frame" of the clip,
            as the released PST; or as the released Video-Swin, in smaller windows at the places
            "cut" from a whole one. See `bias_index`.
        qkv_bias: whether the qkv projection has a bias.
        proj_bias: whether the output projection has one.
        kernel_init: of both projections.
        dtype: compute dtype.
    """

    num_heads: int
    mixer: Mixer
    bias_window: relative_bias.Window | None = None
    bias_keys: BiasKeys = "own"
    qkv_bias: bool = True
    proj_bias: bool = True
    kernel_init: Any = INIT
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, windows: Windows) -> jax.Array:
        """Attends in groups.

        Args:
            x: [B, T, N, C], the clip padded to whole windows; extra tokens first in a frame.
            windows: how the clip is cut.

        Returns:
            [B, T, N, C], of the compute dtype.
        """
        dense = {"dtype": self.dtype, "kernel_init": self.kernel_init}
        qkv = nn.Dense(3 * x.shape[-1], use_bias=self.qkv_bias, name="qkv", **dense)
        proj = nn.Dense(x.shape[-1], use_bias=self.proj_bias, name="proj", **dense)
        if windows.num_extra and self.mixer.partition.splits_frames:
            out = self._attend_apart(x, windows, qkv)
        else:
            out = mixing.move_in(x, self.mixer, windows, self.num_heads)
            out = self._attend(qkv(out), windows)
            if self.mixer.after is None:
                # The projection acts on each token alone. Behind it the movement melts into the
                # residual sum: 1 % of a training step's bytes (XLA on CPU).
                return mixing.move_out(proj(out), self.mixer, windows)
            out = mixing.move_out(out, self.mixer, windows)
        if self.mixer.after is not None:
            out = mixing.shift_channels(out, self.mixer.after, self.num_heads)
        return proj(out)

    def _attend(self, qkv: jax.Array, windows: Windows) -> jax.Array:
        """Attends in groups, [B, G, W, M, 3C] to [B, G, W, M, C]."""
        bias = self._mask(windows)
        if self.bias_window is not None:
            bias = self._bias(windows) if bias is None else self._bias(windows) + bias
        out = attend(*self._heads(qkv), bias)
        return out.reshape(*out.shape[:-2], -1)

    def _attend_apart(self, x: jax.Array, windows: Windows, qkv: nn.Dense) -> jax.Array:
        """Attends where groups tear frames apart, and extra tokens belong to none of them.

        An extra token attends over its own frame, so that a classifier on it sees all patches;
        patches attend in their groups, without it.
        """
        whole = dataclasses.replace(self.mixer, partition=partitions.Partition())
        x = mixing.move_in(x, whole, windows, self.num_heads)  # [B, T, 1, N, C]
        qkv = qkv(x)
        window, count = windows.window[1:], windows.num_extra
        query, key, value = self._heads(qkv)
        extra = attend(query[..., :count, :, :], key, value, None)
        grouped = partitions.group(qkv[..., count:, :], self.mixer.partition, window)
        inside = (x.shape[1], 1, x.shape[3] - count)
        patches = self._attend(grouped, dataclasses.replace(windows, num_extra=0))
        patches = partitions.ungroup(patches, self.mixer.partition, window, inside)
        out = jnp.concatenate([extra.reshape(*extra.shape[:-2], -1), patches], axis=-2)
        return mixing.move_out(out, whole, windows)

    def _heads(self, qkv: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Splits [..., M, 3C] in query, key and value, each [..., M, heads, d]."""
        qkv = qkv.reshape(*qkv.shape[:-1], 3, self.num_heads, -1)
        return tuple(qkv[..., i, :, :] for i in range(3))

    def _bias(self, windows: Windows) -> jax.Array:
        """Returns the relative position bias, float32 [1, G, W, heads, M, M]."""
        table = self.param(
            "relative_position_bias_table",
            INIT,
            (relative_bias.table_rows(self.bias_window), self.num_heads),
        )
        index = bias_index(self.mixer, windows, self.bias_window, self.bias_keys)
        return jnp.moveaxis(table[index.reshape(-1)].reshape(*index.shape, -1), -1, 2)[None]

    def _mask(self, windows: Windows) -> jax.Array | None:
        """Returns float32 [1, G, W, 1, M, M]: -100 where a query must not see a key."""
        regions = mixing.regions(self.mixer, windows)
        if regions is None:
            return None
        # Compared in the program: as a constant, joint attention's mask would be 157 MB.
        regions = jax.lax.optimization_barrier(jnp.asarray(regions))
        hidden = regions[..., :, None] != regions[..., None, :]
        # -100 and not -inf: the released value, and no NaN where a row hides everything.
        return jnp.where(hidden, -100.0, 0.0)[None, :, :, None]


def bias_index(
    mixer: Mixer, windows: Windows, table: relative_bias.Window, bias_keys: BiasKeys
) -> np.ndarray:
    """Returns the rows of the bias table that a block reads.

    Paper/code difference: the paper's equation takes the difference of the times of query and
    key; the released PST subtracts, in every frame, the times of the keys of the clip's first
    frame (`bias_keys="first_frame"`), which makes it a learnable bias of absolute time. Both agree
    at initialisation from a 2D checkpoint.

    Paper/code difference: where a grid is smaller than the window, the released Video-Swin cuts
    the index of a whole window to the first M tokens (`bias_keys="cut"`). That is right where the
    window shrinks in time; where it shrinks in rows or columns it reads the bias of other places.

    Args:
        mixer: the block's token movement.
        windows: how the clip is cut.
        table: (frames, rows, columns) that the table spans.
        bias_keys: "own", "first_frame" or "cut".

    Returns:
        int32 [G, W, M, M] for the groups of `partitions.group`; G and W are 1 where all agree.

    Raises:
        ValueError: if a difference does not fit the table or bias_keys does not fit the mixer.
    """
    queries = keys = mixing.positions(mixer, windows)
    if bias_keys == "cut":
        whole = bias_index(mixer, Windows(table, table), table, "own")
        return whole[..., : queries.shape[2], : queries.shape[2]]
    if bias_keys == "first_frame":
        if not mixer.partition.is_of_frames:
            raise ValueError(
                f"bias_keys={bias_keys!r} with {mixer.partition}: use 'own' where frames attend "
                "together; 'first_frame' was released for groups of one frame alone"
            )
        keys = queries[:1]
    return mixing.shared(relative_bias.relative_index(queries, keys, table))
