"""A ViT and a Visformer in plain PyTorch, with the released names."""

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional


def attend(qkv, heads, bias=0.0):
    """Multi-head attention of tokens [..., n, 3C] to [..., n, C]."""
    query, key, value = rearrange(qkv, "... n (s h d) -> s ... h n d", s=3, h=heads)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2) + bias
    return rearrange(scores.softmax(-1) @ value, "... h n d -> ... n (h d)")


class Mlp(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x):
        return self.fc2(functional.gelu(self.fc1(x)))


class Attention(nn.Module):
    def __init__(self, dim, heads, rows=0):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        if rows:
            self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, heads))

    def forward(self, x, bias=0.0):
        return self.proj(attend(self.qkv(x), self.heads, bias))


class VitEmbed(nn.Module):
    def __init__(self, patch, dim):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, patch)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class VitBlock(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, 1e-6), nn.LayerNorm(dim, 1e-6)
        self.attn, self.mlp = Attention(dim, heads), Mlp(dim)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    """Maps frames [(B T), 3, H, W] to logits [(B T), K]."""

    def __init__(
        self, num_classes, image_size, patch_size, embed_dim, depth, num_heads, num_frames
    ):
        super().__init__()
        places = (image_size // patch_size) ** 2
        self.patch_embed = VitEmbed(patch_size, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + places, embed_dim))
        self.blocks = nn.Sequential(*(VitBlock(embed_dim, num_heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(embed_dim, 1e-6)
        self.head = nn.Linear(embed_dim, num_classes)

    def forward(self, x):
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


class Norm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x):
        return self.bn(x)


class ConvAttention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.proj = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x):
        out = attend(rearrange(self.qkv(x), "b c h w -> b (h w) c"), self.heads)
        return self.proj(rearrange(out, "b (h w) c -> b c h w", h=x.shape[2]))


class ConvMlp(nn.Module):
    def __init__(self, dim, is_spatial):
        super().__init__()
        width = dim * (2 if is_spatial else 4)
        self.conv1 = nn.Conv2d(dim, width, 1, bias=False)
        if is_spatial:
            self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=8, bias=False)
        self.conv3 = nn.Conv2d(width, dim, 1, bias=False)

    def forward(self, x):
        x = functional.gelu(self.conv1(x))
        return self.conv3(functional.gelu(self.conv2(x)) if hasattr(self, "conv2") else x)


class ConvBlock(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        if heads:
            self.norm1, self.attn = Norm(dim), ConvAttention(dim, heads)
        self.norm2, self.mlp = Norm(dim), ConvMlp(dim, not heads)

    def forward(self, x):
        x = x + self.attn(self.norm1(x)) if hasattr(self, "attn") else x
        return x + self.mlp(self.norm2(x))


class ConvEmbed(nn.Module):
    def __init__(self, inputs, dim, patch):
        super().__init__()
        self.proj, self.norm = nn.Conv2d(inputs, dim, patch, patch), Norm(dim)

    def forward(self, x):
        return self.norm(self.proj(x))


class Visformer(nn.Module):
    """Maps frames [(B T), 3, H, W] to logits [(B T), K]."""

    def __init__(
        self, num_classes, image_size, init_channels, embed_dim, depths, num_heads, num_frames
    ):
        super().__init__()
        # The release writes over what the norm gave, too.
        self.stem = nn.Sequential(
            nn.Conv2d(3, init_channels, 7, 2, 3, bias=False),
            Norm(init_channels),
            nn.ReLU(inplace=True),
        )
        inputs, side = init_channels, image_size // 2
        for stage, depth in enumerate(depths, start=1):
            dim, patch = embed_dim * 2**stage // 4, 4 if stage == 1 else 2
            side //= patch
            heads = 0 if stage == 1 else num_heads
            blocks = nn.Sequential(*(ConvBlock(dim, heads) for _ in range(depth)))
            self.add_module(f"patch_embed{stage}", ConvEmbed(inputs, dim, patch))
            positions = nn.Parameter(torch.zeros(1, dim, side, side))
            self.register_parameter(f"pos_embed{stage}", positions)
            self.add_module(f"stage{stage}", blocks)
            inputs = dim
        self.norm, self.head = Norm(inputs), nn.Linear(inputs, num_classes)

    def forward(self, x):
        x = self.stem(x)
        for stage in (1, 2, 3):
            x = getattr(self, f"patch_embed{stage}")(x) + getattr(self, f"pos_embed{stage}")
            x = getattr(self, f"stage{stage}")(x)
        return self.head(self.norm(x).mean((2, 3)))
