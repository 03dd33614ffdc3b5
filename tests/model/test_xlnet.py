"""XLNet against `transformers`: both streams, logits, losses, gradients and files, for every class that we read."""

import json

import pytest
import torch
from encoder_models import VOCABULARY, inputs, write_xlnet
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import (
    XLNetForQuestionAnsweringSimple,
    XLNetForSequenceClassification,
    XLNetForTokenClassification,
    XLNetLMHeadModel,
    XLNetModel,
)

from lmcommons.errors import RequestError
from lmcommons.model import ModelConfig, XLNet, load, save
from lmcommons.model.interop import xlnet
from lmcommons.model.interop.tensors import to_transformers

CLASSES = [
    XLNetModel,
    XLNetLMHeadModel,
    XLNetForSequenceClassification,
    XLNetForTokenClassification,
    XLNetForQuestionAnsweringSimple,
]
SHAPES = {
    "as published": {},
    "another activation, one layer": {"ff_activation": "relu", "n_layer": 1, "n_head": 12},
    "larger epsilon, wide": {"layer_norm_eps": 1e-3, "d_inner": 200, "n_layer": 3, "n_head": 1},
    "untied": {"tie_word_embeddings": False, "d_model": 40, "n_head": 2},
}


def permutation(lengths: list[int], predicted: int) -> dict[str, torch.Tensor]:
    """Random orders over rows that are padded on the left; the last `predicted` of each order are its targets."""
    given = inputs(lengths, left=True)
    batch, length = given["input_ids"].shape
    order = torch.rand(batch, length, generator=torch.Generator().manual_seed(5)) * given["attention_mask"]
    visible = order[:, :, None] > order[:, None, :]
    return given | {"visible": visible, "targets": order.topk(predicted).indices}


