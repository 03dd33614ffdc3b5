"""Around a text that a model is to read or to answer: padding, ends, prompts."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from lmcommons.errors import RequestError


def require_offsets(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that does not know where in a text its tokens stand.

    Raises:
        RequestError: it is so.
    """
    if not tokenizer.is_fast:
        raise RequestError("the tokenizer does not say where tokens stand in a text: it needs a tokenizer.json")


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """What rows are filled up with; never read, so that any token will do where the tokenizer has none for it."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0


def end_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """What a written text ends with.

    Raises:
        RequestError: the tokenizer has no such token.
    """
    for token in (tokenizer.eos_token_id, tokenizer.sep_token_id):
        if token is not None:
            return int(token)
    raise RequestError("the tokenizer has no end token (eos_token), so that an answer could not end")


def prompts(
    tokenizer: PreTrainedTokenizerBase, sources: Sequence[str], prompt: str, *, decoder: bool
) -> list[list[int]]:
    """What a model reads of sources; before a decoder's answer stands the end of a line."""
    texts = [prompt.replace("{source}", source) for source in sources]
    if not decoder:
        found: list[list[int]] = tokenizer(texts)["input_ids"]
        return found
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    plain = tokenizer([f"{text}\n" for text in texts], add_special_tokens=False)["input_ids"]
    return [[*begin, *tokens] for tokens in plain]
