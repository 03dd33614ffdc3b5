"""Device, precision and compiling follow from the recipe and the machine."""

import pytest
import torch
from tiny_pretraining import needs_compiler, tiny_recipe
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lmcommons.errors import RequestError
from lmcommons.model import Model, ModelConfig, build
from lmcommons.training import execution


def config(**fields: int | str) -> ModelConfig:
    model = tiny_recipe(model=fields).model
    return ModelConfig(**model.model_dump(), vocab_size=512, bos_token_id=0, eos_token_id=0)


@needs_compiler
def test_compiling_is_chosen_when_the_run_is_long_enough_to_repay_it():
    short, long = (
        execution.decide(tiny_recipe(steps=steps, compile="auto"), config(hidden_size=256))
        for steps in (10, 10_000_000)
    )
    assert not short.compiled
    assert long.compiled


def test_the_decision_is_the_same_each_time():
    recipe = tiny_recipe(steps=3000, compile="auto", precision="auto")
    assert len({execution.decide(recipe, config()) for _ in range(3)}) == 1


@needs_compiler
def test_what_the_recipe_says_outright_is_taken():
    chosen = execution.decide(tiny_recipe(compile="on", precision="float32"), config())
    assert chosen.compiled
    assert chosen.dtype == torch.float32
    assert not execution.decide(tiny_recipe(steps=10_000_000, compile="off"), config()).compiled


def test_without_a_compiler_auto_does_without_and_on_is_refused(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert not execution.decide(tiny_recipe(steps=10_000_000, compile="auto"), config()).compiled
    with pytest.raises(RequestError, match=r"pretraining\.compile: on, and a C\+\+ compiler is not here"):
        execution.decide(tiny_recipe(compile="on"), config())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(RequestError, match=r"pretraining\.device: cuda, and torch finds no GPU"):
        execution.decide(tiny_recipe(device="cuda"), config())


def matrix_products(model: Model, *arguments: torch.Tensor, **keywords: torch.Tensor) -> int:
    """The operations of a forward pass as torch counts them."""
    model.eval().requires_grad_(False)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # the others are not counted
        model(*arguments, **keywords)
    return counter.get_total_flops()


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_the_operations_of_a_token_are_thrice_those_of_a_forward_pass(family):
    fields = config(family=family, num_key_value_heads=2)
    counted = matrix_products(build(fields), torch.zeros(1, 64, dtype=torch.int64))
    assert execution.flops_per_token(fields, 64) * 64 == pytest.approx(3 * counted, rel=1e-3)


def test_the_operations_of_an_encoder_decoder_are_those_of_both_sides():
    fields = config(family="t5", num_key_value_heads=2)
    tokens = torch.zeros(1, 64, dtype=torch.int64)
    counted = matrix_products(build(fields), tokens, tokens[:, :20])
    assert execution.flops_per_token(fields, 64, 20) * 64 == pytest.approx(3 * counted, rel=1e-3)


def test_the_operations_of_xlnet_are_those_of_both_streams():
    fields = config(family="xlnet", num_key_value_heads=2)
    rows, tokens = 16, torch.zeros(16, 64, dtype=torch.int64)  # rows share the products of distances
    counted = matrix_products(build(fields), tokens, targets=torch.arange(12).expand(rows, -1))
    assert execution.flops_per_token(fields, 64, 12) * 64 * rows == pytest.approx(3 * counted, rel=0.01)


def test_logits_that_would_fill_memory_are_computed_in_parts(monkeypatch):
    large = tiny_recipe(batch_size=64)
    assert not execution.decide(large, config()).fused_loss
    monkeypatch.setattr("lmcommons.environment.memory", lambda: 100 * 2**20)
    assert execution.decide(large, config()).fused_loss
    assert not execution.decide(tiny_recipe(batch_size=64, loss="plain"), config()).fused_loss


def test_weights_are_split_where_a_process_has_no_room_for_all(monkeypatch):
    assert execution.decide(tiny_recipe(), config(), processes=2).strategy == "ddp"
    monkeypatch.setattr("lmcommons.environment.memory", lambda: 2**20)
    assert execution.decide(tiny_recipe(), config(), processes=2).strategy == "fsdp"
    assert execution.decide(tiny_recipe(), config()).strategy == "single"


def test_deterministic_kernels_are_asked_for_only_inside_the_block():
    with execution.reproducible():
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
