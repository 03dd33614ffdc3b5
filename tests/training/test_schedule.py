"""The learning rate over a run."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcommons.recipe import ScheduleRecipe
from lmcommons.training.schedule import learning_rate_factor


def factors(schedule: ScheduleRecipe, steps: int) -> list[float]:
    return [learning_rate_factor(schedule, step, steps) for step in range(steps)]


def test_warm_up_is_linear_and_reaches_the_peak():
    values = factors(ScheduleRecipe(warmup_steps=4), 100)
    assert values[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_cosine_is_half_way_in_the_middle_and_ends_at_the_final_fraction():
    values = factors(ScheduleRecipe(warmup_steps=0, final_fraction=0.1), 101)
    assert values[0] == 1
    assert values[50] == pytest.approx(0.55)
    assert values[25] == pytest.approx(0.1 + 0.9 * (1 + 2**-0.5) / 2)
    assert values[100] == pytest.approx(0.1)


def test_wsd_is_constant_then_falls_in_a_straight_line():
    values = factors(ScheduleRecipe(name="wsd", warmup_steps=0, decay_fraction=0.25, final_fraction=0.0), 40)
    assert values[:30] == [1.0] * 30
    assert values[30:] == pytest.approx([step / 10 for step in range(9, -1, -1)])


@given(
    st.sampled_from(["cosine", "wsd"]),
    st.integers(1, 300),
    st.floats(0, 0.99),
    st.floats(0.01, 1),
    st.floats(0, 1),
)
def test_every_factor_is_a_share_of_the_peak_and_none_rises_after_warm_up(name, steps, warmup, decay, final):
    schedule = ScheduleRecipe(name=name, warmup_steps=int(warmup * steps), decay_fraction=decay, final_fraction=final)
    values = factors(schedule, steps)
    assert all(0 <= value <= 1 for value in values)
    after = values[schedule.warmup_steps :]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(after))
    if steps > schedule.warmup_steps + 1:
        assert values[-1] == pytest.approx(final)
