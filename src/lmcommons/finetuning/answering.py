"""An answer that stands in a text (Rajpurkar et al. 2016), or that there is none (Rajpurkar et al. 2018)."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lmcommons.evaluation import metrics
from lmcommons.evaluation.metrics import Measurement
from lmcommons.finetuning import encoding
from lmcommons.finetuning.encoding import Encoded, Example
from lmcommons.finetuning.rows import Split
from lmcommons.finetuning.tasks import Task
from lmcommons.inference.spans import best_spans
from lmcommons.training.batches import Batch


class QuestionAnswering(Task):
    """`question`, `context` -> the part of the context that answers."""

    chooses = "f1"

    def encode(self, split: Split) -> Encoded:
        return encoding.question_answering(self.setting.tokenizer, split, self.setting.limit)

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of the first and of the last token over all tokens of a row."""
        logits = self._logits(batch)
        return F.cross_entropy(
            logits, batch.targets, reduction="sum", label_smoothing=self.setting.recipe.label_smoothing
        )

    def score(self, split: Split, examples: Sequence[Example]) -> dict[str, float]:
        expected, predicted, loss = self._predict(split, examples, "validation")
        return {
            "validation_loss": loss,
            "exact_match": metrics.exact_match(expected, predicted).total,
            "f1": metrics.token_f1(expected, predicted).total,
        }

    def measure(self, split: Split, examples: Sequence[Example], train: Split) -> list[Measurement]:
        expected, predicted, _ = self._predict(split, examples, split.name)
        baseline, name = [first_sentence(row["context"]) for row in split.rows], "first sentence of the context"
        return [
            self._compare(metric(expected, predicted), metric(expected, baseline), name)
            for metric in (metrics.exact_match, metrics.token_f1)
        ]

    def _predict(
        self, split: Split, examples: Sequence[Example], name: str
    ) -> tuple[list[list[str]], list[str], float]:
        """The answers of each row, the best span of its windows, and the loss in nats per first or last token.

        The span is nothing where that is likelier in all windows, and train has rows without an answer.
        """
        nats = 0.0
        answers = [""] * len(split.rows)
        best = [-float("inf")] * len(split.rows)
        none = [float("inf")] * len(split.rows)
        for example, logits in self._read(examples, self._logits, name):
            assert example.spans is not None
            nats += float(F.cross_entropy(logits.T, torch.tensor(example.targets), reduction="sum"))
            none[example.row] = min(none[example.row], float(logits[0].sum()))
            for score, start, stop in best_spans(logits, example.spans):
                if score > best[example.row]:
                    best[example.row] = score
                    answers[example.row] = split.rows[example.row]["context"][start:stop]
        if self.setting.unanswerable:
            answers = ["" if none[row] > best[row] else answer for row, answer in enumerate(answers)]
        return [row["answers"] for row in split.rows], answers, nats / (2 * len(examples))

    def _logits(self, batch: Batch) -> Tensor:
        logits = self.setting.network.task_logits(batch)
        if batch.document_ids is None:
            return logits
        return logits.masked_fill((batch.document_ids < 0)[..., None], torch.finfo(torch.float32).min)


def first_sentence(text: str) -> str:
    """Up to the first mark that ends a sentence, or line."""
    return re.split(r"(?<=[.!?])\s|(?<=[。！？])|\n", text.strip(), maxsplit=1)[0]
