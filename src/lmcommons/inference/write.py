"""Texts that a model writes in answer to others."""

from collections.abc import Sequence
from dataclasses import dataclass

from lmcommons.errors import RequestError
from lmcommons.generation import BeamParameters, FinishReason, SamplingParameters, continuations
from lmcommons.inference.loading import NO_TEXTS, Loaded, TextError
from lmcommons.inference.text import end_id, prompts
from lmcommons.model.config import as_list


@dataclass(frozen=True)
class TokenIds:
    """A vocabulary for generation whose tokens are wanted as numbers: the tokenizer makes the text."""

    vocab_size: int
    stop_token_ids: frozenset[int]

    def token_bytes(self, token_id: int, /) -> bytes:
        """Nothing."""
        return b""


@dataclass(frozen=True)
class Written:
    """A text, its score (that of `Continuation`), and whether it ended by itself."""

    text: str
    score: float | None
    finish_reason: FinishReason


def decoding(
    *, num_beams: int | None = None, length_penalty: float | None = None, max_new_tokens: int | None = None
) -> SamplingParameters | BeamParameters:
    """Beam search with `num_beams`, 4 where it is not given; 1 takes the best token each time.

    Raises:
        RequestError: a value is out of range.
    """
    most = 128 if max_new_tokens is None else max_new_tokens
    if num_beams == 1:
        return SamplingParameters(max_tokens=most, logprobs=0)
    return BeamParameters(
        num_beams=4 if num_beams is None else num_beams,
        length_penalty=1.0 if length_penalty is None else length_penalty,
        max_tokens=most,
    )


def write(
    loaded: Loaded,
    sources: Sequence[str],
    parameters: SamplingParameters | BeamParameters,
    *,
    prompt: str = "{source}",
    count: int = 1,
) -> list[list[Written]]:
    """The `count` best texts for each source, as fine-tuning trains them (`text.prompts`), best first.

    Raises:
        RequestError: there are no sources, `prompt` has no place for them, or the parameters do not fit the model.
        TextError: a source is empty or longer than the model reads.
        CommandError: the model's weights are damaged.
    """
    if "{source}" not in prompt:
        raise RequestError(f"the prompt {prompt!r} must have {{source}} where the text is to stand")
    if not sources:
        raise RequestError(NO_TEXTS)
    for place, source in enumerate(sources):
        if not source.strip():
            raise TextError(place, "the text is empty")
    beams = parameters.num_beams if isinstance(parameters, BeamParameters) else 1
    if not 1 <= count <= beams:
        raise RequestError(
            f"{count} texts cannot be written with {beams} beams: ask for 1 to {beams}, or for more beams"
        )
    config = loaded.config
    rows = prompts(loaded.tokenizer, sources, prompt, decoder=config.kind == "decoder")
    for place, row in enumerate(rows):
        loaded.check_length(place, len(row))
    ends = frozenset([end_id(loaded.tokenizer), *as_list(config.eos_token_id)])
    found = continuations(loaded.model, TokenIds(config.vocab_size, ends), rows, parameters, count)
    return [
        [
            Written(
                str(loaded.tokenizer.decode(each.token_ids, skip_special_tokens=True)).strip(),
                each.score,
                each.finish_reason,
            )
            for each in texts
        ]
        for texts in found
    ]
