"""Device, precision and compiling follow from the recipe and the machine."""

import pytest
import torch
from tiny_pretraining import needs_compiler, tiny_recipe

from lmcommons.errors import RequestError
from lmcommons.model import DecoderConfig
from lmcommons.training import execution


def config(**fields: int) -> DecoderConfig:
    model = tiny_recipe(model=fields).model
    return DecoderConfig(**model.model_dump(), vocab_size=512, bos_token_id=0, eos_token_id=0)


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


def test_the_operations_of_a_token_are_six_a_weight_and_the_attention():
    tied = config()
    assert execution.flops_per_token(tied, 64) == 6 * tied.parameters(512) + 12 * 2 * 32 * 64


def test_deterministic_kernels_are_asked_for_only_inside_the_block():
    with execution.reproducible():
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
