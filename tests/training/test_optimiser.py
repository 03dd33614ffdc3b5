"""Which weights each algorithm updates, how, and that its state can be restored."""

import copy
import math

import pytest
import torch
from tiny_model import tiny_decoder

from lmcommons.model import Decoder
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
    hidden = {name for name, values in model.named_parameters() if name.startswith("layers") and values.ndim == 2}
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
