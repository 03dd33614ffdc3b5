"""Texts that a model writes: translations, answers of any kind, and a conversation's next turn."""

from collections.abc import Sequence

from torch import Tensor

from lmcommons.evaluation import metrics
from lmcommons.evaluation.metrics import Measurement, Statistics
from lmcommons.finetuning import encoding
from lmcommons.finetuning.answering import first_sentence
from lmcommons.finetuning.encoding import Encoded, Example
from lmcommons.finetuning.network import Network, Writing
from lmcommons.finetuning.rows import Split
from lmcommons.finetuning.tasks import Task
from lmcommons.inference import text
from lmcommons.model import IGNORED
from lmcommons.progress import task as progress_task
from lmcommons.training.batches import Batch

WRITTEN_TOGETHER = 128  # prompts


class WritingTask(Task):
    """The loss of the tokens to write decides; prompts are not predicted."""

    chooses = "validation_loss"
    by_token = True

    @property
    def packs(self) -> bool:
        """Where the model keeps texts of a row apart."""
        return self.setting.network.packs

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of the tokens to write."""
        return self.setting.network.loss(batch, self.setting.recipe.label_smoothing)

    def score(self, split: Split, examples: Sequence[Example]) -> dict[str, float]:
        return {"validation_loss": _mean(self._nats(examples, self.setting.network, "validation"))}

    def _nats(self, examples: Sequence[Example], network: Network, name: str) -> list[tuple[float, int]]:
        """The loss and the number of tokens to write, of each example."""
        found = self._read(examples, lambda batch: network.token_losses(batch).sum(dim=1), name)
        return [(float(nats), sum(target != IGNORED for target in example.targets)) for example, nats in found]


class Answering(WritingTask):
    """`source` -> `target`."""

    def encode(self, split: Split) -> Encoded:
        setting = self.setting
        start = setting.network.start if setting.network.kind == "encoder-decoder" else None
        return encoding.answering(setting.tokenizer, split, setting.recipe.prompt, setting.limit, start)

    def measure(self, split: Split, examples: Sequence[Example], train: Split) -> list[Measurement]:
        sources = [row["source"] for row in split.rows]
        expected = [row["target"] for row in split.rows]
        written = self.write(sources, split.name)
        if self.setting.recipe.task == "translation":
            language = self.setting.recipe.language
            return [
                self._compare(
                    metrics.bleu(expected, written, language), metrics.bleu(expected, sources, language), "copy source"
                ),
                self._compare(metrics.chrf(expected, written), metrics.chrf(expected, sources), "copy source"),
            ]
        baseline, name = [first_sentence(source) for source in sources], "first sentence of the source"
        answers = [[target] for target in expected]
        return [
            self._compare(metrics.exact_match(answers, written), metrics.exact_match(answers, baseline), name),
            self._compare(metrics.token_f1(answers, written), metrics.token_f1(answers, baseline), name),
            self._compare(metrics.chrf(expected, written), metrics.chrf(expected, baseline), name),
        ]

    def write(self, sources: Sequence[str], name: str) -> list[str]:
        """What the model writes for each source."""
        setting, tokenizer = self.setting, self.setting.tokenizer
        recipe, decoder = setting.recipe, setting.network.kind == "decoder"
        how = Writing(frozenset([text.end_id(tokenizer)]), recipe.max_new_tokens, recipe.num_beams)
        room = setting.limit - (min(recipe.max_new_tokens, setting.limit // 2) if decoder else 0)
        whole = text.prompts(tokenizer, sources, recipe.prompt, decoder=decoder)
        prompts = [encoding.shorten(prompt, room) for prompt in whole]
        texts = [""] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        with progress_task(f"{name}: writing", total=len(prompts), unit="answers") as shown:
            for start in range(0, len(order), WRITTEN_TOGETHER):
                places = order[start : start + WRITTEN_TOGETHER]
                written = setting.network.write([prompts[place] for place in places], how)
                for place, tokens in zip(places, written, strict=True):
                    texts[place] = str(tokenizer.decode(tokens, skip_special_tokens=True)).strip()
                shown.advance(len(places))
        return texts


class Chat(WritingTask):
    """`messages` -> what the assistant wrote."""

    def encode(self, split: Split) -> Encoded:
        return encoding.chat(self.setting.tokenizer, split, self.setting.limit)

    def measure(self, split: Split, examples: Sequence[Example], train: Split) -> list[Measurement]:
        model = self._nats(examples, self.setting.network, split.name)
        base = self.setting.base()
        base.module.to(self.setting.network.device)
        before = self._nats(examples, base, f"{split.name}, before fine-tuning")
        return [self._compare(_perplexity(model), _perplexity(before), "before fine-tuning")]


def _mean(pairs: Sequence[tuple[float, int]]) -> float:
    return sum(nats for nats, _ in pairs) / max(1, sum(tokens for _, tokens in pairs))


def _perplexity(pairs: Sequence[tuple[float, int]]) -> Statistics:
    return metrics.perplexity([nats for nats, _ in pairs], [tokens for _, tokens in pairs])
