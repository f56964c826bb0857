import pytest

import pst_jax
from pst_jax.evaluation import cost

# (conv, linear, matmul, norm, total) in G multiply-adds, counted on the released system.
MEASURED = {
    "pst_tiny": (0.462, 69.364, 2.242, 0.298, 72.366),
    "swin2d_tiny": (0.462, 69.364, 2.242, 0.298, 72.366),
    "pst_base": (0.617, 241.693, 4.878, 0.590, 247.778),
}


@pytest.mark.parametrize("name", MEASURED)
def test_counts_what_the_papers_tool_counts(name):
    counted = cost.count(pst_jax.create_model(name))
    ours = (counted.conv, counted.linear, counted.matmul, counted.norm, counted.total)
    assert tuple(round(value / 1e9, 3) for value in ours) == MEASURED[name]


def test_deeper_windows_cost_what_doubled_keys_cost():
    # PST (ECCV 2022), the variant with temporal window 2: 74.61 G.
    model = pst_jax.create_model("pst_tiny", window=(2, 7, 7), bias_keys="own")
    assert cost.count(model).total / 1e9 == pytest.approx(74.608, abs=2e-3)


def test_rematerialised_programs_count_once():
    plain, remat = (
        cost.count(pst_jax.create_model("pst_testing", remat=r), 32) for r in (False, True)
    )
    assert plain == remat


def test_xla_counts_a_multiply_add_twice_and_more():
    model = pst_jax.create_model("pst_testing", 5)
    counted = cost.count(model, 32)
    products = counted.conv + counted.linear + counted.matmul
    assert 1.9 * products < cost.xla_flops(model, 32) < 4 * products
