"""Which tokens make a word together."""

from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from lmcommons.data.words import WORD
from lmcommons.tokenizer import Tokenizer


def continues_word(tokens: NDArray[np.int64], tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """For each of `tokens` [sequence], whether the border to the token before it is inside a word.

    A word is what `lmcommons.data.words` takes for one: letters, digits and underscores in a row; in scripts that are
    written without spaces, a character, which may be several tokens.
    """
    spelled = [tokenizer.token_bytes(token) for token in tokens.tolist()]
    text = b"".join(spelled).decode("utf-8", "surrogateescape")
    offsets = [0, *accumulate(len(character.encode("utf-8", "surrogateescape")) for character in text)]
    inside = np.zeros(offsets[-1] + 1, bool)
    for word in WORD.finditer(text):
        inside[offsets[word.start()] + 1 : offsets[word.end()]] = True
    return inside[[0, *accumulate(map(len, spelled[:-1]))]]
