"""The class of a text, and the classes of its words."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lmcommons.errors import RequestError
from lmcommons.evaluation import metrics
from lmcommons.evaluation.metrics import Measurement
from lmcommons.finetuning import encoding
from lmcommons.finetuning.encoding import Encoded, Example
from lmcommons.finetuning.rows import Split
from lmcommons.finetuning.tasks import Task
from lmcommons.model import IGNORED
from lmcommons.recipe import FinetuningRecipe
from lmcommons.training.batches import Batch

Classes = list[list[int]]  # of each row: one, or one for each of its words


def find_labels(recipe: FinetuningRecipe, train: Split) -> list[str]:
    """The labels of the recipe, or of the train split: as numbers where they are such, else by name.

    Raises:
        RequestError: the train split has one class only, or lacks one of the recipe's.
    """
    single = recipe.task == "sequence-classification"
    names = {str(name) for row in train.rows for name in ([row["label"]] if single else row["labels"])}
    if len(names) < 2:
        raise RequestError(f"{train.path}: every label is {names.pop()!r}; a classification needs at least two classes")
    if missing := [name for name in recipe.labels if name not in names]:
        raise RequestError(f"{train.path}: no row has the label {missing[0]!r} of finetuning.labels")
    numbers = all(name.isdecimal() for name in names)
    return recipe.labels or sorted(names, key=int if numbers else str)


class Classification(Task):
    """What both have in common: logits of classes, and macro-F1 as the number that decides."""

    chooses = "macro_f1"

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of the right classes."""
        logits = self.setting.network.task_logits(batch)
        return F.cross_entropy(
            logits.flatten(0, -2),
            batch.targets.flatten(),
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=self.setting.recipe.label_smoothing,
        )

    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.setting.labels)}

    def _measurements(self, expected: Classes, predicted: Classes, baseline: Classes, name: str) -> list[Measurement]:
        classes = len(self.setting.labels)
        return [
            self._compare(metrics.accuracy(expected, predicted), metrics.accuracy(expected, baseline), name),
            self._compare(
                metrics.macro_f1(expected, predicted, classes), metrics.macro_f1(expected, baseline, classes), name
            ),
        ]


class SequenceClassification(Classification):
    """`text` (and `text_pair`) -> `label`."""

    def encode(self, split: Split) -> Encoded:
        return encoding.classification(self.setting.tokenizer, split, self._numbers(), self.setting.limit)

    def score(self, split: Split, examples: Sequence[Example]) -> dict[str, float]:
        expected, logits = self._predict(examples, "validation")
        loss = F.cross_entropy(logits, torch.tensor(expected).flatten())
        predicted = logits.argmax(-1)[:, None].tolist()
        macro_f1 = metrics.macro_f1(expected, predicted, len(self.setting.labels)).total
        return {
            "validation_loss": float(loss),
            "accuracy": metrics.accuracy(expected, predicted).total,
            "macro_f1": macro_f1,
        }

    def measure(self, split: Split, examples: Sequence[Example], train: Split) -> list[Measurement]:
        expected, logits = self._predict(examples, split.name)
        [(majority, _)] = Counter(str(row["label"]) for row in train.rows).most_common(1)
        baseline = [[self._numbers()[majority]]] * len(expected)
        return self._measurements(expected, logits.argmax(-1)[:, None].tolist(), baseline, "majority class")

    def _predict(self, examples: Sequence[Example], name: str) -> tuple[Classes, Tensor]:
        read = list(self._read(examples, self.setting.network.task_logits, name))
        return [example.targets for example, _ in read], torch.stack([logits for _, logits in read])


class TokenClassification(Classification):
    """`tokens` -> `labels`. Words without a token of their own, as behind `max_length`, get the most frequent label."""

    by_token = True

    def encode(self, split: Split) -> Encoded:
        return encoding.token_classification(self.setting.tokenizer, split, self._numbers(), self.setting.limit)

    def score(self, split: Split, examples: Sequence[Example]) -> dict[str, float]:
        expected, predicted, loss = self._predict(split, examples, "validation", fallback=0)
        found = {
            "validation_loss": loss,
            "accuracy": metrics.accuracy(expected, predicted).total,
            "macro_f1": metrics.macro_f1(expected, predicted, len(self.setting.labels)).total,
        }
        if self._marks_entities():
            found["entity_f1"] = metrics.entity_f1(self._names(expected), self._names(predicted)).total
        return found

    def measure(self, split: Split, examples: Sequence[Example], train: Split) -> list[Measurement]:
        counts: defaultdict[str, Counter[int]] = defaultdict(Counter)
        numbers = self._numbers()
        for row in train.rows:
            for word, name in zip(row["tokens"], row["labels"], strict=True):
                counts[word][numbers[name]] += 1
        [(majority, _)] = sum(counts.values(), Counter()).most_common(1)
        usual = {word: found.most_common(1)[0][0] for word, found in counts.items()}
        baseline = [[usual.get(word, majority) for word in row["tokens"]] for row in split.rows]
        expected, predicted, _ = self._predict(split, examples, split.name, fallback=majority)
        name = "each word's most frequent label"
        found = self._measurements(expected, predicted, baseline, name)
        if self._marks_entities():
            model = metrics.entity_f1(self._names(expected), self._names(predicted))
            found.append(self._compare(model, metrics.entity_f1(self._names(expected), self._names(baseline)), name))
        return found

    def _predict(
        self, split: Split, examples: Sequence[Example], name: str, fallback: int
    ) -> tuple[Classes, Classes, float]:
        """The labels of each row's words, those that the model gives, and its loss in nats per word."""
        numbers, nats, count = self._numbers(), 0.0, 0
        expected = [[numbers[name] for name in row["labels"]] for row in split.rows]
        predicted = [[fallback] * len(row) for row in expected]
        for example, logits in self._read(examples, self.setting.network.task_logits, name):
            targets = torch.tensor(example.targets)
            logits = logits[: len(targets)][targets != IGNORED]
            nats += float(F.cross_entropy(logits, targets[targets != IGNORED], reduction="sum"))
            count += len(logits)
            for word, number in zip(example.words or (), logits.argmax(-1).tolist(), strict=True):
                predicted[example.row][word] = number
        return expected, predicted, nats / max(count, 1)

    def _marks_entities(self) -> bool:
        return any(name.startswith("B-") for name in self.setting.labels)

    def _names(self, rows: Classes) -> list[list[str]]:
        return [[self.setting.labels[number] for number in row] for row in rows]
