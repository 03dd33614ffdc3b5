"""Tokenizers of other kinds than ours, as generation uses them: SentencePiece, WordPiece, whole words."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lmcommons.errors import RequestError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # how SentencePiece writes bytes of characters that it has no token for


class ForeignTokenizer:
    """What generation needs of `lmcommons.tokenizer.Tokenizer`, from any tokenizer that `transformers` reads.

    Text never becomes a special token. A token's bytes are those in the middle of a text, where it may begin with a
    space that it has not at a text's beginning.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        self.vocab_size = max(tokenizer.get_vocab().values()) + 1
        self.bos_token_id: int | None = tokenizer.bos_token_id
        ends = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        self.stop_token_ids: list[int] = [] if ends is None else [ends]
        plain, framed = self.encode("a"), tokenizer("a")["input_ids"]
        start = next((at for at in range(len(framed)) if framed[at : at + len(plain)] == plain), 0)
        self.prefix, self.suffix = framed[:start], framed[start + len(plain) :]
        self._anchor = plain[-1:] or [0]

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without a beginning or end token."""
        found: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return found

    def frame(self, ids: Sequence[int]) -> list[int]:
        """A whole text's ids with the special tokens around it, as `transformers` adds them."""
        return [*self.prefix, *ids, *self.suffix]

    def prompt(self, text: str) -> list[int]:
        """The ids of a text that is to be continued: what begins a text, and its own; none only for no text."""
        begin = [] if self.bos_token_id is None else [self.bos_token_id]
        return [*self.prefix, *self.encode(text)] or begin

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; special tokens are their names."""
        return str(self._tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that one id stands for in the middle of a text."""
        byte = BYTE.fullmatch(str(self._tokenizer.convert_ids_to_tokens(token_id)))
        if byte:
            return bytes([int(byte[1], 16)])
        return self.decode([*self._anchor, token_id]).removeprefix(self.decode(self._anchor)).encode()


def read(directory: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer of a model directory as `transformers` reads it, without remote code.

    Raises:
        RequestError: the directory has none that it can read.
    """
    from transformers import AutoTokenizer

    try:
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            directory, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        why = " ".join(str(error).split())[:300]
        raise RequestError(f"{directory}: no tokenizer that can be read ({why})") from error
    return found
