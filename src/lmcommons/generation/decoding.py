"""Continue prompts: all at once, or one as a stream."""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from lmcommons.errors import RequestError
from lmcommons.generation.batch import Batch, Vocabulary
from lmcommons.generation.beam import beam_search
from lmcommons.generation.foreign_tokenizer import ForeignTokenizer
from lmcommons.generation.parameters import BeamParameters, SamplingParameters
from lmcommons.generation.rows import beginning
from lmcommons.generation.sequence import Completion, Continuation, Delta, Sequence, Token
from lmcommons.model import Model
from lmcommons.tokenizer import Tokenizer

MAX_ROWS = 16


def generate(
    model: Model,
    tokenizer: Vocabulary,
    prompts: list[list[int]],
    parameters: SamplingParameters | list[SamplingParameters],
) -> list[Completion]:
    """Continue every prompt, up to 16 at a time, each as if it were alone; the results are in the order of the prompts.

    A prompt is token ids (`prompt_tokens`): what is continued, or the source that an encoder-decoder reads. The
    `parameters` are those of all prompts, or one for each.

    Raises:
        RequestError: there are no prompts; one is empty, does not fit the context, or has an unknown token; the model
            writes no text.
        CommandError: the model's weights are damaged.
    """
    each = parameters if isinstance(parameters, list) else [parameters] * len(prompts)
    sequences = [Sequence(prompt, asked) for prompt, asked in zip(prompts, each, strict=True)]
    texts: dict[Sequence, list[str]] = {sequence: [] for sequence in sequences}
    tokens: dict[Sequence, list[Token]] = {sequence: [] for sequence in sequences}
    ends = {}
    for sequence, delta in _run(model, tokenizer, sequences):
        texts[sequence].append(delta.text)
        tokens[sequence].extend(delta.tokens)
        if delta.finish_reason:
            ends[sequence] = delta.finish_reason
    return [
        Completion("".join(texts[one]), one.generated, one.score, ends[one], tokens[one], one.prompt_tokens)
        for one in sequences
    ]


def stream(model: Model, tokenizer: Vocabulary, sequence: Sequence) -> Iterator[Delta]:
    """Continue one sequence and yield each step as it is made; the errors are those of `generate`."""
    for _, delta in _run(model, tokenizer, [sequence]):
        yield delta


def continuations(
    model: Model,
    tokenizer: Vocabulary,
    prompts: list[list[int]],
    parameters: SamplingParameters | BeamParameters,
    count: int = 1,
) -> list[list[Continuation]]:
    """`count` continuations of each prompt by any strategy: those of a beam search, or drawn with seeds one apart.

    The errors are those of `generate` and `beam_search`.
    """
    if isinstance(parameters, BeamParameters):
        return beam_search(model, tokenizer, prompts, replace(parameters, num_return_sequences=count))
    seeds = [None if parameters.seed is None else parameters.seed + draw for draw in range(count)]
    asked = [replace(parameters, seed=seed) for seed in seeds]
    found = generate(model, tokenizer, [prompt for prompt in prompts for _ in asked], asked * len(prompts))
    return [list(found[place * count : (place + 1) * count]) for place in range(len(prompts))]


def prompt_tokens(model: Model, tokenizer: Tokenizer | ForeignTokenizer, text: str) -> list[int]:
    """A text as the tokens of a prompt: whole for an encoder-decoder, else to be continued."""
    if model.config.kind == "encoder-decoder":
        return tokenizer.frame(tokenizer.encode(text))
    return tokenizer.prompt(text)


def _run(model: Model, tokenizer: Vocabulary, sequences: list[Sequence]) -> Iterator[tuple[Sequence, Delta]]:
    if not sequences:
        raise RequestError("there are no prompts: give at least one")
    lengths = [len(beginning(model.config, each.prompt)) + each.parameters.max_tokens for each in sequences]
    batch = Batch(model, tokenizer, max_rows=min(MAX_ROWS, len(sequences)), max_length=max(lengths))
    for sequence in sequences:
        batch.check(sequence)
    waiting = deque(sequences)
    while waiting or batch.sequences:
        yield from batch.admit(waiting)
        if batch.sequences:
            yield from batch.step()
