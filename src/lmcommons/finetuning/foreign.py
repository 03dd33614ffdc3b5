"""Any other model of `transformers`, trained as the module that it is: without remote code, from safetensors only."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

from lmcommons.errors import RequestError
from lmcommons.files import atomic_directory
from lmcommons.finetuning.lora import Site
from lmcommons.finetuning.network import WRITING, Network, Writing, attention_mask
from lmcommons.generation import foreign_tokenizer
from lmcommons.model import IGNORED
from lmcommons.model.stack import token_positions
from lmcommons.recipe import FinetuningTask
from lmcommons.training.batches import Batch

CLASSES: dict[str, Any] = {
    "sequence-classification": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
    "question-answering": AutoModelForQuestionAnswering,
}
SPEAKING = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "MTModel", "ForSeq2SeqLM")  # ends of class names
WRITTEN_TOGETHER = 16  # prompts
PACKING_TOLERANCE = 1e-3  # nats; a model that does not keep packed texts apart is off by far more


class Foreign(Network):
    """A module of `transformers`."""

    def __init__(self, module: PreTrainedModel, kind: str, new: list[str]) -> None:
        self.theirs = self.module = module
        self.kind, self.new, self.dtype = kind, new, torch.float32
        embedding = module.get_input_embeddings()
        self.vocab_size = int(cast(Tensor, embedding.weight).shape[0])
        self.positions = getattr(module.config, "max_position_embeddings", None)
        self.start = getattr(module.config, "decoder_start_token_id", None)
        self.packs = kind == "decoder" and self._keeps_packed_texts_apart()

    def _is_head(self, name: str) -> bool:
        return not name.startswith(f"{self.theirs.base_model_prefix}.")

    def _outputs(self, batch: Batch, **fields: Tensor | bool | None) -> Any:
        given = {name: value for name, value in fields.items() if value is not None}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype is torch.bfloat16):
            return self.theirs(input_ids=batch.tokens, **given)

    def task_logits(self, batch: Batch) -> Tensor:
        mask = attention_mask(batch)
        typed = getattr(self.theirs.config, "type_vocab_size", 0)
        found = self._outputs(
            batch,
            attention_mask=None if mask is None else mask.long(),
            token_type_ids=batch.token_types if typed else None,
        )
        if "start_logits" in found:
            return torch.stack([found.start_logits, found.end_logits], dim=-1).float()
        return cast(Tensor, found.logits).float()

    def token_losses(self, batch: Batch) -> Tensor:
        losses = F.cross_entropy(
            self._logits(batch).flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED, reduction="none"
        )
        return losses.view_as(batch.targets)

    def loss(self, batch: Batch, label_smoothing: float) -> Tensor:
        return F.cross_entropy(
            self._logits(batch).flatten(0, 1),
            batch.targets.flatten(),
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=label_smoothing,
        )

    def _logits(self, batch: Batch) -> Tensor:
        """Logits of `batch.targets`: [batch, predictions, vocab] float32."""
        mask = attention_mask(batch)
        if self.kind == "encoder-decoder":
            given = {"attention_mask": None if mask is None else mask.long(), "decoder_input_ids": batch.target_tokens}
            return cast(Tensor, self._outputs(batch, use_cache=False, **given).logits).float()
        if batch.document_ids is None:
            return cast(Tensor, self._outputs(batch, use_cache=False).logits).float()
        ids = batch.document_ids
        together = (ids[:, :, None] == ids[:, None, :]).tril()[:, None]  # a mask of four dimensions is used as it is
        positions = token_positions(batch.tokens, document_ids=ids)
        found = self._outputs(batch, use_cache=False, attention_mask=together, position_ids=positions)
        return cast(Tensor, found.logits).float()

    @torch.no_grad()
    def _keeps_packed_texts_apart(self) -> bool:
        """Whether a text in a shared row is read as it is alone: not every class takes such masks and positions."""
        first, second = torch.arange(1, 9) % self.vocab_size, torch.arange(3, 15) % self.vocab_size
        ids = torch.tensor([[0] * 8 + [1] * 12])
        targets = torch.cat([first, second])[None]
        try:
            packed = self.token_losses(Batch(targets, targets, document_ids=ids))
            alone = [self.token_losses(Batch(text[None], text[None])) for text in (first, second)]
        except (TypeError, ValueError, RuntimeError, IndexError):
            return False
        return bool((packed - torch.cat(alone, dim=1)).abs().max() < PACKING_TOLERANCE)

    def write(self, prompts: Sequence[Sequence[int]], how: Writing) -> list[list[int]]:
        parts = (prompts[start : start + WRITTEN_TOGETHER] for start in range(0, len(prompts), WRITTEN_TOGETHER))
        return [answer for part in parts for answer in self._write(part, how)]

    @torch.inference_mode()
    def _write(self, prompts: Sequence[Sequence[int]], how: Writing) -> list[list[int]]:
        length = max(map(len, prompts))
        # a decoder continues the last column, so its prompts are padded before their beginning
        before = [length - len(prompt) if self.kind == "decoder" else 0 for prompt in prompts]
        tokens = torch.zeros(len(prompts), length, dtype=torch.int64)
        mask = torch.zeros_like(tokens)
        for row, (prompt, skipped) in enumerate(zip(prompts, before, strict=True)):
            tokens[row, skipped : skipped + len(prompt)] = torch.tensor(prompt)
            mask[row, skipped : skipped + len(prompt)] = 1
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype is torch.bfloat16):
            written = cast(Any, self.theirs).generate(
                tokens.to(self.device),
                attention_mask=mask.to(self.device),
                max_new_tokens=how.max_new_tokens,
                num_beams=how.num_beams,
                do_sample=False,
                eos_token_id=sorted(how.ends),
                pad_token_id=min(how.ends),
            )
        rows = written[:, length if self.kind == "decoder" else 1 :].tolist()
        return [row[: next((place for place, token in enumerate(row) if token in how.ends), len(row))] for row in rows]

    def sites(self, targets: str) -> list[Site]:
        inside = f"{self.theirs.base_model_prefix}."
        found = []
        for path, module in self.theirs.named_modules():
            if not path.startswith(inside) or not isinstance(module, torch.nn.Linear | Conv1D):
                continue
            if targets == "all" or "attn" in path.lower() or "attention" in path.lower():
                size = module.nf if isinstance(module, Conv1D) else module.out_features
                found.append(Site(path, (path,), (size,), transposed=isinstance(module, Conv1D)))
        return found

    def as_transformers(self, names: Collection[str]) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self.theirs.named_parameters() if name in names}

    def set_precision(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def save(self, source: Path, directory: Path) -> None:
        with atomic_directory(directory) as temporary:
            self.theirs.save_pretrained(temporary)
            foreign_tokenizer.read(source).save_pretrained(temporary)


def load(
    directory: Path, task: FinetuningTask, labels: list[str], *, pad_token_id: int | None, pretrained: bool
) -> Foreign:
    """The model of a `transformers` directory with the head that `task` needs.

    Raises:
        RequestError: it cannot be read without remote code or pickles, or has no such head: one line.
    """
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
        kind = _kind(config, task)
        if labels:
            config.id2label = dict(enumerate(labels))
            config.label2id = {name: number for number, name in enumerate(labels)}
        if getattr(config, "pad_token_id", None) is None:
            config.pad_token_id = pad_token_id
        auto = CLASSES.get(task, AutoModelForSeq2SeqLM if kind == "encoder-decoder" else AutoModelForCausalLM)
        if not pretrained:
            return Foreign(auto.from_config(config, trust_remote_code=False).float(), kind, [])
        module, found = auto.from_pretrained(
            directory,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise RequestError(f"{directory}: {' '.join(str(error).split())[:400]}") from error
    mismatched = {entry[0] for entry in found["mismatched_keys"]}
    network = Foreign(module, kind, sorted(set(found["missing_keys"]) | mismatched))
    if wrong := [name for name in network.new if not network._is_head(name) and "pooler" not in name]:
        raise RequestError(f"{directory}: tensor {wrong[0]} is missing or misshapen: config.json does not fit it")
    return network


def _kind(config: Any, task: FinetuningTask) -> str:
    """Decoder, encoder or encoder-decoder, as far as `task` needs to know.

    Raises:
        RequestError: the model cannot do the task.
    """
    names = config.architectures or ["a model without a named class"]
    speaks = any(name.endswith(SPEAKING) for name in names)
    if task in WRITING and (not speaks or (task == "chat" and config.is_encoder_decoder)):
        able = "decoder" if task == "chat" else "decoder or encoder-decoder"
        raise RequestError(f"task {task} needs a {able} with a head for language modelling, and this is {names[0]}")
    if config.is_encoder_decoder:
        return "encoder-decoder"
    return "decoder" if speaks else "encoder"
