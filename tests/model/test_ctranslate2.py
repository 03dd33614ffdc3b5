"""What CTranslate2 computes from an exported model is what we compute."""

import json
from pathlib import Path

import ctranslate2
import numpy as np
import pytest
import torch
from encoder_decoder_models import SHAPES, VOCABULARY, write_reference
from tiny_model import SHAPE, tiny_decoder
from tokenizers import Tokenizer, models

from lmcommons.cli.main import run
from lmcommons.errors import RequestError
from lmcommons.model import Decoder, Encoder, EncoderDecoder, ModelConfig, build, load, save
from lmcommons.model.interop import ctranslate2 as interop

DECODERS = {
    "llama": {},
    "llama, wide heads": {"head_dim": 12, "rope_theta": 500.0, "norm_eps": 1e-2, "num_key_value_heads": 1},
    "qwen2, tied": {"attention_bias": "qkv", "tie_word_embeddings": True, "num_key_value_heads": 4},
    "gpt2": {"family": "gpt2", "num_key_value_heads": 4, "norm_eps": 1e-2},
}
LENGTH = 20


def write_tokens(directory: Path, vocab_size: int) -> list[str]:
    """Write a tokenizer that has two tokens fewer than a model of `vocab_size`; all tokens of the model."""
    directory.mkdir(parents=True, exist_ok=True)
    names = [f"t{number}" for number in range(vocab_size - 2)]
    words = models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="t0")
    Tokenizer(words).save(str(directory / "tokenizer.json"))
    return [*names, f"[PAD{vocab_size - 2}]", f"[PAD{vocab_size - 1}]"]


def export(model: Decoder | Encoder | EncoderDecoder, directory: Path, quantization: str = "float32") -> list[str]:
    """Write the model to `directory`/exported; all its tokens."""
    names = write_tokens(directory / "words", model.config.vocab_size)
    interop.write(model, directory / "words", directory / "exported", quantization)
    return names


@torch.no_grad()
def greedy(model: Decoder, prompt: list[int]) -> list[int]:
    """The likeliest tokens; never 0, with which the model would end."""
    ids = list(prompt)
    while len(ids) < len(prompt) + LENGTH:
        ids.append(1 + int(model(torch.tensor([ids]))[0, -1, 1:].argmax()))
    return ids[len(prompt) :]


@torch.no_grad()
def greedy_translation(model: EncoderDecoder, source: list[int]) -> list[int]:
    ids, end = [model.config.decoder_start_token_id], model.config.eos_token_id
    memory = model.memory(model.encode(torch.tensor([source])))
    while len(ids) <= LENGTH and (len(ids) == 1 or ids[-1] != end):
        ids.append(int(model.logits(model.decode(torch.tensor([ids]), memory))[0, -1].argmax()))
    return [token for token in ids[1:] if token != end]


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_chooses_the_same_tokens(tmp_path, name):
    model = tiny_decoder(**DECODERS[name]).eval()
    names = export(model, tmp_path)
    generator = ctranslate2.Generator(str(tmp_path / "exported"), intra_threads=1)
    for prompt in ([3, 50, 7, 9], [0], list(range(100, 130))):
        found = generator.generate_batch(
            [[names[token] for token in prompt]],
            max_length=LENGTH,
            sampling_topk=1,
            min_length=LENGTH,
            include_prompt_in_result=False,
        )
        assert found[0].sequences_ids[0] == greedy(model, prompt)


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_scores_a_text_the_same(tmp_path, name):
    model = tiny_decoder(**DECODERS[name]).eval()
    names = export(model, tmp_path)
    tokens = torch.randint(1, 390, (1, 40), generator=torch.Generator().manual_seed(1))
    generator = ctranslate2.Generator(str(tmp_path / "exported"), intra_threads=1)
    found = generator.score_batch([[names[token] for token in tokens[0]]])[0].log_probs
    with torch.no_grad():
        expected = -model.loss(tokens[:, :-1], tokens[:, 1:], reduction="none")[0]
    torch.testing.assert_close(torch.tensor(found), expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize("name", SHAPES)
def test_an_encoder_decoder_chooses_the_same_tokens(tmp_path, name):
    write_reference(tmp_path / "model", name)
    model = load(tmp_path / "model")
    names = export(model, tmp_path)
    translator = ctranslate2.Translator(str(tmp_path / "exported"), intra_threads=1)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        source = torch.randint(2, 80, (5 + 9 * seed,), generator=generator).tolist()
        found = translator.translate_batch(
            [[names[token] for token in source]], beam_size=1, max_decoding_length=LENGTH
        )
        assert found[0].hypotheses[0] == [names[token] for token in greedy_translation(model, source)]


@pytest.mark.parametrize("pooler", [True, False])
def test_an_encoder_gives_the_same_states(tmp_path, pooler):
    torch.manual_seed(3)
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "initializer_range": 0.3}
    model = build(ModelConfig(family="bert", task="features", pooler=pooler, **sizes)).eval()
    assert isinstance(model, Encoder)
    export(model, tmp_path)
    encoder = ctranslate2.Encoder(str(tmp_path / "exported"), intra_threads=1)
    tokens = torch.randint(1, 80, (2, 15), generator=torch.Generator().manual_seed(1))
    types = (torch.arange(15) > 6).long().expand(2, -1)
    found = encoder.forward_batch(tokens.tolist(), token_type_ids=types.tolist())
    with torch.no_grad():
        expected = model.hidden(tokens, token_types=types)
    torch.testing.assert_close(torch.tensor(np.array(found.last_hidden_state)), expected, atol=1e-5, rtol=1e-5)
    assert (found.pooler_output is not None) == pooler
    if model.pooler is not None:
        pooled = model.pooler(expected[:, 0]).detach()
        torch.testing.assert_close(torch.tensor(np.array(found.pooler_output)), pooled, atol=1e-5, rtol=1e-5)


