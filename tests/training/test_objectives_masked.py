"""Masked language modelling against the words of Devlin et al. (2019), with and without the next sentence."""

import numpy as np
import pytest
import torch
from objective_cases import CONTEXT, TEXTS, case, encoded, recipe_of, trained_tokenizer
from torch.nn import functional as F

from lmcommons.data.words import words as words_of
from lmcommons.errors import RequestError
from lmcommons.model import IGNORED
from lmcommons.training import objectives
from lmcommons.training.objectives.next_sentence import SegmentPairs
from lmcommons.training.objectives.segments import FramedRows, segments
from lmcommons.training.objectives.words import continues_word

PAD, CLS, SEP, MASK = range(4)
WORDS = trained_tokenizer("encoder")


def unmasked(name: str, seed: int = 0) -> FramedRows | SegmentPairs:
    kind = SegmentPairs if name == "next sentence" else FramedRows
    return kind(case(name).documents, WORDS, CONTEXT, seed)


@pytest.mark.parametrize("name", ["masked", "whole words", "next sentence"])
def test_the_loss_is_that_of_each_text_read_alone(name):
    model, batch = case(name).model(), case(name).rows().batch(0, 6)
    expected = torch.zeros(())
    sentences = torch.zeros(())
    for row in range(6):
        for start, stop in segments(batch.document_ids[row].numpy()):
            types = None if batch.token_types is None else batch.token_types[row : row + 1, start:stop]
            hidden = model.hidden(batch.tokens[row : row + 1, start:stop], token_types=types)
            likelihood = model.logits(hidden).log_softmax(-1)[0]
            for place, target in zip(batch.places[row].tolist(), batch.targets[row].tolist(), strict=True):
                if target != IGNORED and start <= place < stop:
                    expected = expected - likelihood[place - start, target]
            if batch.follows is not None:
                logits = model.next_sentence_logits(hidden)
                sentences = sentences + F.cross_entropy(logits, batch.follows[row : row + 1])
    expected = expected + sentences * batch.places.shape[1]
    assert torch.allclose(case(name).objective.loss(model, batch), expected, rtol=1e-5)


def test_fifteen_percent_are_predicted_and_of_these_80_10_10_become_mask_another_and_themselves():
    rows, plain = case("masked").rows(), unmasked("masked")
    counts = {"mask": 0, "same": 0, "other": 0}
    ordinary = 0
    for number in range(600):
        row, before = rows.row(number), plain.row(number)["tokens"]
        real = row["targets"] != IGNORED
        places = row["places"][real]
        assert (before[places] == row["targets"][real]).all()
        untouched = np.delete(np.arange(CONTEXT), places)
        assert (row["tokens"][untouched] == before[untouched]).all()
        assert not np.isin(before[places], [PAD, CLS, SEP]).any()
        assert len(set(places.tolist())) == len(places) == max(1, round(0.15 * (before > SEP).sum()))
        ordinary += int((before > SEP).sum())
        for after, target in zip(row["tokens"][places], row["targets"][real], strict=True):
            counts["mask" if after == MASK else "same" if after == target else "other"] += 1
    total = sum(counts.values())
    assert total / ordinary == pytest.approx(0.15, abs=0.005)
    assert counts["mask"] / total == pytest.approx(0.8, abs=0.02)
    assert counts["other"] / total == pytest.approx(0.1, abs=0.015)
    assert counts["same"] / total == pytest.approx(0.1, abs=0.015)


def test_a_text_is_masked_differently_in_every_epoch_and_in_the_end_everywhere():
    texts = sorted(TEXTS, key=len)[:8]
    rows = case("masked").objective.rows(encoded(WORDS, texts), CONTEXT, 0)
    seen = {target for number in range(60 * rows.rows_per_epoch) for target in rows.row(number)["targets"].tolist()}
    assert seen - {IGNORED} == {token for text in texts for token in WORDS.encode(text)}


