import json

import pytest

from pst_jax.convert.preprocess import Preprocess


def test_json_gives_it_back():
    given = Preprocess(32, 2, "dense", 224, 256, 4, 3, "logit", (1, 2, 3), (4, 5, 6.5))
    values = json.loads(json.dumps(vars(given)))
    assert Preprocess.from_json(values) == given


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_frames": 0}, "num_frames=0"),
        ({"num_frames": True}, "num_frames=True"),
        ({"stride_frames": 1.5}, "stride_frames=1.5"),
        ({"sampling": "random"}, "sampling='random'"),
        ({"short_side_px": 200}, "short_side_px=200"),
        ({"num_crops": 2}, "num_crops=2"),
        ({"average": "max"}, "average='max'"),
        ({"mean": [1, 2]}, "mean"),
        ({"std": [1, 2, float("nan")]}, "std"),
        ({"colour": 1}, "no field 'colour'"),
    ],
)
def test_a_value_that_does_not_fit_is_named(values, message):
    good = dict(num_frames=8, stride_frames=2, sampling="dense", size_px=224, short_side_px=256)
    with pytest.raises(ValueError, match=message):
        Preprocess.from_json(good | values)
    with pytest.raises(ValueError, match="lacks size_px"):
        Preprocess.from_json({k: v for k, v in good.items() if k != "size_px"})
