"""Permutation language modelling against equations 3 to 5 of Yang et al. (2019)."""

import numpy as np
import pytest
import torch
from objective_cases import CONTEXT, TEXTS, case, encoded

from lmcommons.model import IGNORED
from lmcommons.training.objectives.segments import segments

CASE = case("permutation")
SPECIAL = set(CASE.tokenizer.special_tokens.values())


def test_the_loss_is_the_likelihood_of_each_target_given_what_comes_before_it_in_the_order():
    model, batch = CASE.model(), CASE.rows().batch(0, 3)
    expected = torch.zeros(())
    for row in range(3):
        order, documents = batch.order[row].tolist(), batch.document_ids[row].tolist()
        # z: what is given in the order that it stands in, then the targets by their number.
        sees = [
            [documents[i] == documents[j] and (order[j] == 0 or order[j] < order[i]) for j in range(CONTEXT)]
            for i in range(CONTEXT)
        ]
        for place, target in zip(batch.places[row].tolist(), batch.targets[row].tolist(), strict=True):
            if target != IGNORED:
                here = slice(row, row + 1)
                logits = model(
                    batch.tokens[here],
                    token_types=batch.token_types[here],
                    visible=torch.tensor([sees]),
                    targets=torch.tensor([[place]]),
                )
                expected = expected - logits[0, 0].log_softmax(-1)[target]
    assert torch.allclose(CASE.objective.loss(model, batch), expected, rtol=1e-5)


def test_no_target_is_seen_by_its_own_prediction_or_by_one_before_it():
    model, batch = CASE.model(), CASE.rows().batch(4, 1)
    by_order = sorted(batch.places[0][batch.targets[0] != IGNORED].tolist(), key=lambda place: batch.order[0, place])
    losses = []
    for changed in (None, by_order[-3]):
        tokens = batch.tokens.clone()
        if changed is not None:
            tokens[0, changed] = 50
        visible = batch.order[:, None] < batch.order[:, :, None].clamp(min=1)
        visible &= batch.document_ids[:, None] == batch.document_ids[:, :, None]
        losses.append(model(tokens, visible=visible, targets=torch.tensor([by_order])))
    same = torch.isclose(*losses, atol=1e-6).all(dim=-1)[0].tolist()
    assert all(same[:-2])
    assert not any(same[-2:]) or len({batch.document_ids[0, place].item() for place in by_order[-3:]}) > 1


def test_half_of_the_texts_are_two_segments_around_a_separator():
    rows, separate, end = CASE.rows(), CASE.tokenizer.required("sep"), CASE.tokenizer.required("cls")
    pairs = texts = 0
    for number in range(300):
        row = rows.row(number)
        for start, stop in segments(row["document_ids"]):
            if stop - start < 5:  # no room for two
                continue
            tokens, types = (row[name][start:stop].tolist() for name in ("tokens", "token_types"))
            second = types.count(1)
            assert types == [0] * (len(types) - second - 1) + [1] * second + [2]
            assert (tokens[-2:], tokens.count(end)) == ([separate, end], 1)
            if second:
                assert tokens[len(types) - second - 2] == separate
                assert len(types) - second - 2 >= 1
                assert second >= 2  # a token, and the separator after it
            assert tokens.count(separate) == 1 + (second > 0)
            pairs, texts = pairs + (second > 0), texts + 1
    assert pairs / texts == pytest.approx(0.5, abs=0.08)


def test_every_weight_is_trained():
    model = CASE.model()
    CASE.objective.loss(model, CASE.rows().batch(0, 4)).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_one_token_in_six_is_predicted_in_spans_of_five_at_most():
    rows = CASE.rows()
    predicted = ordinary = 0
    for number in range(400):
        row = rows.row(number)
        chosen = np.sort(row["places"][row["targets"] != IGNORED])
        assert sorted(row["order"][chosen]) == list(range(1, len(chosen) + 1))
        assert (row["order"] > 0).sum() == len(chosen)
        assert (
            row["tokens"][chosen] == row["targets"][row["targets"] != IGNORED][np.argsort(row["places"][: len(chosen)])]
        ).all()
        assert not SPECIAL & set(row["tokens"][chosen].tolist())
        runs = np.split(chosen, np.flatnonzero(np.diff(chosen) != 1) + 1)
        assert max(map(len, runs), default=0) <= 10  # two spans may stand side by side
        predicted, ordinary = predicted + len(chosen), ordinary + int(~np.isin(row["tokens"], [*SPECIAL]).sum())
    assert predicted / (400 * CONTEXT) == pytest.approx(1 / 6, abs=0.015)


def test_every_place_is_predicted_about_equally_often():
    rows = CASE.objective.rows(encoded(CASE.tokenizer, [" ".join(TEXTS)]), CONTEXT, 0)
    counts = np.zeros(CONTEXT)
    for number in range(4000):
        row = rows.row(number)
        counts[row["places"][row["targets"] != IGNORED]] += 1
    share = counts[: CONTEXT - 2] / 4000  # the last two are special tokens
    assert share.mean() == pytest.approx(1 / 6, abs=0.01)
    assert share.min() > 0.08
    assert share.max() < 0.25


def test_every_segment_of_a_row_has_something_to_predict_from():
    rows = CASE.rows()
    for number in range(rows.rows_per_epoch):
        row = rows.row(number)
        for place in row["places"][row["targets"] != IGNORED]:
            document = row["document_ids"] == row["document_ids"][place]
            assert (row["order"][document] == 0).any()
