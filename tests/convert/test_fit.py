import re

import golden_files
import jax
import jax.numpy as jnp
import jitted
import numpy as np
import optax
import pytest

import pst_jax
from pst_jax import checkpoint, convert
from pst_jax.convert.resize import resize_grid, resize_token_positions
from pst_jax.training.state import TrainState

SHAPE = dict(embed_dim=24, depths=(2, 2), num_heads=(3, 6))
KERNEL = "patch_embed/proj/kernel"


def image_state_dict(window=7):
    """A 2D Swin as an ImageNet file has it: its own head, masks and index buffers."""
    model = pst_jax.create_model("swin2d_tiny", 10, **SHAPE, window=(1, window, window))
    video = jnp.zeros((1, 2, 56, 56, 3))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), video, train=False))
    rng = np.random.default_rng(3)
    draw = lambda leaf: rng.normal(leaf.ndim == 1, 0.1, leaf.shape).astype(leaf.dtype)  # noqa: E731
    given = {}
    for name, value in convert.to_torch(jax.tree.map(draw, shapes), model).items():
        name = name.removeprefix("backbone.")
        if name == "patch_embed.proj.weight":
            value = value.sum(axis=2)
        given[name.replace("cls_head.fc_cls.", "head.")] = value
    given["layers.0.blocks.1.attn_mask"] = np.zeros((4, 49, 49), np.float32)
    return given


def test_a_2d_checkpoint_gives_the_2d_network_and_both_kinds_of_keys_agree():
    given = image_state_dict()
    video = jnp.broadcast_to(
        jax.random.normal(jax.random.key(0), (1, 1, 56, 56, 3)), (1, 8, 56, 56, 3)
    )
    features = {}
    for keys in ("own", "first_frame"):
        model = pst_jax.create_model("pst_tiny", 7, num_frames=8, bias_keys=keys, **SHAPE)
        variables = convert.init_from_2d(given, model)
        features[keys] = jitted.apply(model, variables, video, method=model.features)
    # A still video: no movement in time can be seen, so that PST is the image network.
    image = pst_jax.create_model("swin2d_tiny", 7, num_frames=8, **SHAPE)
    variables = convert.init_from_2d(given, image)
    still = jitted.apply(image, variables, video, method=image.features)
    np.testing.assert_array_equal(features["own"], features["first_frame"])
    np.testing.assert_allclose(features["own"], still, atol=1e-5)


def test_the_head_is_new_and_drawn_from_the_seed():
    model = pst_jax.create_model("pst_tiny", 10, num_frames=8, **SHAPE)
    heads = [
        convert.init_from_2d(image_state_dict(), model, seed=s)["params"]["head"]["kernel"]
        for s in (0, 0, 1)
    ]
    np.testing.assert_array_equal(heads[0], heads[1])
    assert (heads[0] != heads[2]).any()


def test_a_2d_checkpoint_with_a_hole_lists_it():
    given = image_state_dict()
    del given["norm.weight"]
    given["odd.weight"] = np.zeros(2)
    with pytest.raises(ValueError, match=r"missing: norm/scale") as error:
        convert.init_from_2d(given, golden_files.model())
    assert "unknown: odd.weight" in str(error.value)


def test_a_video_file_starts_a_model_of_other_classes_and_frames(tmp_path):
    released = golden_files.state_dict(golden_files.load("pst_56"))
    np.savez(tmp_path / "released.npz", **released)
    model = pst_jax.create_model("pst_tiny", 3, num_frames=16, **SHAPE)
    variables, changes = convert.init_from_file(str(tmp_path / "released.npz"), model)
    table = variables["params"]["layers_0_blocks_0"]["attn"]["relative_position_bias_table"]
    assert table.shape == (15 * 169, 3)
    # The middle slab, no difference in time, stays what it was.
    original = released["backbone.layers.0.blocks.0.attn.relative_position_bias_table"]
    np.testing.assert_allclose(table[7 * 169 : 8 * 169], original[15 * 169 : 16 * 169], atol=1e-6)
    assert sum(change.startswith("new: head/") for change in changes) == 2
    assert sum(bool(re.match(r"resized: .*bias_table", change)) for change in changes) == 4
    jitted.apply(model, variables, jnp.zeros((1, 16, 56, 56, 3)))


def test_a_file_of_another_kind_is_refused_by_flag_and_name(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"init_from='.*weights.pth': .*web page"):
        convert.init_from_file(str(path), golden_files.model())


def test_a_place_without_weights_is_refused_by_name(tmp_path):
    (tmp_path / "empty").mkdir()
    for name, message in (("none", "no such file or directory"), ("empty", "no model folder")):
        with pytest.raises(ValueError, match=f"init_from='{tmp_path / name}': .*{message}"):
            convert.init_from_file(str(tmp_path / name), golden_files.model())


