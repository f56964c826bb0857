import io
import re
import zipfile

import golden_files
import jax
import jax.numpy as jnp
import jitted
import numpy as np
import pytest

import pst_jax
from pst_jax import convert
from pst_jax.convert.released import to_our_layout
from pst_jax.convert.resize import inflate_patch_kernel, resize_bias_table

GOLDEN = golden_files.load("inflate")
SHAPE = dict(embed_dim=24, depths=(2, 2), num_heads=(3, 6))
KERNEL = "patch_embed/proj/kernel"


def image_state_dict(window=7):
    """A 2D Swin as an ImageNet file has it: its own head, masks and index buffers."""
    model = pst_jax.create_model("swin2d_tiny", 10, **SHAPE, window=(1, window, window))
    variables = jitted.init(model, jnp.zeros((1, 2, 56, 56, 3)), 3)
    given = {}
    for name, value in convert.to_torch(variables, model).items():
        name = name.removeprefix("backbone.")
        if name == "patch_embed.proj.weight":
            value = value.sum(axis=2)
        given[name.replace("cls_head.fc_cls.", "head.")] = np.asarray(value)
    given["layers.0.blocks.1.attn_mask"] = np.zeros((4, 49, 49), np.float32)
    return given


@pytest.mark.parametrize("window", ["win7", "win6", "win12"])
def test_inflation_equals_the_released_one(window):
    flat = to_our_layout(KERNEL, GOLDEN[f"{window}/2d/patch_embed.proj.weight"])
    expected = to_our_layout(KERNEL, GOLDEN[f"{window}/3d/patch_embed.proj.weight"])
    np.testing.assert_array_equal(inflate_patch_kernel(flat, 2), expected)
    name = "layers.0.blocks.1.attn.relative_position_bias_table"
    ours = resize_bias_table(GOLDEN[f"{window}/2d/{name}"], (16, 7, 7)).reshape(31, 169, -1)
    expected = GOLDEN[f"{window}/3d/{name}"]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(ours, np.broadcast_to(expected, ours.shape), atol=1e-5 * scale)
    if window == "win7":
        np.testing.assert_array_equal(ours, np.broadcast_to(expected, ours.shape))


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


def zip_of_pickle():
    """What PyTorch writes is a zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
    return buffer.getvalue()


def npy(save, *arrays, **named):
    buffer = io.BytesIO()
    save(buffer, *arrays, **named)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b'{"model": 1}',
        zip_of_pickle(),
        zip_of_pickle()[:40],
        npy(np.save, np.zeros(3)),
        npy(np.savez),
        npy(np.savez, a=np.zeros(9))[:-9],
        npy(np.savez, a=np.array([{}], object)),
    ],
)
def test_a_file_of_another_kind_is_refused_with_the_remedy(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    message = r"init_from='.*weights.pth': it is no .npz of arrays \(.*\). From a PyTorch file"
    with pytest.raises(ValueError, match=message) as caught:
        convert.init_from_file(str(path), golden_files.model())
    assert "trust" not in str(caught.value)  # no word of unpickling


def test_a_place_without_weights_is_refused_by_name(tmp_path):
    (tmp_path / "empty").mkdir()
    for name, message in (("none", "no such file or directory"), ("empty", "no checkpoints")):
        with pytest.raises(ValueError, match=f"init_from='{tmp_path / name}': .*{message}"):
            convert.init_from_file(str(tmp_path / name), golden_files.model())


def test_weights_of_something_else_are_refused_by_file_and_key(tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, **{"a": np.zeros(3), "patch_embed.proj.weight": np.zeros(3)})
    with pytest.raises(ValueError, match=r"init_from='.*other.npz': .* does not fit") as caught:
        convert.init_from_file(str(path), golden_files.model())
    for line in ("unknown: a (3,)", "missing: norm/scale (48,)", f"misshapen: {KERNEL} is (3,)"):
        assert line in str(caught.value)


def test_a_table_of_no_known_window_is_refused():
    with pytest.raises(ValueError, match="150 rows"):
        resize_bias_table(np.zeros((150, 2)), (16, 7, 7))
