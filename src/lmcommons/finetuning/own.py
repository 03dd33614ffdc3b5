"""One of our models, with the head of a task put on it."""

from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lmcommons import model as models
from lmcommons.errors import RequestError
from lmcommons.finetuning.lora import Site
from lmcommons.finetuning.network import WRITING, Network, Writing, attention_mask
from lmcommons.generation import BeamParameters, SamplingParameters, continuations
from lmcommons.inference.write import TokenIds
from lmcommons.model import IGNORED, Decoder, EncoderDecoder, Model, ModelConfig
from lmcommons.model.interop import directory as interop
from lmcommons.model.interop.tensors import TRANSPOSED, Correspondence, to_transformers
from lmcommons.model.linear import Linear
from lmcommons.recipe import FinetuningTask
from lmcommons.training.batches import Batch


class Own(Network):
    """One of our models."""

    def __init__(self, model: Model, new: list[str]) -> None:
        config = model.config
        self.model = self.module = model
        self.kind, self.vocab_size, self.new = config.kind, config.vocab_size, new
        bounded = config.positions in ("learned", "rotary", "sinusoidal")
        self.positions = config.max_position_embeddings if bounded else None
        self.start, self.packs = config.decoder_start_token_id, config.kind == "decoder"

    def _is_head(self, name: str) -> bool:
        return name.startswith(("task_head.", "pooler."))

    def task_logits(self, batch: Batch) -> Tensor:
        typed = self.model.config.type_vocab_size > 0 or self.kind == "permutation"
        return self.model.task_logits(
            batch.tokens,
            attention_mask=attention_mask(batch),
            token_types=batch.token_types if typed else None,
        )

    def token_losses(self, batch: Batch) -> Tensor:
        return self.model.token_loss(self._hidden(batch), batch.targets, reduction="none")

    def loss(self, batch: Batch, label_smoothing: float) -> Tensor:
        hidden, targets = self._hidden(batch), batch.targets
        if not torch.compiler.is_compiling():  # a prompt is not predicted, so its logits are not needed
            kept = targets != IGNORED
            hidden, targets = hidden[kept][None], targets[kept][None]
        return self.model.token_loss(hidden, targets, reduction="sum", label_smoothing=label_smoothing)

    def _hidden(self, batch: Batch) -> Tensor:
        if isinstance(self.model, EncoderDecoder):
            assert batch.target_tokens is not None
            return self.model.hidden(batch.tokens, batch.target_tokens, attention_mask=attention_mask(batch))
        assert isinstance(self.model, Decoder)
        return self.model.hidden(batch.tokens, document_ids=batch.document_ids)

    def write(self, prompts: Sequence[Sequence[int]], how: Writing) -> list[list[int]]:
        parameters: SamplingParameters | BeamParameters
        if how.num_beams > 1:
            parameters = BeamParameters(num_beams=how.num_beams, max_tokens=how.max_new_tokens)
        else:
            parameters = SamplingParameters(max_tokens=how.max_new_tokens)
        vocabulary = TokenIds(self.vocab_size, how.ends)
        found = continuations(self.model, vocabulary, [list(prompt) for prompt in prompts], parameters)
        return [[token for token in best.token_ids if token not in how.ends] for best, *_ in found]

    def sites(self, targets: str) -> list[Site]:
        pairs = {pair.ours: pair for pair in self._correspondence().pairs}
        found = []
        for path, module in self.model.named_modules():
            wanted = ".layers." in path and (targets == "all" or "attention" in path)
            if not isinstance(module, Linear) or not wanted:
                continue
            pair = pairs[f"{path}.weight"]
            # XLNet's matrices of attention are no modules in `transformers`: `peft` could not read their changes
            if all(name.endswith(".weight") for name in pair.theirs):
                sizes = tuple(module.sizes) if len(pair.theirs) > 1 else (sum(module.sizes),)
                names = tuple(name.removesuffix(".weight") for name in pair.theirs)
                found.append(Site(path, names, sizes, transposed=pair.layout is TRANSPOSED))
        return found

    def as_transformers(self, names: Collection[str]) -> dict[str, Tensor]:
        kept = tuple(pair for pair in self._correspondence().pairs if pair.ours in names)
        return to_transformers(self.model, dict(self.model.named_parameters()), Correspondence(kept, {}))

    def _correspondence(self) -> Correspondence:
        config = self.model.config
        found: Correspondence = interop.FAMILIES[config.family].correspondence(config)
        return found

    def set_precision(self, dtype: torch.dtype) -> None:
        self.model.compute_dtype = dtype

    def save(self, source: Path, directory: Path) -> None:
        interop.save_with_tokenizer(self.model, source, directory)


def for_task(
    model: Model, task: FinetuningTask, labels: list[str], *, pad_token_id: int | None, pretrained: bool
) -> Own:
    """The model with the head that `task` needs, its own where it has one for the same labels, else a new one.

    `pretrained` false keeps nothing of the weights. New ones are drawn from torch's global generator.

    Raises:
        RequestError: this kind of model cannot do the task; one line that says which can.
    """
    config = model.config
    if task in WRITING:
        able = ("decoder",) if task == "chat" else ("decoder", "encoder-decoder")
        if config.kind not in able or config.task != "language-modelling":
            raise RequestError(
                f"task {task} needs a {' or '.join(able)} with a head for language modelling, and this is "
                f"{_article(config.kind)} for {config.task}"
            )
        return Own(model if pretrained else models.build(config), [])
    if config.kind == "encoder-decoder":
        raise RequestError(f"task {task} needs a head that an encoder-decoder has no place for; use task text-to-text")
    changes: dict[str, object] = {"task": task, "labels": labels, "next_sentence": False, "pooler": True}
    if config.pad_token_id is None:
        changes["pad_token_id"] = pad_token_id
    fresh = models.build(ModelConfig(**{**config.model_dump(), **changes}))
    if not pretrained:
        return Own(fresh, [])
    same_head = config.task == task and config.labels == labels
    kept = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name in fresh.state_dict() and (same_head or not name.startswith("task_head."))
    }
    found = fresh.load_state_dict(kept, strict=False)
    return Own(fresh, list(found.missing_keys))


def _article(kind: str) -> str:
    return f"an {kind}" if kind.startswith("e") else f"a {kind}"
