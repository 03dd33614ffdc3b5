"""Which weights each algorithm updates, how, and that its state can be restored."""

import copy
import math

import pytest
import torch
from tiny_model import tiny_decoder

from lmcommons.model import Decoder, ModelConfig, build
from lmcommons.model.linear import Linear
from lmcommons.recipe import OptimizerRecipe
from lmcommons.training.optimiser import Muon, Optimiser, orthogonalise


def decoder(tie_word_embeddings: bool = True) -> Decoder:
    return tiny_decoder(intermediate_size=80, tie_word_embeddings=tie_word_embeddings, initializer_range=0.02)


def give_gradients(model: Decoder, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("shape", [(32, 32), (16, 48), (3, 64, 24)])
def test_orthogonalise_brings_singular_values_near_one_and_keeps_their_directions(shape):
    matrices = torch.randn(*shape, generator=torch.Generator().manual_seed(0)).reshape(-1, *shape[-2:])
    found = orthogonalise(matrices).float()
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.5
    assert values.max() < 1.3
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    agreement = torch.linalg.diagonal(left.mT @ found @ right.mT)
    assert agreement.min() > 0.4


def test_muon_orthogonalises_each_fused_matrix_alone():
    weight = torch.zeros(48, 16)
    weight.grad = torch.randn(48, 16, generator=torch.Generator().manual_seed(0))
    parts = weight.grad.split([32, 8, 8])
    expected = [math.sqrt(max(1.0, len(part) / 16)) * orthogonalise(part[None])[0].float() for part in parts]
    together = math.sqrt(3) * orthogonalise(weight.grad[None])[0].float()
    Muon([(weight, [32, 8, 8])], lr=1.0, weight_decay=0.0).step()
    assert (-weight - torch.cat(expected)).abs().max() < 0.05  # bfloat16
    assert (-weight - together).abs().max() > 0.2


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("tied", [True, False])
def test_weight_decay_shrinks_matrices_and_leaves_norms_and_embeddings(name, tied):
    model = decoder(tied)
    before = {parameter: values.clone() for parameter, values in model.named_parameters()}
    optimiser = Optimiser(
        model, OptimizerRecipe(name=name, learning_rate=0.1, muon_learning_rate=0.2, weight_decay=0.5)
    )
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    for parameter, values in model.named_parameters():
        if "norm" in parameter or parameter == "embedding":
            kept = 1.0
        else:
            kept = 1 - 0.5 * (0.2 if name == "muon" and not parameter.startswith("head") else 0.1)
        assert torch.allclose(values, before[parameter] * kept), parameter


def test_muon_takes_the_hidden_matrices_and_adamw_the_rest():
    model = decoder(tie_word_embeddings=False)
    optimiser = Optimiser(model, OptimizerRecipe(name="muon"))
    give_gradients(model)
    optimiser.step()
    muon = {key.split("/")[0] for key in optimiser.state() if key.endswith("/momentum")}
    adamw = {key.split("/")[0] for key in optimiser.state() if key.endswith("/exp_avg")}
    matrices = {name for name, values in model.named_parameters() if values.ndim == 2}
    hidden = {name for name in matrices if name.startswith("decoder.layers")}
    assert muon == hidden
    assert adamw == {name for name, _ in model.named_parameters()} - hidden


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_an_optimiser_with_restored_state_takes_the_same_step(name):
    model = decoder()
    optimiser = Optimiser(model, OptimizerRecipe(name=name))
    give_gradients(model, seed=1)
    optimiser.step()
    twin = copy.deepcopy(model)
    restored = Optimiser(twin, OptimizerRecipe(name=name))
    restored.load_state(optimiser.state())
    for each, using in ((model, optimiser), (twin, restored)):
        give_gradients(each, seed=2)
        using.scale_learning_rate(0.5)
        using.step()
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), twin.parameters(), strict=True))


def test_the_learning_rate_scales_the_step():
    steps = []
    for factor in (1.0, 0.25):
        model = decoder()
        before = model.embedding.detach().clone()
        optimiser = Optimiser(model, OptimizerRecipe(weight_decay=0.0))
        give_gradients(model)
        optimiser.scale_learning_rate(factor)
        optimiser.step()
        steps.append(model.embedding.detach() - before)
    assert torch.allclose(steps[1], 0.25 * steps[0], atol=1e-7)


def test_the_average_follows_the_weights_and_takes_their_place_for_a_while():
    model = decoder()
    optimiser = Optimiser(model, OptimizerRecipe(learning_rate=0.1), ema_decay=0.9)
    expected, weights = None, []
    for step in range(1, 5):
        give_gradients(model, seed=step)
        optimiser.step()
        weights.append(model.embedding.detach().clone())
        decay = min(0.9, (1 + step) / (10 + step))
        expected = weights[-1] if expected is None else decay * expected + (1 - decay) * weights[-1]
    with optimiser.averaged():
        torch.testing.assert_close(model.embedding.detach(), expected)
    assert torch.equal(model.embedding, weights[-1])


def test_a_restored_average_goes_on():
    model = decoder()
    optimiser = Optimiser(model, OptimizerRecipe(name="muon"), ema_decay=0.9)
    give_gradients(model)
    optimiser.step()
    twin = copy.deepcopy(model)
    restored = Optimiser(twin, OptimizerRecipe(name="muon"), ema_decay=0.9)
    restored.load_state(optimiser.state())
    for each, using in ((model, optimiser), (twin, restored)):
        give_gradients(each, seed=2)
        using.step()
    for name, value in optimiser.state().items():
        assert torch.equal(value, restored.state()[name]), name


def test_muon_leaves_a_matrix_without_gradient_alone():
    with_gradient, without = torch.ones(8, 8), torch.ones(8, 8)
    with_gradient.grad = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    Muon([(without, [8]), (with_gradient, [8])], lr=0.1, weight_decay=0.1).step()
    assert torch.equal(without, torch.ones(8, 8))
    assert not torch.equal(with_gradient, torch.ones(8, 8))


@pytest.mark.parametrize("family", ["gpt2", "bert", "t5", "marian", "xlnet"])
def test_muon_takes_the_matrices_of_every_family_and_no_bias_norm_or_embedding(family):
    model = build(tiny_config(family))
    optimiser = Optimiser(model, OptimizerRecipe(name="muon"))
    give_gradients(model)
    optimiser.step()
    muon = {key.split("/")[0] for key in optimiser.state() if key.endswith("/momentum")}
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Linear)}
    assert muon == linear - {"head.weight"}


def tiny_config(family: str) -> ModelConfig:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 40}
    return ModelConfig(family=family, **sizes, pad_token_id=0)
