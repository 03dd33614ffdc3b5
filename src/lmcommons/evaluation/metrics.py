"""Metrics of tasks, each with its number of rows, a bootstrap interval, and a named baseline on the same rows.

A metric is made of sums over rows (`Statistics`) and a function of the sums' totals. So the interval is that of totals
over rows that are drawn with replacement, whatever the metric is.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
from numpy.typing import NDArray
from sacrebleu.metrics.base import Metric as SacrebleuMetric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from lmcommons.data.benchmark import task_id
from lmcommons.data.words import UNSPACED
from lmcommons.evaluation.intervals import interval, resample

Floats = NDArray[np.float64]
BLEU_TOKENIZERS = {"zh": "zh", "ja": "char", "th": "char"}  # of other targets: mteval's 13a
ARTICLES = re.compile(r"\b(a|an|the)\b")
TOKEN = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


@dataclass(frozen=True)
class Measurement:
    """A metric of a model on rows it was not trained on, beside a baseline on the same rows."""

    metric: str
    value: float
    low: float
    high: float
    """`low` to `high`: 95 % bootstrap interval over rows"""
    n: int
    """rows"""
    baseline: str
    baseline_value: float
    difference: tuple[float, float]
    """95 % interval of the model's value less the baseline's, on the same resamples"""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Statistics:
    """What a metric is computed from: `rows` [rows, quantities], and `value` of their sum [quantities]."""

    metric: str
    rows: Floats
    value: Callable[[Floats], float]

    @property
    def total(self) -> float:
        """The metric of all rows."""
        return self.value(self.rows.sum(axis=0))


def compare(model: Statistics, baseline: Statistics, name: str, *, samples: int, seed: int) -> Measurement:
    """The model's metric with its interval, beside that of the baseline `name`.

    Raises:
        ValueError: the two are not of the same rows.
    """
    if len(model.rows) != len(baseline.rows):
        raise ValueError(f"{len(model.rows)} rows of the model and {len(baseline.rows)} of the baseline")
    both = np.hstack([model.rows, baseline.rows])
    width = model.rows.shape[1]
    drawn = resample(both, samples, seed)
    values = np.array([model.value(row[:width]) for row in drawn])
    others = np.array([baseline.value(row[width:]) for row in drawn])
    low, high = interval(values)
    return Measurement(
        model.metric, model.total, low, high, len(model.rows), name, baseline.total, interval(values - others)
    )


def _mean(name: str, rows: Sequence[Sequence[float]] | Floats) -> Statistics:
    """A metric that is one sum over another."""
    return Statistics(name, np.asarray(rows, np.float64), lambda total: _share(total[0], total[1]))


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


# ---------------------------------------------------------------- classification


def accuracy(expected: Sequence[Sequence[int]], predicted: Sequence[Sequence[int]]) -> Statistics:
    """The share of right labels; a row has one label, or one for each of its tokens."""
    pairs = zip(expected, predicted, strict=True)
    right = [(sum(a == b for a, b in zip(e, p, strict=True)), len(e)) for e, p in pairs]
    return _mean("accuracy", right)


def macro_f1(expected: Sequence[Sequence[int]], predicted: Sequence[Sequence[int]], classes: int) -> Statistics:
    """The mean over classes of the harmonic mean of precision and recall; absent classes do not count."""
    counts = np.zeros((len(expected), 3, classes))  # true positives, of each row
    for row, (wanted, found) in enumerate(zip(expected, predicted, strict=True)):
        for right, given in zip(wanted, found, strict=True):
            counts[row, 0, right] += right == given
            counts[row, 1, right] += 1  # expected
            counts[row, 2, given] += 1  # predicted

    def value(total: Floats) -> float:
        true, wanted, found = total.reshape(3, classes)
        present = wanted + found > 0
        return float((2 * true[present] / (wanted + found)[present]).mean()) if present.any() else 0.0

    return Statistics("macro_f1", counts.reshape(len(expected), -1), value)


def entity_f1(expected: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Statistics:
    """Micro F1 of whole entities, as the CoNLL-2000 script counts them: type, first and last token must be right."""
    rows = []
    for wanted, found in zip(expected, predicted, strict=True):
        right, given = entities(wanted), entities(found)
        rows.append((2 * len(right & given), len(right) + len(given)))
    return _mean("entity_f1", rows)


def entities(labels: Sequence[str]) -> set[tuple[str, int, int]]:
    """(type, first token, last token) of what `B-X`, `I-X`, `O` mark; an I that continues nothing begins an entity."""
    found: set[tuple[str, int, int]] = set()
    start, kind = 0, ""
    for place, label in enumerate([*labels, "O"]):
        mark, _, named = label.partition("-")
        if kind and (mark != "I" or named != kind):
            found.add((kind, start, place - 1))
            kind = ""
        if mark in ("B", "I") and not kind:
            start, kind = place, named
    return found


# ---------------------------------------------------------------- texts


def bleu(expected: Sequence[str], predicted: Sequence[str], language: str | None = None) -> Statistics:
    """BLEU (Papineni et al. 2002) by sacreBLEU, 0 to 100; the target's `language` decides how it is cut into tokens."""
    code = (language or "").partition("-")[0].lower()
    return _sacrebleu("bleu", BLEU(tokenize=BLEU_TOKENIZERS.get(code, "13a"), force=True), expected, predicted)


