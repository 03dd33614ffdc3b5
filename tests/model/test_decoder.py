"""Logits, gradients, cache and packing against `transformers` and against the definition."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_models import SMALL, VOCABULARY, write_llama

from lmcommons.model import Decoder, KeyValueCache, ModelConfig, load, save
from lmcommons.model.attention import Mask, attend_in_blocks
from lmcommons.model.interop import llama
from lmcommons.model.interop.tensors import to_transformers
from lmcommons.model.positions import document_positions


def decoder(**fields: object) -> Decoder:
    torch.manual_seed(5)
    return Decoder(ModelConfig(**SMALL | {"tie_word_embeddings": False} | fields))


def tokens(batch: int, sequence: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(VOCABULARY, (batch, sequence), generator=torch.Generator().manual_seed(seed))


SHAPES = [
    {"num_key_value_heads": 4, "tie_word_embeddings": True},
    {"num_key_value_heads": 2, "tie_word_embeddings": False},
    {"num_key_value_heads": 1, "tie_word_embeddings": True, "rms_norm_eps": 1e-3},
    {"num_key_value_heads": 2, "rope_parameters": {"rope_theta": 500_000.0, "rope_type": "default"}},
    {"num_attention_heads": 8, "num_key_value_heads": 2, "num_hidden_layers": 1, "intermediate_size": 200},
]


@pytest.mark.parametrize("fields", SHAPES)
def test_logits_equal_those_of_transformers(tmp_path, fields):
    reference = write_llama(tmp_path, **fields)
    model = load(tmp_path)
    given_tokens = tokens(2, 40)
    with torch.no_grad():
        expected = reference(given_tokens).logits
        torch.testing.assert_close(model(given_tokens), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(model(given_tokens).detach(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fields", SHAPES)
def test_gradients_equal_those_of_transformers(tmp_path, fields):
    reference, given_tokens = write_llama(tmp_path, **fields), tokens(1, 160)
    model = load(tmp_path)
    reference(given_tokens, labels=given_tokens).loss.backward()
    model.loss(given_tokens[:, :-1], given_tokens[:, 1:]).backward()
    theirs = {name: parameter.grad for name, parameter in reference.named_parameters()}
    for name, gradient in to_transformers(
        model,
        {name: parameter.grad for name, parameter in model.named_parameters()},
        llama.correspondence(model.config),
    ).items():
        torch.testing.assert_close(gradient, theirs[name], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("fields", SHAPES)
def test_reading_in_steps_with_a_cache_gives_the_same_logits_as_transformers(tmp_path, fields):
    reference = write_llama(tmp_path, **fields)
    model, given_tokens = load(tmp_path), tokens(2, 30)
    cache = KeyValueCache(model.config, 2, 30)
    logits = []
    with torch.no_grad():
        for start, stop in [(0, 7), (7, 8), (8, 9), (9, 30)]:
            logits.append(model(given_tokens[:, start:stop], cache=cache))
            cache.advance(stop - start)
        torch.testing.assert_close(torch.cat(logits, 1), reference(given_tokens).logits, atol=2e-5, rtol=0)


def test_rows_of_a_cache_may_have_different_lengths_and_be_moved():
    model = decoder().eval()
    prompts = [tokens(1, length, seed=length) for length in (5, 2, 9)]
    padded = torch.zeros(3, 9, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        padded[row, : prompt.shape[1]] = prompt
    cache = KeyValueCache(model.config, 4, 12)
    with torch.no_grad():
        rows = cache.rows(0, 3)
        model(padded, cache=rows)
        rows.advance(torch.tensor([5, 2, 9]))
        cache.select(torch.tensor([2, 1]))
        assert cache.lengths.tolist() == [9, 2, 9, 0]
        following = torch.tensor([[11], [12]])
        together = model(following, cache=cache.rows(0, 2))
        for row, prompt in enumerate([prompts[2], prompts[1]]):
            alone = model(torch.cat([prompt, following[row : row + 1]], 1))[:, -1]
            torch.testing.assert_close(together[row], alone, atol=2e-5, rtol=0)


def test_a_cache_gives_the_same_logits_where_gradients_are_recorded():
    model, given_tokens = decoder(), tokens(1, 10)
    cache = KeyValueCache(model.config, 1, 10)
    with torch.no_grad():
        model(given_tokens[:, :7], cache=cache)
    cache.advance(7)
    torch.testing.assert_close(model(given_tokens[:, 7:], cache=cache), model(given_tokens)[:, 7:], atol=2e-5, rtol=0)


def test_a_full_cache_is_refused():
    model = decoder()
    with pytest.raises(ValueError, match="holds 4 tokens a row and 5 are needed"), torch.no_grad():
        model(tokens(1, 5), cache=KeyValueCache(model.config, 1, 4))


def test_a_cache_and_document_ids_together_are_refused():
    model, ids = decoder(), torch.zeros(1, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match="document_ids"):
        model(tokens(1, 4), document_ids=ids, cache=KeyValueCache(model.config, 1, 4))


@pytest.mark.parametrize("gradients", [True, False])
def test_packed_documents_have_the_logits_that_each_has_alone(gradients):
    model, lengths = decoder(), [3, 1, 200, 96]
    given_tokens = tokens(1, 300)
    ids = torch.repeat_interleave(torch.tensor([7, 3, 9, 8]), torch.tensor(lengths))[None]
    with torch.set_grad_enabled(gradients):
        packed = model(given_tokens, document_ids=ids)
        alone = torch.cat([model(document) for document in given_tokens.split(lengths, dim=1)], dim=1)
    torch.testing.assert_close(packed, alone, atol=3e-5, rtol=0)


def test_the_loss_of_a_token_has_no_gradient_from_later_tokens_or_other_documents():
    model, given_tokens = decoder(), tokens(1, 12)
    ids = torch.tensor([[0] * 4 + [1] * 8])
    inputs = {}

    def remember(module, arguments):
        inputs["x"] = arguments[0]
        inputs["x"].retain_grad()

    model.decoder.layers[0].register_forward_pre_hook(remember)
    model(given_tokens, document_ids=ids)[0, 7].sum().backward()
    reached = inputs["x"].grad[0].abs().sum(-1) > 0
    assert reached.tolist() == [False] * 4 + [True] * 4 + [False] * 4


def test_loss_is_the_cross_entropy_of_the_logits_without_ignored_targets():
    model, given_tokens, targets = decoder(), tokens(2, 9), tokens(2, 9, seed=1)
    targets[0, 4:] = -100
    logs = model(given_tokens).log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    expected = torch.where(targets == -100, 0, -logs)
    for reduction, value in {"none": expected, "sum": expected.sum(), "mean": expected.sum() / 13}.items():
        torch.testing.assert_close(model.loss(given_tokens, targets, reduction=reduction), value)


def test_bfloat16_computing_keeps_weights_and_gradients_in_float32_and_stays_close():
    model, given_tokens, targets = decoder(initializer_range=0.05), tokens(2, 140), tokens(2, 140, seed=1)
    exact = model.loss(given_tokens, targets)
    exact.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    model.compute_dtype = torch.bfloat16
    assert model.hidden(given_tokens).dtype == torch.bfloat16
    loss = model.loss(given_tokens, targets)
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, atol=0.02, rtol=0)
    for name, parameter in model.named_parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        similarity = torch.cosine_similarity(parameter.grad.flatten(), gradients[name].flatten(), dim=0)
        assert similarity > 0.99, name


def test_initial_weights_follow_the_seed_and_the_initializer_range():
    first, again = decoder(initializer_range=0.04), decoder(initializer_range=0.04)
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name))
    layer = first.decoder.layers[0]
    assert first.embedding.detach().std() == pytest.approx(0.04, rel=0.1)
    assert layer.feed_forward.up.weight.detach().std() == pytest.approx(0.04, rel=0.1)
    assert layer.feed_forward.down.weight.detach().std() == pytest.approx(0.04 / 6**0.5, rel=0.1)
    assert layer.attention.output.weight.detach().std() == pytest.approx(0.04 / 6**0.5, rel=0.1)


@pytest.mark.parametrize("tied", [True, False])
def test_the_recipe_counts_the_weights_right(tied):
    model = decoder(tie_word_embeddings=tied)
    assert sum(parameter.numel() for parameter in model.parameters()) == model.config.parameters(VOCABULARY)


def test_a_special_token_outside_the_vocabulary_is_refused():
    with pytest.raises(ValueError, match="special token 97 is not below vocab_size 97"):
        ModelConfig(**SMALL | {"eos_token_id": [1, 97]})


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 3))
def test_positions_restart_at_each_document(lengths, first):
    ids = torch.repeat_interleave(torch.arange(len(lengths)) % 2 + first, torch.tensor(lengths))[None]
    assert document_positions(ids)[0].tolist() == [place for length in lengths for place in range(length)]


@settings(deadline=None, max_examples=10)
@given(
    sequence=st.integers(1, 400),
    heads=st.sampled_from([(2, 2), (4, 2), (4, 1)]),
    masked=st.booleans(),
    seed=st.integers(0, 9),
)
def test_attention_in_blocks_equals_the_definition(sequence, heads, masked, seed):
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (
        torch.randn(2, count, sequence, 8, generator=generator, dtype=torch.float64)
        for count in (heads[0], *heads[1:] * 2)
    )
    visible = torch.ones(2, 1, sequence, sequence, dtype=torch.bool).tril()
    if masked:
        ids = torch.randint(3, (2, sequence), generator=generator).sort().values
        visible = visible & (ids[:, None, :, None] == ids[:, None, None, :])
    groups = heads[0] // heads[1]
    scores = query @ key.repeat_interleave(groups, 1).mT / 8**0.5
    expected = scores.masked_fill(~visible, -torch.inf).softmax(-1) @ value.repeat_interleave(groups, 1)
    found = attend_in_blocks(query, key, value, Mask(True, visible if masked else None), 8**-0.5)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)  # the softmax is in float32


def test_config_json_is_what_transformers_writes(tmp_path):
    write_llama(tmp_path / "theirs", tie_word_embeddings=True)
    save(load(tmp_path / "theirs"), tmp_path / "ours")
    theirs, ours = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("theirs", "ours"))
    unused = ("transformers_version", "pretraining_tp")
    assert ours == {name: value for name, value in theirs.items() if name not in unused}
