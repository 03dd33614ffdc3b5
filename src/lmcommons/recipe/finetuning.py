"""How a model is fine-tuned to a task: the second kind of recipe."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lmcommons.recipe.results import Provenance, PublishingRecipe
from lmcommons.recipe.section import REPOSITORY_NAME, Fraction, Positive, Section
from lmcommons.recipe.training import OptimizerRecipe, ScheduleRecipe

FinetuningTask = Literal[
    "sequence-classification", "token-classification", "question-answering", "translation", "text-to-text", "chat"
]

# What a row has for each task, and what it may have.
COLUMNS: dict[FinetuningTask, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sequence-classification": (("text", "label"), ("text_pair",)),
    "token-classification": (("tokens", "labels"), ()),
    "question-answering": (("question", "context", "answers"), ("answer_start",)),
    "translation": (("source", "target"), ()),
    "text-to-text": (("source", "target"), ()),
    "chat": (("messages",), ()),
}


class TaskDataRecipe(Section):
    """Rows of a task, in files named after their split: `train.parquet`, `data/test-00000-of-00001.parquet`, `x.jsonl`.

    Columns: `text`, `label` (and `text_pair`); `tokens`, `labels` (lists); `question`, `context`, `answers` (a list,
    empty where there is none) and `answer_start` (characters); `source`, `target`; `messages` (role and content).
    """

    path: str = Field(description="directory, relative to the recipe; or namespace/name[@revision] on the hub")
    columns: dict[str, str] = Field({}, description="column of the task: what the files call it")
    train: str = Field("train", description="name of the split")
    validation: str = Field("validation", description="name of the split that decides which weights are kept")
    tests: Annotated[list[str], Field(min_length=1)] = Field(
        ["test"], description="names of splits that are read once, at the end"
    )


class FullMethod(Section):
    """Every weight is trained."""

    name: Literal["full"] = "full"


class FrozenMethod(Section):
    """Only the head of the task is trained."""

    name: Literal["frozen"]


class LoraMethod(Section):
    """Low-rank changes of matrices (Hu et al. 2022), and the head of the task."""

    name: Literal["lora"]
    rank: Positive = 8
    alpha: Annotated[float, Field(gt=0)] = Field(16.0, description="changes are scaled by alpha / rank")
    dropout: Fraction = Field(0.0, description="of what the changes read, while training")
    targets: Literal["attention", "all"] = Field("all", description="matrices of attention, or of feed-forward too")


class FinetuningOptimizer(OptimizerRecipe):
    """As in pretraining, with the step of a model that is trained already (Devlin et al. 2019, appendix A.3)."""

    learning_rate: Annotated[float, Field(gt=0)] = Field(5e-5, description="peak, of AdamW")
    muon_learning_rate: Annotated[float, Field(gt=0)] = Field(1e-3, description="peak, of Muon; unused by adamw")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.01, description="decoupled; matrices only, not norms")
    beta2: Fraction = 0.999


class FinetuningSchedule(ScheduleRecipe):
    """Warm-up, then linear decay to nothing: WSD whose decay is all of the run."""

    name: Literal["cosine", "wsd"] = "wsd"
    warmup_steps: Annotated[int, Field(ge=0)] = Field(50, description="at most a tenth of the run")
    decay_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="share of the steps that WSD decays in"
    )
    final_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="last learning rate as a share of the peak"
    )


class FinetuningRecipe(Section):
    """From a model and rows of a task to a model that does the task."""

    model: str = Field(
        description="directory or pretraining recipe, relative to this one, or namespace/name[@revision] on the hub"
    )
    initial_weights: Literal["pretrained", "random"] = Field(
        "pretrained",
        description="random: only the model's shape and tokenizer are used, to learn what pretraining gives",
    )
    task: FinetuningTask
    data: TaskDataRecipe
    labels: list[str] = Field([], description="of a classification, in the order of the logits; empty: as in train")
    prompt: str = Field(
        "{source}", description="what the model reads of a source, for translation and text-to-text: `zh: {source}`"
    )
    language: str | None = Field(
        None, description="BCP 47 code of a translation's target: its tokens are counted as BLEU does for it"
    )
    method: Annotated[FullMethod | LoraMethod | FrozenMethod, Field(discriminator="name")] = FullMethod()
    epochs: Positive = Field(3, description="at most; passes over the train split")
    patience: Positive = Field(2, description="evaluations without a better result, after which training stops")
    evaluations_per_epoch: Positive = Field(1, description="on the validation split; each also writes a checkpoint")
    batch_size: Positive = Field(
        32, description="rows of an optimiser step; a row of a decoder that writes holds max_length tokens of them"
    )
    batch_tokens: Positive | None = Field(
        None, description="instead: tokens of a step, padding included, in rows of like length"
    )
    gradient_accumulation: Positive = Field(
        1, description="parts that a batch is computed in; lower memory, same result"
    )
    max_length: Positive = Field(256, description="tokens of a row, and of a target; longer ones are cut, and counted")
    max_new_tokens: Positive = Field(128, description="most tokens of a written answer, where test rows are answered")
    num_beams: Positive = Field(1, description="of the beam search that writes answers; 1: greedy")
    optimizer: FinetuningOptimizer = FinetuningOptimizer()
    schedule: FinetuningSchedule = FinetuningSchedule()
    label_smoothing: Fraction = Field(0.0, description="share of a target's probability that all tokens get alike")
    gradient_clip: Annotated[float, Field(gt=0)] = Field(1.0, description="largest norm of the gradient")
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="auto: bfloat16 where the processor has it"
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="torch.compile; auto: when the run is long enough to repay it"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    bootstrap_samples: Positive = Field(2000, description="resamples of the test rows for the 95 % interval")

    @model_validator(mode="after")
    def _fields_fit_the_task(self) -> Self:
        classifies = self.task.endswith("classification")
        if self.labels and not classifies:
            raise ValueError(f"labels are of a classification; task {self.task} has none")
        if len(set(self.labels)) < len(self.labels) or len(self.labels) == 1:
            raise ValueError("labels must be at least two different names")
        writes = self.task in ("translation", "text-to-text")
        if "{source}" not in self.prompt or (self.prompt != "{source}" and not writes):
            raise ValueError("prompt must hold {source} once, and is only for translation and text-to-text")
        if self.method.name == "frozen" and (writes or self.task == "chat"):
            raise ValueError(
                f"method frozen trains the head of a task, and task {self.task} has none; use lora or full"
            )
        required, optional = COLUMNS[self.task]
        if unknown := sorted(set(self.data.columns) - {*required, *optional}):
            raise ValueError(
                f"data.columns: {unknown[0]!r} is no column of {self.task}: {', '.join(required + optional)}"
            )
        if self.batch_size % self.gradient_accumulation:
            raise ValueError(
                f"batch_size {self.batch_size} is not divisible by gradient_accumulation {self.gradient_accumulation}"
            )
        return self


class TaskRecipe(Section):
    """Everything that makes a fine-tuned model, from a model and rows to a published repository."""

    name: str = Field(
        pattern=REPOSITORY_NAME, description="names the run's directory and, unless said otherwise, its repository"
    )
    description: str = Field("", description="one sentence for the card")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    finetuning: FinetuningRecipe
    publishing: PublishingRecipe | None = Field(None, description="None: nothing is published")
    provenance: Provenance | None = Field(None, description="written by lmc into resolved recipes; ignored when read")

    @model_validator(mode="after")
    def _benchmark_is_of_a_dataset(self) -> Self:
        if self.publishing and self.publishing.benchmark:
            raise ValueError("publishing.benchmark is for the dataset of a pretraining recipe; this one publishes none")
        return self
