"""A PST in plain PyTorch, with the released names: loops where the library has permutations."""

import math

import torch
from convert.torch_frames import Attention, Mlp
from einops import rearrange
from torch import nn
from torch.nn import functional

_TILE = ((-4, 1, 2), (-1, 0, 3), (-2, -3, 4))


class PstBlock(nn.Module):
    """Shifts channels in windows at rest, or patches in cyclically shifted windows."""

    def __init__(self, dim, heads, frames, window, shifts_patches):
        super().__init__()
        self.heads, self.frames, self.window = heads, frames, window
        self.shifts_patches = shifts_patches
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        rows = (2 * frames - 1) * math.prod(2 * side - 1 for side in window)
        self.attn, self.mlp = Attention(dim, heads, rows), Mlp(dim)
        self.places = [(r, c) for r in range(window[0]) for c in range(window[1])]
        self.offsets = [_TILE[r % 3][c % 3] * shifts_patches for r, c in self.places]

    def forward(self, x):
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def attend(self, x):
        sides = x.shape[2:4]
        ends = [-side % size for side, size in zip(sides, self.window)]
        x = functional.pad(x, (0, 0, 0, ends[1], 0, ends[0]))
        grid = x.shape[2:4]
        shift = [
            size // 2 if self.shifts_patches and size < side else 0
            for side, size in zip(sides, self.window)
        ]
        x = self.cut(x.roll([-s for s in shift], (2, 3)))
        x = self.shift_patches(x, 1) if self.shifts_patches else self.shift_channels(x)
        x = self.attn(x, self.bias() + self.mask(grid, shift))
        x = self.shift_patches(x, -1)
        i, (h, w) = grid[0] // self.window[0], self.window
        x = rearrange(x, "b t (i j) (h w) c -> b t (i h) (j w) c", i=i, h=h, w=w)
        return x.roll(shift, (2, 3))[:, :, : sides[0], : sides[1]]

    def cut(self, x):
        h, w = self.window
        return rearrange(x, "b t (i h) (j w) c -> b t (i j) (h w) c", h=h, w=w)

    def shift_patches(self, x, sign):
        moved = [x[..., i, :].roll(sign * s, 1) for i, s in enumerate(self.offsets)]
        return torch.stack(moved, dim=-2)

    def shift_channels(self, x):
        heads = rearrange(x, "... (h d) -> ... h d", h=self.heads)
        fold = heads.shape[-1] // 8
        out = heads.clone()
        out[:, 1:, ..., :fold] = heads[:, :-1, ..., :fold]
        out[:, :-1, ..., fold : 2 * fold] = heads[:, 1:, ..., fold : 2 * fold]
        return out.flatten(-2)

    def bias(self):
        """[T, 1, heads, n, n]: as released, keys are at their time in the first frame."""
        (h, w), frames = self.window, self.frames
        rows = torch.zeros(frames, len(self.places), len(self.places), dtype=torch.long)
        for t in range(frames):
            for i, (row, column) in enumerate(self.places):
                for j, (key_row, key_column) in enumerate(self.places):
                    time = (t - self.offsets[i]) % frames - (-self.offsets[j]) % frames
                    row_index = (time + frames - 1) * (2 * h - 1) + row - key_row + h - 1
                    rows[t, i, j] = row_index * (2 * w - 1) + column - key_column + w - 1
        return self.attn.relative_position_bias_table[rows].movedim(-1, 1)[:, None]

    def mask(self, grid, shift):
        """[1, windows, 1, n, n]: -100 between what came from opposite sides."""
        regions = torch.zeros(1, 1, *grid, 1)
        for axis, step in enumerate(shift):
            size, length = self.window[axis], grid[axis]
            for start in (length - size, length - step) if step else ():
                regions.narrow(axis + 2, start, length - start).add_(3**axis)
        regions = self.cut(regions)[0, ..., 0]
        return -100.0 * (regions[..., :, None] != regions[..., None, :])[:, :, None]


class Merging(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * dim), nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x):
        x = functional.pad(x, (0, 0, 0, x.shape[3] % 2, 0, x.shape[2] % 2))
        corners = [x[:, :, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class PstStage(nn.Module):
    def __init__(self, dim, depth, heads, frames, window, is_last):
        super().__init__()
        self.blocks = nn.Sequential(
            *(PstBlock(dim, heads, frames, window, i % 2 == 1) for i in range(depth))
        )
        if not is_last:
            self.downsample = Merging(dim)

    def forward(self, x):
        x = self.blocks(x)
        return self.downsample(x) if hasattr(self, "downsample") else x


class PstEmbed(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.proj, self.norm = nn.Conv3d(3, dim, (2, 4, 4), (2, 4, 4)), nn.LayerNorm(dim)

    def forward(self, x):
        return self.norm(self.proj(x).movedim(1, -1)).movedim(-1, 1)


class PstBackbone(nn.Module):
    def __init__(self, num_frames, embed_dim, depths, num_heads, window):
        super().__init__()
        self.patch_embed = PstEmbed(embed_dim)
        last = len(depths) - 1
        self.layers = nn.Sequential(
            *(
                PstStage(embed_dim * 2**s, depth, heads, num_frames // 2, window[1:], s == last)
                for s, (depth, heads) in enumerate(zip(depths, num_heads))
            )
        )
        self.norm = nn.LayerNorm(embed_dim * 2**last)

    def forward(self, x):
        x = self.layers(self.patch_embed(x).movedim(1, -1))
        return self.norm(x).movedim(-1, 1)


class PstHead(nn.Module):
    def __init__(self, dim, num_classes):
        super().__init__()
        self.fc_cls = nn.Linear(dim, num_classes)

    def forward(self, x):
        return self.fc_cls(x.mean((2, 3, 4)))


class Pst(nn.Module):
    """Maps a video [B, 3, F, H, W] to logits [B, K]."""

    def __init__(self, num_classes, **shape):
        super().__init__()
        self.backbone = PstBackbone(**shape)
        self.cls_head = PstHead(self.backbone.norm.normalized_shape[0], num_classes)

    def forward(self, x):
        return self.cls_head(self.backbone(x))
