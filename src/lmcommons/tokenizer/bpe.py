"""Train a byte-level BPE vocabulary and write it in the `tokenizers` format."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import rustbpe

from lmcommons.errors import CommandError, RequestError
from lmcommons.files import atomic_directory, write_json
from lmcommons.progress import say, task
from lmcommons.recipe import TokenizerRecipe
from lmcommons.tokenizer.byte_level import SPLIT_PATTERN, byte_pairs, spell

Kind = Literal["decoder", "encoder", "encoder-decoder", "permutation"]

END_OF_TEXT = "<|endoftext|>"
CHAT_TOKENS = ("<|user|>", "<|assistant|>")

# By the kind of model, what each special token is for; an encoder's names are BERT's (Devlin et al. 2019), an
# encoder-decoder's T5's (Raffel et al. 2020).
ROLES: dict[Kind, dict[str, str]] = {
    "decoder": {"pad_token": END_OF_TEXT, "bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT},
    "encoder": {
        "pad_token": "[PAD]", "bos_token": "[CLS]", "eos_token": "[SEP]",
        "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
    },
    "encoder-decoder": {"pad_token": "<pad>", "eos_token": "</s>"},
}  # fmt: skip
ROLES["permutation"] = ROLES["encoder"]

# What stands around one text A, and around two; each piece has the number of its segment.
TEMPLATES: dict[Kind, tuple[str, str]] = {
    "decoder": (f"{END_OF_TEXT} A", f"{END_OF_TEXT} A {END_OF_TEXT}:1 B:1"),
    "encoder": ("[CLS] A [SEP]", "[CLS] A [SEP] B:1 [SEP]:1"),
    "encoder-decoder": ("A </s>", "A </s> B:1 </s>:1"),
    "permutation": ("A [SEP] [CLS]:2", "A [SEP] B:1 [SEP]:1 [CLS]:2"),  # Yang et al. 2019, §2.5
}

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


def train(
    texts: Iterable[str], recipe: TokenizerRecipe, out: Path, *, kind: Kind = "decoder", sentinels: int = 0
) -> dict[str, Any]:
    """Learn byte-pair merges (Sennrich et al. 2016, over bytes) from `texts` and write the tokenizer into `out`.

    Ids: the special tokens first (padding is 0), then the 256 bytes, then the merges in the order learned. Equal texts
    in any order give equal files. A text too small for `recipe.vocab_size` gives a smaller vocabulary, which the report
    and a line on stderr state.

    Args:
        kind: of the model that will read the tokens; it decides which special tokens there are.
        sentinels: how many tokens `<extra_id_0>` … to add, which stand for corrupted spans.

    Returns:
        `vocab_size`, `requested_vocab_size`, `documents`, `bytes` (UTF-8, of the texts).

    Raises:
        RequestError: the vocabulary has no room for all bytes and the special tokens.
        CommandError: there is no text, or `out` cannot be written.
    """
    special = tuple(dict.fromkeys(ROLES[kind].values()))
    special += CHAT_TOKENS if recipe.chat_template else ()
    special += tuple(f"<extra_id_{place}>" for place in range(sentinels))
    if recipe.vocab_size < len(special) + 256:
        raise RequestError(
            f"tokenizer.vocab_size: {recipe.vocab_size} has no room for 256 bytes and {len(special)} special tokens; "
            f"give {len(special) + 256} or more"
        )
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
        write_json(directory / "tokenizer.json", _definition(tokens, special, kind))
        write_json(directory / "tokenizer_config.json", _configuration(recipe, kind))
    return {"vocab_size": vocab_size, "requested_vocab_size": recipe.vocab_size, **seen}


def _definition(tokens: list[bytes], special: tuple[str, ...], kind: Kind) -> dict[str, Any]:
    """The content of `tokenizer.json`. `transformers` puts the same tokens around a text as training does."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    single, pair = TEMPLATES[kind]
    around = [name for name in special if name in pair.replace(":", " ").split()]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": place,
                "content": content,
                "single_word": False,
                "lstrip": content == ROLES[kind].get("mask_token"),  # a word's token begins with its space
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
            "single": _pieces(single),
            "pair": _pieces(pair),
            "special_tokens": {name: {"id": name, "ids": [special.index(name)], "tokens": [name]} for name in around},
        },
        "decoder": byte_level,
        "model": byte_pairs(
            {name: place for place, name in enumerate([*special, *map(spell, tokens)])},
            [[spell(left), spell(right)] for left, right in _merges(tokens)],
        ),
    }


def _pieces(template: str) -> list[dict[str, Any]]:
    """A template as `tokenizer.json` writes it."""
    found = []
    for piece in template.split():
        name, _, segment = piece.partition(":")
        found.append({"Sequence" if name in "AB" else "SpecialToken": {"id": name, "type_id": int(segment or 0)}})
    return found


def _configuration(recipe: TokenizerRecipe, kind: Kind) -> dict[str, Any]:
    """The content of `tokenizer_config.json`."""
    configuration: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **ROLES[kind],
        "clean_up_tokenization_spaces": False,
    }
    if "sep_token" in ROLES[kind]:
        configuration["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
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
