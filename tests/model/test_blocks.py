"""What blocks do alone and put together: equations of norms and feed-forward, who sees whom, packing, compiling."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lmcommons.model import ModelConfig, build
from lmcommons.model.feed_forward import FeedForward
from lmcommons.model.norms import Norm

VOCABULARY = 60
SMALL = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2}
FAMILIES = ["llama", "gpt2", "bert", "t5", "marian", "xlnet"]
CAUSAL = {
    "llama": {},
    "gpt2": {"family": "gpt2"},
    "alibi": {"positions": "alibi"},
    "relative bias": {"positions": "relative_bias"},
    "post-norm, sinusoidal": {"positions": "sinusoidal", "norm_placement": "post"},
    "t5": {"family": "t5"},
    "marian": {"family": "marian"},
}


def random_model(**fields: object) -> nn.Module:
    torch.manual_seed(2)
    model = build(ModelConfig(**SMALL | fields)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def hidden(model: nn.Module, tokens: torch.Tensor, **arguments: torch.Tensor) -> torch.Tensor:
    """The states of `tokens`; an encoder-decoder reads a source of its own."""
    source = [torch.tensor([[57, 58, 59]]).expand(len(tokens), -1)] if model.config.kind == "encoder-decoder" else []
    return model.hidden(*source, tokens, **arguments)


@pytest.mark.parametrize("name", CAUSAL)
def test_a_state_has_a_gradient_from_every_token_before_it_and_none_after(name):
    model, tokens = random_model(**CAUSAL[name]), torch.arange(9)[None]
    for place in (0, 4, 8):
        model.zero_grad()
        hidden(model, tokens)[0, place].square().sum().backward()
        reached = model.embedding.grad[:9].abs().sum(-1) > 0
        assert reached.tolist() == [token <= place for token in range(9)]


@pytest.mark.parametrize("family", ["bert", "xlnet"])
def test_a_state_of_an_encoder_has_a_gradient_from_every_real_token_and_none_from_padding(family):
    model, tokens, mask = random_model(family=family), torch.arange(9)[None], torch.tensor([[1] * 6 + [0] * 3])
    model.hidden(tokens, attention_mask=mask)[0, 2].square().sum().backward()
    assert (model.embedding.grad[:9].abs().sum(-1) > 0).tolist() == [True] * 6 + [False] * 3


@pytest.mark.parametrize("family", ["llama", "bert", "t5", "marian"])
def test_a_padded_row_has_the_states_that_it_has_alone(family):
    model, tokens, lengths = random_model(family=family), torch.arange(18).view(2, 9), [9, 5]
    mask = torch.arange(9) < torch.tensor(lengths)[:, None]
    read = model.encode if family in ("t5", "marian") else model.hidden
    with torch.no_grad():
        padded = read(tokens, attention_mask=mask)
        for row, length in enumerate(lengths):
            alone = read(tokens[row : row + 1, :length])[0]
            torch.testing.assert_close(padded[row, :length], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["t5", "marian"])
def test_a_source_of_padding_alone_gives_numbers_forward_and_backward(family):
    model, tokens = random_model(family=family), torch.arange(12).view(2, 6)
    mask = torch.tensor([[1] * 6, [0] * 6])
    with torch.no_grad():
        assert model(tokens, tokens, attention_mask=mask).isfinite().all()
    logits = model(tokens, tokens, attention_mask=mask)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("fields", [{"family": "bert"}, {"kind": "encoder", "positions": "relative_bias"}])
def test_packed_documents_of_an_encoder_have_the_states_that_each_has_alone(fields):
    model, tokens = random_model(**fields), torch.arange(12)[None]
    ids = torch.tensor([[4] * 3 + [1] * 7 + [2] * 2])
    with torch.no_grad():
        packed = model.hidden(tokens, document_ids=ids)
        alone = torch.cat([model.hidden(part) for part in tokens.split([3, 7, 2], dim=1)], dim=1)
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("norm", ["rms", "layer"])
def test_norms_are_those_of_their_papers(norm):
    x = torch.randn(3, 5, 8) * 4 + 2
    module = Norm(ModelConfig(vocab_size=9, hidden_size=8, num_attention_heads=2, norm=norm, norm_eps=1e-3))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    if norm == "rms":
        expected = x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt() * module.weight
    else:
        centred = x - x.mean(-1, keepdim=True)
        expected = centred / (centred.square().mean(-1, keepdim=True) + 1e-3).sqrt() * module.weight + module.bias
    torch.testing.assert_close(module(x), expected)
    assert module(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("hidden_act", "function"),
    [
        ("relu", lambda x: x.clamp(min=0)),
        ("silu", lambda x: x * x.sigmoid()),
        ("gelu", lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2),
        ("gelu_new", lambda x: x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2),
    ],
)
@pytest.mark.parametrize("gated", [True, False])
def test_feed_forwards_are_those_of_their_papers(hidden_act, function, gated):
    config = ModelConfig(
        vocab_size=9, hidden_size=8, num_attention_heads=2, intermediate_size=12, hidden_act=hidden_act, gated=gated
    )
    module, x = FeedForward(config), torch.randn(2, 3, 8)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    if gated:
        gate, up = module.up.weight.split(12)
        expected = (function(x @ gate.T) * (x @ up.T)) @ module.down.weight.T
    else:
        expected = function(x @ module.up.weight.T) @ module.down.weight.T
    torch.testing.assert_close(module(x), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [(0, 5), (2, 0)])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_empty_batch_is_refused(family, shape):
    model, tokens = random_model(family=family), torch.zeros(shape, dtype=torch.int64)
    with pytest.raises(ValueError, match="an empty batch, of shape"):
        hidden(model, tokens)
    with pytest.raises(ValueError, match=rf"an empty batch, of shape \[{shape[0]}, {shape[1]}\]"):
        model.hidden(tokens, *([tokens] if family in ("t5", "marian") else []))


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_more_tokens_than_learned_positions_are_refused(family):
    model = random_model(family=family, max_position_embeddings=4)
    with pytest.raises(ValueError, match="5 tokens; the model has 4 positions"):
        model(torch.zeros(1, 5, dtype=torch.int64))


@pytest.mark.parametrize("family", FAMILIES)
def test_recording_weights_and_states_changes_nothing_and_records_every_layer(family):
    model, tokens, weights, states = random_model(family=family), torch.arange(8).view(2, 4), [], []
    with torch.no_grad():
        if model.config.kind == "encoder-decoder":
            expected = model.encode(tokens)
            found = model.encode(tokens, weights=weights, states=states)
        else:
            expected = model.hidden(tokens)
            found = model.hidden(tokens, weights=weights, states=states)
    torch.testing.assert_close(found, expected)
    assert torch.equal(states[-1], found)
    assert [tuple(state.shape) for state in states] == [(2, 4, 32)] * 3
    assert [tuple(layer.shape) for layer in weights] == [(2, 4, 4, 4)] * 2
    for layer in weights:
        torch.testing.assert_close(layer.sum(-1), torch.ones(2, 4, 4))


@pytest.mark.parametrize("family", FAMILIES)
def test_initial_weights_have_the_spread_that_the_configuration_says(family):
    torch.manual_seed(0)
    model = build(ModelConfig(**SMALL | {"family": family, "hidden_size": 128, "initializer_range": 0.05}))
    attention = next(module for name, module in model.named_modules() if name.endswith("0.attention"))
    down = next(module for name, module in model.named_modules() if name.endswith("0.feed_forward.down"))
    if family == "xlnet":
        query, key_value = attention.query.weight, attention.key_value.weight
    else:
        query, key_value = attention.query_key_value.weight.split(
            [128, attention.query_key_value.weight.shape[0] - 128]
        )
    assert query.std().item() == pytest.approx(0.05 * (32**-0.5 if family == "t5" else 1), rel=0.1)
    assert key_value.std().item() == pytest.approx(0.05, rel=0.1)
    assert model.embedding.std().item() == pytest.approx(0.05, rel=0.1)
    pre = model.config.norm_placement == "pre"
    assert down.weight.std().item() == pytest.approx(0.05 / 4**0.5 if pre else 0.05, rel=0.1)


@pytest.mark.parametrize("family", ["llama", "bert", "t5", "xlnet"])
def test_a_training_step_compiles_as_one_graph_with_the_same_gradients(family):
    model = random_model(family=family, num_hidden_layers=1).train()
    tokens = torch.arange(20).view(2, 10)
    mask = torch.tensor([[1] * 10, [1] * 7 + [0] * 3])
    arguments = {"attention_mask": mask}
    if family == "xlnet":
        order = torch.rand(2, 10)
        arguments |= {"visible": order[:, :, None] > order[:, None], "token_types": tokens % 2}
        arguments["targets"] = torch.tensor([[1, 2], [3, 4]])
    targets = tokens[:, :2] if family == "xlnet" else tokens

    def loss() -> torch.Tensor:
        if model.config.kind == "encoder-decoder":
            return model.token_loss(model.hidden(tokens, tokens, attention_mask=mask), targets)
        return model.token_loss(model.hidden(tokens, **arguments), targets)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")  # tracing is what could break
    expected, found = loss(), compiled()
    torch.testing.assert_close(found, expected)
    gradients = torch.autograd.grad(found, list(model.parameters()), allow_unused=True)
    for ours, theirs in zip(
        gradients, torch.autograd.grad(expected, list(model.parameters()), allow_unused=True), strict=True
    ):
        if theirs is None:
            assert ours is None or not ours.any()
        else:
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_label_smoothing_is_the_mixture_of_the_targets_with_all_tokens():
    model, tokens = random_model(family="gpt2"), torch.arange(6)[None]
    states, targets = model.hidden(tokens), torch.tensor([[3, 4, -100, 5, 6, 7]])
    logs = model.logits(states).log_softmax(-1)[targets != -100]
    exact, uniform = -logs.gather(1, targets[targets != -100][:, None]).mean(), -logs.mean()
    found = model.token_loss(states, targets, label_smoothing=0.1)
    torch.testing.assert_close(found, 0.9 * exact + 0.1 * uniform)
    torch.testing.assert_close(model.token_loss(states, targets), F.nll_loss(logs, targets[targets != -100]))
