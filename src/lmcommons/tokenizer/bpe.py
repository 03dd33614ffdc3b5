"""Train a byte-level BPE vocabulary and write it in the `tokenizers` format."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import rustbpe

from lmcommons.errors import CommandError
from lmcommons.files import atomic_directory, write_json
from lmcommons.progress import say, task
from lmcommons.recipe import TokenizerRecipe
from lmcommons.tokenizer.byte_level import SPLIT_PATTERN, spell

END_OF_TEXT = "<|endoftext|>"
CHAT_TOKENS = ("<|user|>", "<|assistant|>")

# A conversation is one document; an answer ends where a document ends.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '<|assistant|>' + message['content'] + eos_token }}"
    "{% elif message['role'] in ['system', 'user'] %}{{ '<|user|>' + message['content'] }}"
    "{% else %}{{ raise_exception('role ' + message['role'] + ' is unknown; use system, user or assistant') }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train(texts: Iterable[str], recipe: TokenizerRecipe, out: Path) -> dict[str, Any]:
    """Learn byte-pair merges (Sennrich et al. 2016, over bytes) from `texts` and write the tokenizer into `out`.

    Ids: the special tokens first (`<|endoftext|>` is 0), then the 256 bytes, then the merges in the order learned.
    Equal texts in any order give equal files. A text too small for `recipe.vocab_size` gives a smaller vocabulary,
    which the report and a line on stderr state.

    Returns:
        `vocab_size`, `requested_vocab_size`, `documents`, `bytes` (UTF-8, of the texts).

    Raises:
        CommandError: there is no text, or `out` cannot be written.
    """
    special = (END_OF_TEXT, *CHAT_TOKENS) if recipe.chat_template else (END_OF_TEXT,)
    seen = {"documents": 0, "bytes": 0}

    with task("train tokenizer", unit="bytes") as progress:

        def counted() -> Iterator[str]:
            for text in texts:
                size = len(text.encode())
                seen["documents"] += 1
                seen["bytes"] += size
                progress.advance(size)
                yield text

        trainer = rustbpe.Tokenizer()
        trainer.train_from_iterator(counted(), recipe.vocab_size - len(special), pattern=SPLIT_PATTERN)
    if not seen["bytes"]:
        raise CommandError("the tokenizer has no text to learn from: the train split is empty")
    ordered = sorted(trainer.get_mergeable_ranks(), key=lambda entry: entry[1])
    tokens = list(dict.fromkeys(bytes(token) for token, _ in ordered))
    vocab_size = len(special) + len(tokens)
    if vocab_size < recipe.vocab_size:
        say(f"tokenizer: the text supports {vocab_size:,} tokens, fewer than vocab_size {recipe.vocab_size:,}")
    with atomic_directory(out) as directory:
        write_json(directory / "tokenizer.json", _definition(tokens, special))
        write_json(directory / "tokenizer_config.json", _configuration(recipe))
    return {"vocab_size": vocab_size, "requested_vocab_size": recipe.vocab_size, **seen}


def _definition(tokens: list[bytes], special: tuple[str, ...]) -> dict[str, Any]:
    """The content of `tokenizer.json`. `transformers` begins a text with `<|endoftext|>`, as in training."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    pieces = [{"SpecialToken": {"id": END_OF_TEXT, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": place,
                "content": content,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for place, content in enumerate(special)
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": SPLIT_PATTERN}, "behavior": "Isolated", "invert": False},
                byte_level,
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": pieces,
            "pair": [
                *pieces,
                {"SpecialToken": {"id": END_OF_TEXT, "type_id": 1}},
                {"Sequence": {"id": "B", "type_id": 1}},
            ],
            "special_tokens": {END_OF_TEXT: {"id": END_OF_TEXT, "ids": [0], "tokens": [END_OF_TEXT]}},
        },
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {name: place for place, name in enumerate([*special, *map(spell, tokens)])},
            "merges": [[spell(left), spell(right)] for left, right in _merges(tokens)],
        },
    }


def _configuration(recipe: TokenizerRecipe) -> dict[str, Any]:
    """The content of `tokenizer_config.json`."""
    configuration: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
    }
    if recipe.chat_template:
        configuration["chat_template"] = CHAT_TEMPLATE
    return configuration


def _merges(tokens: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The two parts that each token was merged from: what encoding it with only the tokens before it gives."""
    ranks = {token: rank for rank, token in enumerate(tokens)}
    for token in tokens:
        if len(token) == 1:
            continue
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            # The token's own rank is above those of its parts, so the lowest rank never joins the last two.
            place = min(range(len(parts) - 1), key=lambda at: ranks.get(parts[at] + parts[at + 1], len(ranks)))
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        yield parts[0], parts[1]
