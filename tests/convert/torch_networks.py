"""Small PyTorch networks with seeded weights, that conversion is compared with layer by layer."""

import torch
from convert import torch_frames, torch_pst

# Variant, classes and overrides of our model, as `make_recordings.py` writes them down.
CONFIGS = {
    "vit": {
        "variant": "vit_base",
        "num_classes": 5,
        "overrides": dict(
            num_frames=3, image_size=24, patch_size=8, embed_dim=16, depth=2, num_heads=2
        ),
    },
    "visformer": {
        "variant": "visformer_2d",
        "num_classes": 5,
        "overrides": dict(
            num_frames=2,
            image_size=64,
            init_channels=2,
            embed_dim=16,
            depths=(2, 1, 1),
            num_heads=2,
        ),
    },
    # 9 x 7 tokens: windows of 4 x 4 are padded in both stages, and so is merging.
    "pst": {
        "variant": "pst_tiny",
        "num_classes": 30,
        "overrides": dict(
            num_frames=6, embed_dim=8, depths=(2, 2), num_heads=(1, 2), window=(1, 4, 4)
        ),
    },
}
VIDEOS = {"vit": (2, 3, 24, 24, 3), "visformer": (1, 2, 64, 64, 3), "pst": (1, 6, 36, 28, 3)}


def make(kind, seed):
    """A network with weights that float16 holds, none of them trivial, and a video for it."""
    config = CONFIGS[kind]
    cls = {"vit": torch_frames.Vit, "visformer": torch_frames.Visformer, "pst": torch_pst.Pst}[kind]
    network = cls(config["num_classes"], **config["overrides"])
    generator = torch.Generator().manual_seed(seed)
    for name, weight in network.state_dict().items():
        if not weight.is_floating_point():
            continue
        noise = torch.randn(weight.shape, generator=generator)
        if name.endswith("bias_table"):
            noise *= 1.5
        elif weight.ndim > 1:
            noise *= weight[0].numel() ** -0.5
        elif name.endswith("running_var"):
            noise = 0.5 + noise.abs()
        else:
            noise = 0.2 * noise + (("norm" in name or "bn" in name) and name.endswith("weight"))
        weight.copy_(noise.half())
    video = torch.randint(-4, 5, VIDEOS[kind], generator=generator) / 2
    return network, video.numpy()


def run_frames(network, video):
    """Runs frames one by one, as the released TokShift and LAPS do."""
    by_frame = network(video.flatten(0, 1).movedim(-1, 1)).unflatten(0, video.shape[:2])
    return {"frame_logits": by_frame, "logits": by_frame.mean(1)}


def run_pst(network, video):
    features = network.backbone(video.permute(0, 4, 1, 2, 3))
    return {"features": features, "logits": network.cls_head(features)}


RUNS = {"vit": run_frames, "visformer": run_frames, "pst": run_pst}