def arguments_of_transformers(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What `transformers` calls the masks and the targets."""
    shared = {name: tensor for name, tensor in given.items() if name not in ("visible", "targets")}
    mapping = F.one_hot(given["targets"], given["visible"].shape[-1]).float()
    return shared | {"perm_mask": (~given["visible"]).float(), "target_mapping": mapping}


def assert_gradients_equal(model, reference):
    theirs = {name: parameter.grad for name, parameter in reference.named_parameters()}
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    empty = {name for name, gradient in ours.items() if gradient is None}
    assert empty <= {"mask_embedding"}
    ours |= {name: torch.zeros_like(model.get_parameter(name)) for name in empty}
    for name, gradient in to_transformers(model, ours, xlnet.correspondence(model.config)).items():
        expected = torch.zeros_like(gradient) if theirs[name] is None else theirs[name]
        torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("architecture", CLASSES)
def test_every_hidden_state_and_attention_weight_equals_that_of_transformers(tmp_path, architecture, shape):
    reference = write_xlnet(tmp_path, architecture, **SHAPES[shape])
    model, given, states, weights = load(tmp_path), inputs([17, 9, 1], left=True), [], []
    with torch.no_grad():
        expected = reference(**given, output_hidden_states=True, output_attentions=True)
        tokens, mask, types = given.values()
        model.hidden(tokens, attention_mask=mask, token_types=types, states=states, weights=weights)
    for found, theirs in zip(states + weights, expected.hidden_states + expected.attentions, strict=True):
        torch.testing.assert_close(found, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lengths", [[20, 20], [33, 18, 25]])
def test_both_streams_of_a_permutation_equal_those_of_transformers(tmp_path, shape, lengths):
    reference = write_xlnet(tmp_path, XLNetLMHeadModel, **SHAPES[shape])
    model, given, states = load(tmp_path), permutation(lengths, 6), []
    with torch.no_grad():
        expected = reference(**arguments_of_transformers(given), output_hidden_states=True)
        tokens, mask, types, visible, targets = given.values()
        hidden = model.hidden(
            tokens, attention_mask=mask, token_types=types, visible=visible, targets=targets, states=states
        )
        torch.testing.assert_close(model.logits(hidden), expected.logits, atol=1e-5, rtol=0)
    for found, theirs in zip(states, expected.hidden_states[::2], strict=True):
        torch.testing.assert_close(found, theirs, atol=1e-5, rtol=0)
    torch.testing.assert_close(hidden, expected.hidden_states[-1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_loss_and_gradients_of_a_permutation_equal_those_of_transformers(tmp_path, shape):
    reference = write_xlnet(tmp_path, XLNetLMHeadModel, **SHAPES[shape])
    model, given = load(tmp_path), permutation([25, 25], 5)
    labels = given["input_ids"].gather(1, given["targets"])
    expected = reference(**arguments_of_transformers(given), labels=labels)
    expected.loss.backward()
    tokens, mask, types, visible, targets = given.values()
    hidden = model.hidden(tokens, attention_mask=mask, token_types=types, visible=visible, targets=targets)
    loss = model.token_loss(hidden, labels)
    loss.backward()
    torch.testing.assert_close(loss, expected.loss, atol=1e-5, rtol=0)
    assert_gradients_equal(model, reference)


def test_a_target_that_sees_nothing_is_predicted_from_its_place_alone(tmp_path):
    reference = write_xlnet(tmp_path, XLNetLMHeadModel)
    model, given = load(tmp_path), permutation([12], 12)  # the first of the order sees no token
    expected = reference(**arguments_of_transformers(given)).logits
    tokens, types = given["input_ids"], given["token_type_ids"]
    found = model(tokens, token_types=types, visible=given["visible"], targets=given["targets"])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    found.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_reading_with_the_memory_of_what_came_before_equals_transformers(tmp_path):
    reference = write_xlnet(tmp_path, XLNetLMHeadModel)
    model, (tokens,) = load(tmp_path), [inputs([14, 14])["input_ids"]]
    visible, targets = permutation([5, 5], 2)["visible"], torch.tensor([[4, 1], [3, 4]])
    memory: list[torch.Tensor] = []
    with torch.no_grad():
        mems = reference(tokens[:, :9], use_mems=True).mems
        mapping = F.one_hot(targets, 5).float()
        expected = reference(tokens[:, 9:], mems=mems, perm_mask=(~visible).float(), target_mapping=mapping).logits
        model.hidden(tokens[:, :9], states=memory)
        seen = torch.cat((torch.ones(2, 5, 9, dtype=torch.bool), visible), dim=2)
        found = model(tokens[:, 9:], memory=memory[:-1], visible=seen, targets=targets)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("architecture", "labels"),
    [
        (XLNetForSequenceClassification, torch.tensor([2, 0, 1])),
        (XLNetForTokenClassification, torch.arange(3 * 30).view(3, 30) % 3),
    ],
)
def test_logits_losses_and_gradients_of_classification_equal_those_of_transformers(tmp_path, architecture, labels):
    reference = write_xlnet(tmp_path, architecture, num_labels=3)
    model, given = load(tmp_path), inputs([30, 12, 25], left=True)
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
    reference = write_xlnet(tmp_path, XLNetForQuestionAnsweringSimple)
    model, given = load(tmp_path), inputs([30, 22], left=True)
    start, end = torch.tensor([3, 8]), torch.tensor([5, 9])
    expected = reference(**given, start_positions=start, end_positions=end)
    expected.loss.backward()
    tokens, mask, types = given.values()
    logits = model.task_logits(tokens, attention_mask=mask, token_types=types)
    ((F.cross_entropy(logits[..., 0], start) + F.cross_entropy(logits[..., 1], end)) / 2).backward()
    torch.testing.assert_close(logits[..., 0], expected.start_logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(logits[..., 1], expected.end_logits, atol=1e-5, rtol=0)
    assert_gradients_equal(model, reference)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_row_is_classified_alike_wherever_it_is_padded(tmp_path, side):
    write_xlnet(tmp_path, XLNetForSequenceClassification)
    model, alone = load(tmp_path), inputs([9])["input_ids"]
    padding = (4, 0) if side == "left" else (0, 4)
    mask = F.pad(torch.ones_like(alone), padding)
    with torch.no_grad():
        padded = model.task_logits(F.pad(alone, padding), attention_mask=mask)
        torch.testing.assert_close(padded, model.task_logits(alone), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("architecture", CLASSES)
def test_reading_and_writing_leaves_every_bit(tmp_path, architecture, shape):
    reference = write_xlnet(tmp_path / "theirs", architecture, **SHAPES[shape])
    save(load(tmp_path / "theirs"), tmp_path / "ours")
    again, problems = architecture.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(problems.values())
    theirs = again.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in reference.state_dict().items())
    save(load(tmp_path / "ours"), tmp_path / "ours again")
    assert (tmp_path / "ours again" / "config.json").read_text() == (tmp_path / "ours" / "config.json").read_text()
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "ours again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attn_type": "uni"}, "attn_type 'uni' is not supported; it must be 'bi'"),
        ({"bi_data": True}, "bi_data"),
        ({"clamp_len": 10}, "clamp_len 10 is not supported; it must be -1"),
        ({"summary_type": "first"}, "summary_type"),
        ({"summary_use_proj": False}, "summary_use_proj"),
        ({"summary_activation": None}, "summary_activation None is not supported; it must be 'tanh'"),
        ({"ff_activation": "mish"}, "ff_activation: Input should be"),
        ({"d_head": 5}, "d_head 5 is not supported; it must be 12"),
        ({"architectures": ["XLNetForQuestionAnswering"]}, "XLNetForQuestionAnswering"),
    ],
)
def test_what_we_do_not_compute_is_refused_by_name(tmp_path, fields, message):
    write_xlnet(tmp_path, XLNetForSequenceClassification)
    given = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(given | fields))
    with pytest.raises(RequestError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("tied", [True, False])
def test_the_recipe_counts_the_weights_right(tied):
    model = XLNet(ModelConfig(family="xlnet", vocab_size=VOCABULARY, hidden_size=32, tie_word_embeddings=tied))
    assert sum(parameter.numel() for parameter in model.parameters()) == model.config.parameters(VOCABULARY)
