"""What all objectives promise: rows from seed and number alone, losses that add up, one graph, and learning."""

import pytest
import torch
from objective_cases import CASES, CONTEXT, case
from torch._dynamo.testing import CompileCounter

from lmcommons.model import IGNORED
from lmcommons.recipe import OptimizerRecipe
from lmcommons.training.batches import Batch
from lmcommons.training.loop import mean_loss, training_step
from lmcommons.training.optimiser import Optimiser

ALL = pytest.mark.parametrize("name", CASES)


def same(left: Batch, right: Batch) -> bool:
    found, expected = vars(left), vars(right)
    return all(
        torch.equal(found[name], expected[name]) if expected[name] is not None else found[name] is None
        for name in expected
    )


@ALL
def test_rows_are_the_same_whatever_was_read_before(name):
    fresh, used = case(name).rows(), case(name).rows()
    used.batch(used.rows_per_epoch * 2, 3)
    for first in (0, 5, fresh.rows_per_epoch - 1):
        assert same(used.batch(first, 2), fresh.batch(first, 2))


@ALL
def test_epochs_and_seeds_give_other_rows(name):
    rows = case(name).rows()
    first = rows.batch(0, 8)
    assert not same(first, rows.batch(rows.rows_per_epoch, 8))
    assert not same(first, case(name).rows(seed=1).batch(0, 8))


@ALL
def test_a_batch_in_parts_has_the_loss_of_the_whole(name):
    model, rows, objective = case(name).model(), case(name).rows(), case(name).objective
    model.eval()
    batch = rows.batch(0, 4)
    with torch.no_grad():
        parts = sum(float(objective.loss(model, part)) for part in batch.parts(4))
        assert parts == pytest.approx(float(objective.loss(model, batch)), rel=1e-5)
    assert torch.equal(torch.cat([part.targets for part in batch.parts(2)]), batch.targets)


@ALL
def test_rows_have_the_shapes_that_the_recipe_counts_with(name):
    batch = case(name).rows().batch(0, 3)
    assert batch.tokens.shape == (3, CONTEXT)
    assert batch.targets.shape == (3, case(name).recipe.pretraining.objective.targets(CONTEXT))
    assert batch.to(torch.device("cpu")).targets.dtype == torch.int64


@ALL
def test_the_loss_of_the_last_row_of_an_epoch_and_its_gradients_are_finite(name):
    model, rows = case(name).model(), case(name).rows()
    batches = [rows.batch(number, 1) for number in range(rows.rows_per_epoch)]
    fullest = min(batches, key=lambda batch: int((batch.targets != IGNORED).sum()))
    case(name).objective.loss(model, fullest).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


@ALL
def test_a_loss_is_one_graph_for_all_batches(name):
    model, rows, counter = case(name).model(), case(name).rows(), CompileCounter()
    torch._dynamo.reset()
    loss = torch.compile(case(name).objective.loss, backend=counter, fullgraph=True)
    for number in range(3):
        loss(model, rows.batch(number, 2))
    assert counter.frame_count == 1


@ALL
def test_an_objective_learns_on_real_text(name):
    model, rows, objective = case(name).model(), case(name).rows(), case(name).objective
    validation = [case(name).rows(seed=7).batch(0, 16)]
    optimiser = Optimiser(model, OptimizerRecipe(learning_rate=1e-2))
    before = mean_loss(objective.loss, model, validation)
    for step in range(40):
        training_step(objective.loss, model, optimiser, [rows.batch(8 * step, 8)], 1.0)
    assert mean_loss(objective.loss, model, validation) < before - 0.3