def test_every_segment_of_a_row_is_framed_as_a_text():
    rows = unmasked("masked")
    for number in range(200):
        row = rows.row(number)
        for start, stop in segments(row["document_ids"]):
            assert row["tokens"][start] == CLS or stop - start == 1
            assert row["tokens"][stop - 1] == SEP
        assert (row["tokens"][row["document_ids"] < 0] == PAD).all()


def test_whole_words_are_hidden_together_or_not_at_all():
    rows, plain = case("whole words").rows(), unmasked("whole words")
    predicted = ordinary = 0
    for number in range(200):
        row, before = rows.row(number), plain.row(number)["tokens"]
        chosen = np.zeros(CONTEXT, bool)
        chosen[row["places"][row["targets"] != IGNORED]] = True
        inside = continues_word(before, WORDS) & (before > SEP) & (np.roll(before, 1) > SEP)
        inside[0] = False
        assert (chosen[1:] == chosen[:-1])[inside[1:]].all()
        predicted, ordinary = predicted + int(chosen.sum()), ordinary + int((before > SEP).sum())
    assert 0.12 < predicted / ordinary <= 0.152


@pytest.mark.parametrize(
    "text", ["A well-known word, don't split snake_case3.", "注意力就是一切。 Ω μῆνιν ἄειδε", "日本 text"]
)
def test_words_of_tokens_are_the_words_of_the_text(text):
    ids = np.array(WORDS.encode(text))
    pieces = np.split(ids, np.flatnonzero(~continues_word(ids, WORDS)[1:]) + 1)
    found = [word for piece in pieces for word in words_of(WORDS.decode(piece))]
    assert found == words_of(text)


def test_half_of_the_second_segments_follow_and_the_others_are_of_another_document():
    documents = [" ".join(f"{name}{number}." for number in range(60)) for name in "abcdefgh"]
    rows = SegmentPairs(encoded(WORDS, documents), WORDS, 80, 0)
    follows = []
    for number in range(400):
        row = rows.row(number)
        inside = row["document_ids"] == 0
        types, tokens = row["token_types"][inside], row["tokens"][inside]
        assert tokens[0] == CLS and (tokens == SEP).sum() == 2 and tokens[-1] == SEP  # noqa: PT018 - one form
        first, second = WORDS.decode(tokens[types == 0][1:-1]), WORDS.decode(tokens[types == 1][:-1])
        assert first and second  # noqa: PT018 - both halves
        if set(first) & set("abcdefgh"):  # else it is the end of a number, which every document has
            assert any(first + second in document for document in documents) == (row["follows"] == 0)
        assert first.endswith(".") and len(types) <= 80  # noqa: PT018
        follows.append(int(row["follows"]))
    assert np.mean(follows) == pytest.approx(0.5, abs=0.08)


def test_an_epoch_of_pairs_begins_with_every_part_of_every_document_once():
    rows = SegmentPairs(encoded(WORDS, TEXTS[:12]), WORDS, CONTEXT, 0)
    texts = [WORDS.decode(rows._part(number)[1]) for number in range(rows.rows_per_epoch)]
    assert "".join(texts) == "".join(TEXTS[:12])


@pytest.mark.parametrize("texts", [["one document alone."], ["", "."], [".", "a longer text of words"]])
def test_documents_too_short_for_two_segments_are_named(texts):
    with pytest.raises(RequestError, match="next_sentence: two documents of two tokens or more are needed"):
        case("next sentence").objective.rows(encoded(WORDS, texts), CONTEXT, 0)


def test_a_tokenizer_without_a_mask_is_named():
    recipe = recipe_of("bert", {"name": "masked-lm"})
    decoder = trained_tokenizer("decoder")
    objective = objectives.build(recipe.pretraining.objective, decoder)
    with pytest.raises(RequestError, match="the tokenizer has no mask_token"):
        objective.rows(encoded(decoder, TEXTS), CONTEXT, 0)
