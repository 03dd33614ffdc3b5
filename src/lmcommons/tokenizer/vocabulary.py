"""The tokens of any `tokenizer.json`, whatever its kind."""

from pathlib import Path

import tokenizers

from lmcommons.errors import RequestError


def token_names(directory: Path, vocab_size: int) -> list[str]:
    """The tokens in `directory` by their ids, `vocab_size` of them; an id without a token is called `[PAD<id>]`.

    Raises:
        RequestError: there is no tokenizer, or it has a token that a model of `vocab_size` tokens has not.
    """
    file = directory / "tokenizer.json"
    if not file.is_file():
        raise RequestError(f"{file}: no such file")
    try:
        found = tokenizers.Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True)
    except Exception as error:  # `tokenizers` raises this class itself
        raise RequestError(f"{file}: not a tokenizer ({error})") from error
    names = {number: token for token, number in found.items()}
    if names and max(names) >= vocab_size:
        raise RequestError(
            f"{file}: token {names[max(names)]!r} has id {max(names)}, and the model has only {vocab_size} tokens"
        )
    return [names.get(number, f"[PAD{number}]") for number in range(vocab_size)]
