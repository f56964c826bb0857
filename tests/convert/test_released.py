import golden_files
import jax
import jax.numpy as jnp
import jitted
import numpy as np
import pytest

import pst_jax
from pst_jax import convert

GOLDEN = golden_files.load("pst_56")
RELEASED = golden_files.state_dict(GOLDEN)


def test_round_trip_is_bit_exact_and_carries_the_index_buffers():
    model = golden_files.model()
    back = convert.to_torch(convert.from_torch(RELEASED, model), model)
    for name, value in RELEASED.items():
        assert back[name].dtype == value.dtype
        np.testing.assert_array_equal(back.pop(name), value)
    assert len(back) == 2 * 4  # two buffers for each of four blocks
    for name, value in back.items():
        kind = "unshifted" if name.endswith("_old") else "shifted"
        assert value.dtype == np.int64
        np.testing.assert_array_equal(value, GOLDEN[f"idx/{kind}"])


def test_published_model_has_the_released_tensors():
    model = pst_jax.create_model("pst_tiny", 400)
    video = jnp.zeros((1, 32, 32, 32, 3))
    variables = jax.eval_shape(lambda: jitted.init(model, video, 0))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)
    released = convert.to_torch(zeros, model)
    assert len(released) == 197
    buffers = [value for value in released.values() if value.dtype == np.int64]
    assert len(buffers) == 24 and sum(value.size for value in buffers) == 921_984
    assert released["backbone.patch_embed.proj.weight"].shape == (96, 3, 2, 4, 4)
    assert released["cls_head.fc_cls.weight"].shape == (400, 768)


def test_plain_2d_model_has_one_buffer_per_block():
    model = pst_jax.create_model("swin2d_tiny", 5, embed_dim=24, depths=(1,), num_heads=(3,))
    video = jnp.zeros((1, 2, 32, 32, 3))
    variables = jitted.init(model, video, 0)
    released = convert.to_torch(variables, model)
    index = released["backbone.layers.0.blocks.0.attn.relative_position_index"]
    assert index.shape == (49, 49) and index[0, 0] == 84 and index[0, 48] == 0


@pytest.mark.parametrize("prefix", ["strip", "module.", ""])
def test_prefixes_and_buffers_do_not_matter(prefix):
    given = {
        (
            name.replace("backbone.", "").replace("cls_head.", "")
            if prefix == "strip"
            else prefix + name
        ): v
        for name, v in RELEASED.items()
    }
    given["layers.0.blocks.0.attn.relative_position_index"] = np.zeros((16, 49, 49), np.int64)
    model = golden_files.model()
    ours, expected = (convert.from_torch(s, model) for s in (given, RELEASED))
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


def test_one_error_lists_everything_that_does_not_fit():
    given = dict(RELEASED)
    given["backbone.extra.weight"] = np.zeros(3)
    given["backbone.norm.weight"] = np.zeros(7)
    given["backbone.patch_embed.proj.weight"] = np.zeros(3)
    del given["cls_head.fc_cls.bias"]
    with pytest.raises(ValueError) as error:
        convert.from_torch(given, golden_files.model())
    text = str(error.value)
    assert "unknown: extra.weight, (3,)" in text
    assert "misshapen: backbone.norm.weight is (7,)" in text
    assert "missing: cls_head.fc_cls.bias" in text
    assert "misshapen: backbone.patch_embed.proj.weight is (3,)" in text
    assert text.count("\n") == 4


def test_another_class_count_is_an_error_and_not_a_new_head():
    with pytest.raises(ValueError, match="fc_cls"):
        convert.from_torch(
            RELEASED,
            pst_jax.create_model("pst_tiny", 11, embed_dim=24, depths=(2, 2), num_heads=(3, 6)),
        )