def chrf(expected: Sequence[str], predicted: Sequence[str]) -> Statistics:
    """chrF2 (Popović 2015) by sacreBLEU, 0 to 100."""
    return _sacrebleu("chrf", CHRF(), expected, predicted)


def _sacrebleu(name: str, metric: SacrebleuMetric, expected: Sequence[str], predicted: Sequence[str]) -> Statistics:
    rows = np.array(metric._extract_corpus_statistics(predicted, [expected]), np.float64)
    return Statistics(
        name, rows, lambda total: float(metric._compute_score_from_stats(total.astype(np.int64).tolist()).score)
    )


def exact_match(expected: Sequence[Sequence[str]], predicted: Sequence[str]) -> Statistics:
    """The share of answers that equal one of the expected ones (none expected: the empty text), normalised."""
    return _mean("exact_match", [(_best(_equal, e, p), 1) for e, p in zip(expected, predicted, strict=True)])


def token_f1(expected: Sequence[Sequence[str]], predicted: Sequence[str]) -> Statistics:
    """The mean over rows of the F1 of the answer's words and those of the nearest expected answer."""
    return _mean("f1", [(_best(_word_f1, e, p), 1) for e, p in zip(expected, predicted, strict=True)])


def normalise(text: str) -> list[str]:
    """An answer's words without case, punctuation and articles (Rajpurkar et al. 2016); Han characters are words."""
    plain = "".join(character for character in text.lower() if not unicodedata.category(character).startswith("P"))
    return TOKEN.findall(ARTICLES.sub(" ", plain))


def _best(score: Callable[[list[str], list[str]], float], expected: Sequence[str], predicted: str) -> float:
    found = normalise(predicted)
    return max(score(normalise(answer), found) for answer in expected or [""])


def _equal(expected: list[str], predicted: list[str]) -> float:
    return float(expected == predicted)


def _word_f1(expected: list[str], predicted: list[str]) -> float:
    if not expected or not predicted:
        return float(expected == predicted)
    shared = (Counter(expected) & Counter(predicted)).total()
    return 2 * shared / (len(expected) + len(predicted))


def perplexity(nats: Sequence[float], tokens: Sequence[int]) -> Statistics:
    """exp of the mean loss over tokens; `nats` and `tokens` are sums of each row."""
    rows = np.column_stack([nats, tokens]).astype(np.float64)
    return Statistics("perplexity", rows, lambda total: math.exp(min(_share(total[0], total[1]), 700.0)))


# ---------------------------------------------------------------- for people and for hubs


def task_table(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """A Markdown table of the measurements of each split, as `Measurement.as_dict` gives them."""
    head = ["| split | metric | value | 95 % interval | n | baseline | its value |", "|---|---|---|---|---|---|---|"]
    rows = [
        f"| {split} | {found['metric']} | {found['value']:.3f} | {_interval(found)} | {found['n']:,} "
        f"| {found['baseline']} | {found['baseline_value']:.3f} |"
        for split, measurements in results.items()
        for found in measurements
    ]
    return "\n".join([*head, *rows]) + "\n"


def task_eval_results(
    results: Mapping[str, Sequence[Mapping[str, Any]]], dataset: str, source: str | None = None
) -> str:
    """The text of a `.eval_results/*.yaml` file, as `huggingface_hub` reads it: every metric on every test split.

    `dataset` is `namespace/name@commit`, `source` the address of something that shows how the numbers came about.
    """
    repository, _, commit = dataset.partition("@")
    entries = [
        EvalResultEntry(
            dataset_id=repository,
            task_id=task_id(found["metric"], split),
            value=found["value"],
            dataset_revision=commit,
            source_url=source,
            source_name=source and source.rpartition("/")[2],
            notes=(
                f"{split} split; 95 % interval {_interval(found)} (bootstrap over rows, n = {found['n']}); "
                f"{found['baseline']}: {found['baseline_value']:.3f}"
            ),
        )
        for split, measurements in results.items()
        for found in measurements
    ]
    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True, width=110)


def _interval(found: Mapping[str, Any]) -> str:
    return f"{found['low']:.3f} to {found['high']:.3f}"
