"""Text from a model: greedy, sampled, or by beam search.

`generate` and `stream` (decoding) and `beam_search` (beam) are the ways in; the first two and the server run on `Batch`
(batch), which holds the cache of keys and values and lets sequences join and leave between steps. `processors` turns
logits into a token, `sequence` and `text_stream` turn tokens into text, `packing` lays weights out for fast reading,
`parameters` says what a caller may ask, `loading` opens a model by its name. Start reading at `batch`. Imports the
model, the tokenizer and the client; nothing of serving.
"""

from lmcommons.generation.batch import Batch, Vocabulary
from lmcommons.generation.beam import Hypothesis, beam_search
from lmcommons.generation.decoding import generate, stream
from lmcommons.generation.parameters import BeamParameters, SamplingParameters
from lmcommons.generation.sequence import Completion, Delta, FinishReason, Sequence, Token

__all__ = [
    "Batch",
    "BeamParameters",
    "Completion",
    "Delta",
    "FinishReason",
    "Hypothesis",
    "SamplingParameters",
    "Sequence",
    "Token",
    "Vocabulary",
    "beam_search",
    "generate",
    "stream",
]
