"""Continue prompts: all at once, or one as a stream."""

from collections import deque
from collections.abc import Iterator

from lmcommons.generation.batch import Batch, Vocabulary
from lmcommons.generation.parameters import SamplingParameters
from lmcommons.generation.sequence import Completion, Delta, Sequence, Token
from lmcommons.model import Decoder

MAX_ROWS = 16


def generate(
    model: Decoder, tokenizer: Vocabulary, prompts: list[list[int]], parameters: SamplingParameters
) -> list[Completion]:
    """Continue every prompt, up to 16 at a time, each as if it were alone; the results are in the order of the prompts.

    A prompt is token ids; one that begins a document begins with the tokenizer's `bos_token_id`.

    Raises:
        RequestError: a prompt is empty, does not fit the context, or has an unknown token.
        CommandError: the model's weights are damaged.
    """
    sequences = [Sequence(prompt, parameters) for prompt in prompts]
    texts: dict[Sequence, list[str]] = {sequence: [] for sequence in sequences}
    tokens: dict[Sequence, list[Token]] = {sequence: [] for sequence in sequences}
    ends = {}
    for sequence, delta in _run(model, tokenizer, sequences):
        texts[sequence].append(delta.text)
        tokens[sequence].extend(delta.tokens)
        if delta.finish_reason:
            ends[sequence] = delta.finish_reason
    return [
        Completion("".join(texts[each]), tokens[each], ends[each], len(each.generated), each.prompt_tokens)
        for each in sequences
    ]


def stream(model: Decoder, tokenizer: Vocabulary, sequence: Sequence) -> Iterator[Delta]:
    """Continue one sequence and yield each step as it is made; the errors are those of `generate`."""
    for _, delta in _run(model, tokenizer, [sequence]):
        yield delta


def _run(model: Decoder, tokenizer: Vocabulary, sequences: list[Sequence]) -> Iterator[tuple[Sequence, Delta]]:
    longest = max((len(each.prompt) + each.parameters.max_tokens for each in sequences), default=1)
    batch = Batch(model, tokenizer, max_rows=min(MAX_ROWS, len(sequences)), max_length=longest)
    for sequence in sequences:
        batch.check(sequence)
    waiting = deque(sequences)
    while waiting or batch.sequences:
        yield from batch.admit(waiting)
        if batch.sequences:
            yield from batch.step()