def test_the_encoder_of_a_t5_gives_the_same_states(tmp_path):
    torch.manual_seed(3)
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "initializer_range": 0.3}
    model = build(ModelConfig(family="t5", kind="encoder", task="features", pooler=False, **sizes)).eval()
    export(model, tmp_path)
    encoder = ctranslate2.Encoder(str(tmp_path / "exported"), intra_threads=1)
    tokens = torch.randint(1, 80, (2, 15), generator=torch.Generator().manual_seed(1))
    found = encoder.forward_batch(tokens.tolist()).last_hidden_state
    with torch.no_grad():
        torch.testing.assert_close(torch.tensor(np.array(found)), model.hidden(tokens), atol=1e-5, rtol=1e-5)


def test_int8_is_smaller_and_scores_nearly_the_same(tmp_path):
    model = tiny_decoder(hidden_size=128, intermediate_size=256, initializer_range=0.1).eval()
    names = export(model, tmp_path, "int8")
    export(model, tmp_path / "exact")
    size, exact = ((tmp_path / part / "exported" / "model.bin").stat().st_size for part in (".", "exact"))
    assert size < 0.3 * exact  # and the model itself is as it was:
    tokens = torch.randint(1, 390, (1, 60), generator=torch.Generator().manual_seed(1))
    generator = ctranslate2.Generator(str(tmp_path / "exported"), compute_type="int8", intra_threads=1)
    found = torch.tensor(generator.score_batch([[names[token] for token in tokens[0]]])[0].log_probs)
    with torch.no_grad():
        expected = -model.loss(tokens[:, :-1], tokens[:, 1:], reduction="none")[0]
    assert (found - expected).abs().mean() < 0.05 * expected.std()


def test_the_command_exports_with_the_tokenizer(tmp_path, capsys):
    save(tiny_decoder(), tmp_path / "model")
    write_tokens(tmp_path / "model", SHAPE["vocab_size"])
    command = ["export", str(tmp_path / "model"), "--format", "ctranslate2", "--out", str(tmp_path / "out"), "--json"]
    assert run([*command, "--quantization", "int8"]) == 0
    assert json.loads(capsys.readouterr().out)["dtype"] == "int8"
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "config.json", "model.bin", "vocabulary.json", "tokenizer.json",
    }  # fmt: skip
    assert run(command) == 2
    assert "is there already" in capsys.readouterr().err


def test_what_ctranslate2_does_not_compute_is_refused(tmp_path):
    torch.manual_seed(3)
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 1}
    for fields, message in (
        ({"positions": "alibi"}, "its positions are alibi"),
        ({"family": "xlnet"}, "its positions are transformer_xl"),
        ({"family": "bert"}, "a model of kind encoder for language-modelling"),
        ({"task": "sequence-classification", "labels": ["a", "b"]}, "a model of kind decoder for sequence-classific"),
    ):
        with pytest.raises(RequestError, match=message):
            export(build(ModelConfig(**sizes | fields)), tmp_path)
    assert not (tmp_path / "exported").exists()


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    write_tokens(tmp_path, SHAPE["vocab_size"] + 3)
    with pytest.raises(RequestError, match="token 't400' has id 400, and the model has only 400 tokens"):
        interop.write(tiny_decoder(), tmp_path, tmp_path / "exported")
