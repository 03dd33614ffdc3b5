"""Learning-rate schedules: warm-up, then cosine decay, or constant with a linear decay at the end."""

import math

from lmcommons.recipe import ScheduleRecipe


def learning_rate_factor(schedule: ScheduleRecipe, step: int, steps: int) -> float:
    """The share of the peak learning rate that optimiser step `step` (0 … steps - 1) uses.

    Linear warm-up to 1; then a half cosine (Loshchilov & Hutter 2017, eq. 5) or, for `wsd` (Hu et al. 2024, §4), a
    constant and a linear decay over the last `decay_fraction` of the steps. The last step uses `final_fraction`.
    """
    warmup = min(1.0, (step + 1) / (schedule.warmup_steps + 1))
    if schedule.name == "cosine":
        progress = max(0, step - schedule.warmup_steps) / max(1, steps - 1 - schedule.warmup_steps)
        share = (1 + math.cos(math.pi * progress)) / 2
    else:
        share = min(1.0, (steps - 1 - step) / max(1, round(steps * schedule.decay_fraction)))
    return min(warmup, schedule.final_fraction + (1 - schedule.final_fraction) * share)
