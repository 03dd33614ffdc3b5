"""T5 and Marian: states, logits, losses, gradients and steps with a cache against `transformers`."""

import pytest
import torch
from encoder_decoder_models import SHAPES, VOCABULARY, random_reference, write_reference
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM

from lmcommons.model import EncoderDecoder, KeyValueCache, load, save
from lmcommons.model.interop import marian, t5
from lmcommons.model.interop.tensors import to_transformers

WEIGHTS = "model.safetensors"


def tokens(batch: int, length: int, seed: int) -> torch.Tensor:
    return torch.randint(VOCABULARY - 1, (batch, length), generator=torch.Generator().manual_seed(seed))


SOURCE, TARGET = tokens(3, 23, seed=1), tokens(3, 17, seed=2)
MASK = (torch.arange(23) < torch.tensor([23, 9, 1])[:, None]).long()  # one row whole, one padded, one of one token


@pytest.fixture(params=SHAPES)
def pair(request, tmp_path):
    """A model of ours and the one of `transformers` that it was read from."""
    reference = write_reference(tmp_path / "theirs", request.param)
    return load(tmp_path / "theirs"), reference


@torch.no_grad()
def test_logits_and_all_hidden_states_equal_those_of_transformers(pair):
    model, reference = pair
    expected = reference(SOURCE, attention_mask=MASK, decoder_input_ids=TARGET, output_hidden_states=True)
    torch.testing.assert_close(model(SOURCE, TARGET, attention_mask=MASK), expected.logits, atol=1e-5, rtol=1e-5)
    encoder, decoder = [], []
    encoded = model.encode(SOURCE, attention_mask=MASK, states=encoder)
    model.decode(TARGET, model.memory(encoded, visible=MASK), states=decoder)
    real = MASK.bool()
    for ours, theirs in zip(encoder, expected.encoder_hidden_states, strict=True):
        torch.testing.assert_close(ours[real], theirs[real], atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(decoder, expected.decoder_hidden_states, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_attention_weights_equal_those_of_transformers(pair):
    model, reference = pair
    reference.set_attn_implementation("eager")
    expected = reference(SOURCE, attention_mask=MASK, decoder_input_ids=TARGET, output_attentions=True)
    encoder, decoder = [], []
    encoded = model.encode(SOURCE, attention_mask=MASK, weights=encoder)
    model.decode(TARGET, model.memory(encoded, visible=MASK), weights=decoder)
    for found, theirs in (
        (encoder, expected.encoder_attentions),
        (decoder[0::2], expected.decoder_attentions),
        (decoder[1::2], expected.cross_attentions),
    ):
        for mine, other in zip(found, theirs, strict=True):
            torch.testing.assert_close(mine, other, atol=1e-5, rtol=0)


def test_losses_and_gradients_equal_those_of_transformers(pair):
    model, reference = pair
    labels = TARGET.clone()
    labels[1, 9:] = -100
    start = torch.full((3, 1), reference.config.decoder_start_token_id)
    target = torch.cat([start, TARGET[:, :-1]], 1)
    expected = reference(SOURCE, attention_mask=MASK, decoder_input_ids=target, labels=labels).loss
    expected.backward()
    loss = model.token_loss(model.hidden(SOURCE, target, attention_mask=MASK), labels)
    loss.backward()
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=0)
    names = (t5 if model.config.family == "t5" else marian).correspondence(model.config)
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    theirs = {name: parameter.grad for name, parameter in reference.named_parameters()}
    for name, gradient in to_transformers(model, ours, names).items():
        if name in theirs:  # the bias of Marian's logits is a constant there
            torch.testing.assert_close(gradient, theirs[name], atol=1e-5, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")


@torch.no_grad()
def test_writing_token_by_token_with_a_cache_gives_the_same_logits(pair):
    model, reference = pair
    expected = reference(SOURCE, attention_mask=MASK, decoder_input_ids=TARGET).logits
    memory = model.memory(model.encode(SOURCE, attention_mask=MASK), visible=MASK)
    cache = KeyValueCache(model.config, 3, 17)
    steps = []
    for start, stop in [(0, 1), (1, 2), (2, 9), *((step, step + 1) for step in range(9, 17))]:
        steps.append(model.logits(model.decode(TARGET[:, start:stop], memory, cache=cache)))
        cache.advance(stop - start)
    torch.testing.assert_close(torch.cat(steps, 1), expected, atol=2e-5, rtol=0)


@torch.no_grad()
def test_packed_pairs_have_the_logits_that_each_has_alone(pair):
    model, _ = pair
    sources, targets = SOURCE[0].split([9, 14]), TARGET[0].split([12, 5])
    alone = torch.cat([model(source[None], target[None]) for source, target in zip(sources, targets, strict=True)], 1)
    ids, target_ids = torch.tensor([[0] * 9 + [1] * 14]), torch.tensor([[0] * 12 + [1] * 5])
    packed = model.hidden(SOURCE[:1], TARGET[:1], document_ids=ids, target_document_ids=target_ids)
    torch.testing.assert_close(model.logits(packed), alone, atol=2e-5, rtol=0)


def test_a_memory_can_be_put_in_another_order(pair):
    model, _ = pair
    rows = torch.tensor([2, 0, 0])
    with torch.no_grad():
        memory = model.memory(model.encode(SOURCE, attention_mask=MASK), visible=MASK)
        found = model.decode(TARGET, memory.rows(rows))
        expected = model.hidden(SOURCE[rows], TARGET, attention_mask=MASK[rows])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_reading_and_writing_leaves_every_bit(tmp_path, name, dtype):
    random_reference(name).to(dtype).save_pretrained(tmp_path / "theirs")
    ours = load(tmp_path / "theirs", dtype=None)
    assert isinstance(ours, EncoderDecoder)
    save(ours, tmp_path / "ours")
    before, after = load_file(tmp_path / "theirs" / WEIGHTS), load_file(tmp_path / "ours" / WEIGHTS)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[part], after[part]) and after[part].dtype == dtype for part in before)
    again = load(tmp_path / "ours", dtype=None)
    assert again.config == ours.config
    assert all(torch.equal(part, again.get_parameter(name)) for name, part in ours.named_parameters())


@pytest.mark.parametrize("name", SHAPES)
def test_transformers_loads_what_we_write_and_computes_the_same(tmp_path, name):
    write_reference(tmp_path / "theirs", name)
    model = load(tmp_path / "theirs")
    save(model, tmp_path / "ours")
    theirs, report = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values())
    assert theirs.generation_config.decoder_start_token_id == model.config.decoder_start_token_id
    with torch.no_grad():
        expected = theirs(SOURCE, decoder_input_ids=TARGET).logits
        torch.testing.assert_close(model(SOURCE, TARGET), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["t5 1.0", "t5 1.1", "t5 gated-silu, more layers and wider heads", "marian"])
def test_the_recipe_counts_the_weights_right(tmp_path, name):
    write_reference(tmp_path, name)
    model = load(tmp_path)
    assert sum(part.numel() for part in model.parameters()) == model.config.parameters(VOCABULARY)
