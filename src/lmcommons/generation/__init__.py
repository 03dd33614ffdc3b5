"""Text from a model: greedy, sampled, or by beam search.

`continuations` (decoding) goes on from prompts by any strategy: token by token (`generate`, `stream`) on the same
`Batch` (batch) as the server, which lets sequences join and leave between steps, or by `beam_search` (beam). `rows`
keeps what a model of any kind has read, `processors` turns logits into a token, `sequence` and `text_stream` turn
tokens into text, `scoring` says how likely a text is, `packing` lays weights out for fast reading, `parameters` says
what a caller may ask, `loading` opens a model by its name. Start reading at `batch`. Imports the model, the tokenizer
and the client; nothing of serving.
"""

from lmcommons.generation.batch import Batch, Vocabulary
from lmcommons.generation.beam import beam_search
from lmcommons.generation.decoding import continuations, generate, prompt_tokens, stream
from lmcommons.generation.parameters import BeamParameters, SamplingParameters
from lmcommons.generation.scoring import log_probabilities
from lmcommons.generation.sequence import Completion, Continuation, Delta, FinishReason, Sequence, Token

__all__ = [
    "Batch",
    "BeamParameters",
    "Completion",
    "Continuation",
    "Delta",
    "FinishReason",
    "SamplingParameters",
    "Sequence",
    "Token",
    "Vocabulary",
    "beam_search",
    "continuations",
    "generate",
    "log_probabilities",
    "prompt_tokens",
    "stream",
]