def test_weights_of_something_else_are_refused_by_file_and_key(tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, **{"a": np.zeros(3), "patch_embed.proj.weight": np.zeros(3)})
    with pytest.raises(ValueError, match=r"init_from='.*other.npz': .* does not fit") as caught:
        convert.init_from_file(str(path), golden_files.model())
    missing = "missing: layers_0_blocks_0/norm1/bias (24,)"
    for line in ("unknown: a (3,)", missing, f"misshapen: {KERNEL} is (3,)"):
        assert line in str(caught.value)


@pytest.mark.parametrize("path", [None, 3, b"weights.npz", ""])
def test_no_path_is_refused(path):
    with pytest.raises(ValueError, match=f"init_from={path!r}: give the path"):
        convert.init_from_file(path, golden_files.model())


@pytest.mark.parametrize(
    ("side", "num_frames", "window"),
    # The rows are those of 9 slabs of the window's; of a single one; of the whole clip's table.
    [(8, 8, 3), (3, 8, 3), (8, 10, 3)],
)
def test_the_tables_of_an_image_network_are_resized_in_space_alone(
    tmp_path, side, num_frames, window
):
    given = image_state_dict(side)
    shape = SHAPE | {"window": (1, window, window), "num_frames": num_frames}
    model = pst_jax.create_model("pst_tiny", 7, **shape)
    size = 2 * window - 1
    for variables in (convert.init_from_2d(given, model), from_npz(tmp_path, given, model)[0]):
        for block in (0, 1):
            source = given[f"layers.0.blocks.{block}.attn.relative_position_bias_table"]
            image = source.reshape(1, 2 * side - 1, 2 * side - 1, 3)
            table = variables["params"][f"layers_0_blocks_{block}"]["attn"][
                "relative_position_bias_table"
            ].reshape(-1, size, size, 3)
            assert len(table) == num_frames - 1
            for slab in table:
                np.testing.assert_array_equal(slab, resize_grid(image, (size, size))[0])


VISFORMER = golden_files.load("visformer")
VIT = golden_files.load("vit")


def image_weights(golden):
    """The weights as an ImageNet file has them: bare names, and a head for other classes."""
    given = {
        name.removeprefix("base_model."): value
        for name, value in golden_files.state_dict(golden).items()
    }
    return given | {"head.weight": np.zeros((7, 3)), "head.bias": np.zeros(7)}


def from_npz(tmp_path, given, model):
    np.savez(tmp_path / "weights.npz", **given)
    return convert.init_from_file(str(tmp_path / "weights.npz"), model)


def test_a_visformer_starts_from_an_image_network_of_another_size(tmp_path):
    given = image_weights(VISFORMER)
    model = golden_files.model_of("laps", VISFORMER["laps/config"], image_size=96)
    variables, changes = from_npz(tmp_path, given, model)
    assert changes == [
        "new: head/bias (10,)",
        "new: head/kernel (64, 10)",
        "resized: pos_embed1 (1, 8, 8, 16) -> (1, 12, 12, 16)",
        "resized: pos_embed2 (1, 4, 4, 32) -> (1, 6, 6, 32)",
        "resized: pos_embed3 (1, 2, 2, 64) -> (1, 3, 3, 64)",
        "dropped: head/bias (7,)",
        "dropped: head/kernel (3, 7)",
    ]
    for name, ours in (("running_mean", "mean"), ("running_var", "var")):
        np.testing.assert_array_equal(
            variables["batch_stats"]["stage3_blocks_1"]["norm2"][ours],
            given[f"stage3.1.norm2.bn.{name}"],
        )
    # The middle of three bicubic samples of two is their mean.
    position = given["pos_embed3"].transpose(0, 2, 3, 1)
    middle = variables["params"]["pos_embed3"][0, 1, 1]
    np.testing.assert_allclose(middle, position.mean(axis=(0, 1, 2)), atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, convert.init_from_2d(given, model), dict(variables))
    logits = jitted.apply(model, variables, jnp.zeros((1, 8, 96, 96, 3)))
    assert logits.shape == (1, 10) and np.isfinite(logits).all()


def test_missing_and_misshapen_statistics_are_listed_with_the_rest():
    given = image_weights(VISFORMER)
    del given["norm.bn.running_mean"]
    given["stem.1.bn.running_var"] = np.zeros(3)
    # As a linear layer's: as many numbers, and square, so that only its axes tell.
    given["stage2.0.attn.proj.weight"] = np.zeros((32, 32))
    model = golden_files.model_of("laps", VISFORMER["laps/config"])
    with pytest.raises(ValueError) as error:
        convert.init_from_2d(given, model)
    lines = str(error.value).split("\n  ")[1:]
    assert sorted(lines) == [
        "misshapen: stage2_blocks_0/attn/proj/kernel is (32, 32), not [o, i, 1, 1]",
        "misshapen: stem_norm/var is (3,), not (8,): another architecture",
        "missing: norm/mean (64,)",
    ]


