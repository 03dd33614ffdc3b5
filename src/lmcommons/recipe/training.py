"""How a model is trained."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lmcommons.recipe.objectives import CausalLanguageModellingRecipe, ObjectiveRecipe
from lmcommons.recipe.section import Fraction, Positive, Section


class OptimizerRecipe(Section):
    """AdamW (Loshchilov & Hutter 2019), or Muon (Jordan et al. 2024) for the hidden matrices and AdamW for the rest."""

    name: Literal["adamw", "muon"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0)] = Field(3e-3, description="peak, of AdamW")
    muon_learning_rate: Annotated[float, Field(gt=0)] = Field(2e-2, description="peak, of Muon; unused by adamw")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.1, description="decoupled; matrices only, not norms")
    beta1: Fraction = 0.9
    beta2: Fraction = 0.95
    epsilon: Annotated[float, Field(gt=0)] = 1e-8


class ScheduleRecipe(Section):
    """Warm-up, then cosine decay, or constant with a linear decay at the end (WSD)."""

    name: Literal["cosine", "wsd"] = "cosine"
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    decay_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="share of the steps that WSD decays in"
    )
    final_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="last learning rate as a share of the peak"
    )


class ParallelismRecipe(Section):
    """How several processes train one model; their number is given when the run is started (`--nproc-per-node`)."""

    strategy: Literal["auto", "ddp", "fsdp"] = Field(
        "auto", description="ddp: each has the whole model; fsdp: a part; auto: ddp where a device has room for it"
    )
    processes: Positive | None = Field(None, description="how many the run must be started with; None: any number")


class PretrainingRecipe(Section):
    """What is minimised, on how many rows of which length, and how."""

    objective: ObjectiveRecipe = Field(CausalLanguageModellingRecipe(), description="if not given: the model family's")
    context_length: Positive = Field(256, description="tokens of a sequence that the model reads")
    batch_size: Positive = Field(16, description="sequences of an optimiser step")
    gradient_accumulation: Positive = Field(
        1, description="parts that a batch is computed in; lower memory, same result"
    )
    steps: Positive = Field(1000, description="optimiser steps")
    optimizer: OptimizerRecipe = OptimizerRecipe()
    schedule: ScheduleRecipe = ScheduleRecipe()
    gradient_clip: Annotated[float, Field(gt=0)] = Field(1.0, description="largest norm of the gradient")
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="of an average of the weights over steps, which is validated and becomes the model"
    )
    gradient_checkpointing: bool = Field(
        False, description="compute each layer again for its gradient; lower memory, same result"
    )
    loss: Literal["auto", "plain", "fused"] = Field(
        "auto", description="fused: the logits are never whole in memory; auto: on a GPU, or where they would fill much"
    )
    parallelism: ParallelismRecipe = ParallelismRecipe()
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="auto: bfloat16 where the processor has it"
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="torch.compile; auto: when the run is long enough to repay it"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    evaluation_interval: Positive = Field(100, description="steps between losses on the validation split")
    checkpoint_interval: Positive = Field(100, description="steps between checkpoints")

    @model_validator(mode="after")
    def _steps_add_up(self) -> Self:
        if self.batch_size % self.gradient_accumulation:
            raise ValueError(
                f"batch_size {self.batch_size} is not divisible by gradient_accumulation {self.gradient_accumulation}"
            )
        if self.schedule.warmup_steps >= self.steps:
            raise ValueError(f"schedule.warmup_steps {self.schedule.warmup_steps} is not below steps {self.steps}")
        return self
