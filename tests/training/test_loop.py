"""A step computes the loss of its whole batch, and a run that diverges stops."""

import math

import pytest
import torch
from tiny_pretraining import VOCAB_SIZE, tiny_recipe

from lmcommons.errors import CommandError
from lmcommons.model import Decoder, ModelConfig, build
from lmcommons.training.batches import Batch, PackedRows, encode
from lmcommons.training.loop import RunState, mean_loss, training_step
from lmcommons.training.memory import recompute_layers
from lmcommons.training.objectives import CausalLanguageModelling
from lmcommons.training.optimiser import Optimiser

LOSS = CausalLanguageModelling().loss


@pytest.fixture(scope="module")
def rows(dataset, tokenizer, tmp_path_factory) -> PackedRows:
    return PackedRows(encode(dataset, tokenizer, tmp_path_factory.mktemp("encoded"))["train"], 256, seed=0)


def decoder(seed: int = 0) -> Decoder:
    torch.manual_seed(seed)
    fields = tiny_recipe().model.model_dump()
    return Decoder(ModelConfig(**fields, vocab_size=VOCAB_SIZE, bos_token_id=0, eos_token_id=0))


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulation_changes_nothing_but_memory(rows, parts):
    batch = rows.batch(rows.rows_per_epoch - 8, 8)  # with the epoch's padded row, so that parts differ in targets
    models = [decoder(), decoder()]
    outcomes = []
    for model, count in zip(models, (1, parts), strict=True):
        optimiser = Optimiser(model, tiny_recipe().pretraining.optimizer)
        outcomes.append(training_step(LOSS, model, optimiser, batch.parts(count), 1.0))
    (loss, norm), (loss_in_parts, norm_in_parts) = outcomes
    assert float(loss) == pytest.approx(float(loss_in_parts), rel=1e-6)
    assert float(norm) == pytest.approx(float(norm_in_parts), rel=1e-5)
    for whole, in_parts in zip(models[0].parameters(), models[1].parameters(), strict=True):
        # AdamW's first step is the sign of the gradient: where that is almost zero, rounding decides it.
        assert ((whole - in_parts).abs() > 1e-5).float().mean() < 0.01


def test_a_packed_row_has_the_loss_of_its_documents_read_alone(rows):
    model = decoder()
    batch = next(row for row in (rows.batch(number, 1) for number in range(100)) if row.document_ids.max() >= 2)
    alone = torch.zeros(())
    for document in batch.document_ids.unique():
        here = batch.document_ids[0] == document
        segment = Batch(
            batch.tokens[:, here], batch.targets[:, here], torch.zeros(1, int(here.sum()), dtype=torch.int64)
        )
        alone += LOSS(model, segment)
    assert torch.allclose(LOSS(model, batch), alone, rtol=1e-5)


def test_the_mean_loss_is_that_of_all_targets_whatever_the_parts(rows):
    model = decoder()
    batch = rows.batch(rows.rows_per_epoch - 6, 6)
    uneven = [Batch(*(tensor[rows_] for tensor in (batch.tokens, batch.targets, batch.document_ids)))
              for rows_ in (slice(0, 5), slice(5, 6))]  # fmt: skip
    assert mean_loss(LOSS, model, [batch]) == pytest.approx(mean_loss(LOSS, model, uneven), rel=1e-6)
    assert mean_loss(LOSS, model, [batch]) == pytest.approx(math.log(VOCAB_SIZE), abs=0.1)


def test_the_gradient_is_clipped_to_its_norm(rows):
    model = decoder()
    optimiser = Optimiser(model, tiny_recipe().pretraining.optimizer)
    _, norm = training_step(LOSS, model, optimiser, [rows.batch(0, 4)], 1e-3)
    assert float(norm) > 1e-3
    moments = [value for name, value in optimiser.state().items() if name.endswith("/exp_avg")]
    clipped = torch.cat([moment.flatten() for moment in moments]).norm() / (1 - 0.9)
    assert float(clipped) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (3.0, math.nan), (3.0, math.inf)])
def test_a_loss_or_gradient_that_is_not_finite_stops_the_run(loss, norm):
    state = RunState(step=7)
    with pytest.raises(CommandError, match=r"diverged at step 7.*lower pretraining\.optimizer\.learning_rate"):
        state.watch(loss, norm, VOCAB_SIZE)


def test_a_loss_of_twice_guessing_stops_the_run():
    state = RunState(step=1)
    state.watch(1.9 * math.log(VOCAB_SIZE), 1.0, VOCAB_SIZE)
    with pytest.raises(CommandError, match="twice that of guessing"):
        state.watch(2.1 * math.log(VOCAB_SIZE), 1.0, VOCAB_SIZE)


def test_a_loss_that_stays_a_nat_above_its_lowest_stops_the_run():
    state = RunState()

    def feed(loss: float, steps: int) -> None:
        for _ in range(steps):
            state.step += 1
            state.watch(loss, 1.0, VOCAB_SIZE)

    feed(3.0, 300)
    feed(5.0, 30)
    feed(3.0, 300)  # a spike that heals is no divergence
    with pytest.raises(CommandError, match=r"above 4\.\d\d for 100 steps"):
        feed(5.0, 200)


@pytest.mark.parametrize("family", ["llama", "t5", "xlnet"])
def test_recomputed_layers_give_the_same_loss_and_gradients_to_the_bit(family):
    gradients, losses = [], []
    tokens = torch.arange(48).reshape(2, 24) % 40
    for recomputed in (False, True):
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
        model = build(ModelConfig(family=family, **sizes, vocab_size=40, dropout=0.2))
        if recomputed:
            recompute_layers(model)
        targets = {"t5": {"target": tokens}, "xlnet": {"targets": tokens % 24}}.get(family, {})
        loss = model.token_loss(model.hidden(tokens, **targets), tokens)
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: values.grad for name, values in model.named_parameters() if values.grad is not None})
    assert losses[0] == losses[1]
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


def test_recomputed_layers_keep_less_in_memory():
    kept = []
    for recomputed in (False, True):
        model = decoder()
        if recomputed:
            recompute_layers(model)
        saved: list[int] = []

        def pack(tensor: torch.Tensor, saved: list[int] = saved) -> torch.Tensor:
            saved.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            hidden = model.hidden(torch.zeros(2, 64, dtype=torch.int64))
        hidden.sum().backward()
        kept.append(sum(saved))
    assert kept[1] < kept[0] / 3