@pytest.mark.parametrize("frames", [1, 8])
def test_a_vit_starts_from_a_distilled_image_network_of_another_size(tmp_path, frames):
    given = image_weights(VIT)
    position = given["pos_embed"]
    given |= {
        "dist_token": np.ones((1, 1, 32)),
        "head_dist.weight": np.ones((7, 32)),
        "head_dist.bias": np.ones(7),
        "pre_logits.fc.weight": np.ones((32, 32)),
        "pos_embed": np.insert(position, 1, 9.0, axis=1),
    }
    options = {"image_size": 48, "pos_embed": "space" if frames == 1 else "space_time"}
    model = golden_files.model_of("tokshift", VIT["tokshift/config"], **options)
    variables, changes = from_npz(tmp_path, given, model)
    assert changes == [
        "new: head/bias (10,)",
        "new: head/kernel (32, 10)",
        f"resized: pos_embed (1, 17, 32) -> ({frames}, 37, 32)",
        "dropped: dist_token (1, 1, 32)",
        "dropped: head_dist.weight (7, 32)",
        "dropped: head_dist.bias (7,)",
        "dropped: pre_logits.fc.weight (32, 32)",
        "dropped: head/bias (7,)",
        "dropped: head/kernel (3, 7)",
    ]
    resized = variables["params"]["pos_embed"]
    np.testing.assert_array_equal(
        resized,
        resize_token_positions(position, (frames, 37, 32)),  # without the second token's
    )
    kernel = variables["params"]["patch_embed"]["proj"]["kernel"]
    patch = given["patch_embed.proj.weight"]
    np.testing.assert_array_equal(kernel.reshape(8, 8, 3, 32), patch.transpose(2, 3, 1, 0))


def test_a_vit_takes_no_patches_of_another_size():
    given = image_weights(VIT)
    model = golden_files.model_of("vit2d", VIT["vit2d/config"], patch_size=4)
    with pytest.raises(ValueError, match=r"misshapen: patch_embed/proj/kernel is \(192, 32\)"):
        convert.init_from_2d(given, model)


@pytest.mark.parametrize(
    ("golden", "kind", "block"),
    [(VIT, "vit2d", "blocks_1"), (VISFORMER, "base2d", "stage3_blocks_1")],
)
def test_attentions_that_the_image_network_lacks_start_as_copies(tmp_path, golden, kind, block):
    model = golden_files.model_of(kind, golden[f"{kind}/config"], mixers="divided")
    given = image_weights(golden)
    variables, changes = from_npz(tmp_path, given, model)
    for tree in variables.values():
        for name in {"attn", "norm1"} & tree[block].keys():
            jax.tree.map(np.testing.assert_array_equal, tree[block][f"{name}_0"], tree[block][name])
    assert f"copied: {block}/attn/qkv/kernel -> {block}/attn_0/qkv/kernel" in changes
    if "batch_stats" in variables:
        assert f"copied: {block}/norm1/var -> {block}/norm1_0/var" in changes
    leaves = jax.tree.leaves(variables)
    assert len(leaves) > len(changes) > 2 and all(np.isfinite(leaf).all() for leaf in leaves)


def test_further_attentions_of_swin_start_as_copies_with_their_tables():
    model = pst_jax.create_model("swin_tiny_divided", 10, num_frames=8, **SHAPE)
    block = convert.init_from_2d(image_state_dict(), model)["params"]["layers_1_blocks_0"]
    assert block["attn_0"]["relative_position_bias_table"].shape == (7 * 169, 6)
    jax.tree.map(np.testing.assert_array_equal, block["attn_0"], block["attn"])


def save_run(workdir, variables):
    """Saves variables as a training run does."""
    state = TrainState.create(variables, optax.sgd(0.1, momentum=0.9))
    with checkpoint.open_manager(workdir) as manager:
        checkpoint.save(manager, state, {})


def test_a_run_with_statistics_starts_another(tmp_path):
    model = golden_files.model_of("laps", VISFORMER["laps/config"])
    variables = convert.from_torch(golden_files.state_dict(VISFORMER), model)
    save_run(tmp_path, variables)
    other = golden_files.model_of("base2d", VISFORMER["base2d/config"])
    started, changes = convert.init_from_file(str(tmp_path), other)
    assert changes == []
    jax.tree.map(np.testing.assert_array_equal, started, variables)
    with pytest.raises(ValueError, match="weights of a Visformer, and the model is a Swin"):
        convert.init_from_file(str(tmp_path), golden_files.model())


def test_a_run_with_a_hole_in_a_further_attention_is_not_patched_up(tmp_path):
    model = golden_files.model_of("vit2d", VIT["vit2d/config"], mixers="divided")
    variables = convert.init_from_2d(image_weights(VIT), model)
    del variables["params"]["blocks_2"]["attn_0"]["proj"]["bias"]
    save_run(tmp_path, variables)
    with pytest.raises(ValueError, match=r"missing: blocks_2/attn_0/proj/bias \(32,\)"):
        convert.init_from_file(str(tmp_path), model)
