"""Heads of tasks: those of decoders against `transformers`, and what a model without one says."""

import pytest
import torch
from encoder_models import inputs, random_weights
from torch.nn import functional as F
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2ForTokenClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
)

from lmcommons.model import IGNORED, ModelConfig, build, load, save
from lmcommons.model.interop.directory import FAMILIES
from lmcommons.model.interop.tensors import to_transformers

GPT2 = {"vocab_size": 83, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40}
TOKENS = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
LLAMA = {
    "vocab_size": 83,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
SMALL = {"vocab_size": 50, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 1}
DECODERS = [
    (GPT2ForSequenceClassification, GPT2Config, GPT2),
    (GPT2ForTokenClassification, GPT2Config, GPT2),
    (LlamaForSequenceClassification, LlamaConfig, LLAMA),
    (LlamaForTokenClassification, LlamaConfig, LLAMA),
]


@pytest.mark.parametrize(("architecture", "config", "fields"), DECODERS)
def test_logits_and_gradients_of_a_decoders_head_equal_those_of_transformers(tmp_path, architecture, config, fields):
    reference = random_weights(architecture(config(**fields | TOKENS, num_labels=3)))
    reference.save_pretrained(tmp_path)
    model, given = load(tmp_path), inputs([30, 12, 1])
    tokens, mask = given["input_ids"] * given["attention_mask"], given["attention_mask"]  # padded with token 0
    labels = (torch.arange(tokens.numel()).view_as(tokens) % 3).masked_fill(mask == 0, IGNORED)
    if model.config.task == "sequence-classification":
        labels = labels[:, 0]
    expected = reference(tokens, attention_mask=mask, labels=labels)
    expected.loss.backward()
    logits = model.task_logits(tokens, attention_mask=mask)
    F.cross_entropy(logits.flatten(0, -2), labels.flatten()).backward()
    torch.testing.assert_close(logits, expected.logits, atol=1e-5, rtol=0)
    theirs = {name: parameter.grad for name, parameter in reference.named_parameters()}
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    names = FAMILIES[model.config.family].correspondence(model.config)
    for name, gradient in to_transformers(model, ours, names).items():
        torch.testing.assert_close(gradient, theirs[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("architecture", "config", "fields"), DECODERS)
def test_reading_and_writing_a_decoder_with_a_head_leaves_every_bit(tmp_path, architecture, config, fields):
    names = {0: "spam", 1: "ham", 2: "neither"}
    labels = {"id2label": names, "label2id": {name: number for number, name in names.items()}}
    reference = random_weights(architecture(config(**fields | TOKENS | labels)))
    reference.save_pretrained(tmp_path / "theirs")
    model = load(tmp_path / "theirs")
    save(model, tmp_path / "ours")
    again = architecture.from_pretrained(tmp_path / "ours")
    assert model.config.labels == ["spam", "ham", "neither"]
    assert again.config.id2label == names
    theirs = again.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in reference.state_dict().items())


@pytest.mark.parametrize("family", ["llama", "bert", "xlnet"])
def test_a_model_without_a_head_says_so(family):
    model, tokens = build(ModelConfig(family=family, **SMALL)), torch.zeros(1, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match="a model for language-modelling has no head for classification"):
        model.task_logits(tokens)
    with pytest.raises(ValueError, match="next_sentence is false"):
        model.next_sentence_logits(model.hidden(tokens))


@pytest.mark.parametrize("family", ["t5", "marian"])
def test_an_encoder_decoder_with_a_head_is_refused(family):
    with pytest.raises(ValueError, match="an encoder-decoder has no head for question-answering"):
        ModelConfig(family=family, task="question-answering", **SMALL)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task": "token-classification"}, "needs at least two labels, not 0"),
        ({"task": "sequence-classification", "labels": ["all"]}, "needs at least two labels, not 1"),
        ({"task": "sequence-classification", "labels": ["a", "a"]}, "two labels have the same name"),
        ({"labels": ["a", "b"]}, "task language-modelling has no labels"),
        ({"next_sentence": True}, "next_sentence is for the language modelling of an encoder, not decoder"),
    ],
)
def test_a_head_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**SMALL | fields)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "xlnet"])
@pytest.mark.parametrize(
    ("task", "shape"),
    [("sequence-classification", (2, 2)), ("token-classification", (2, 5, 2)), ("question-answering", (2, 5, 2))],
)
def test_logits_of_a_task_are_float32_and_all_padding_rows_are_numbers(family, task, shape):
    labels = ["no", "yes"] if task != "question-answering" else []
    model = build(ModelConfig(family=family, task=task, labels=labels, **SMALL))
    model.compute_dtype = torch.bfloat16
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
    tokens = torch.ones(2, 5, dtype=torch.int64)
    with torch.no_grad():
        assert model.task_logits(tokens, attention_mask=mask).isfinite().all()
    logits = model.task_logits(tokens, attention_mask=mask)
    logits.sum().backward()
    assert logits.shape == shape
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
