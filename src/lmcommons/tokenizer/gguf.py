"""Byte-level BPE in GGUF: the keys `tokenizer.*` of a file, as the GGUF specification and llama.cpp have them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmcommons.errors import RequestError
from lmcommons.files import read_json
from lmcommons.tokenizer.byte_level import SPLIT_PATTERN, byte_pairs
from lmcommons.tokenizer.tokenizer import load

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # token types
TOKEN_IDS = {
    "bos_token": "tokenizer.ggml.bos_token_id",
    "eos_token": "tokenizer.ggml.eos_token_id",
    "pad_token": "tokenizer.ggml.padding_token_id",
    "unk_token": "tokenizer.ggml.unknown_token_id",
}


def _split(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, BYTES | {"use_regex": False}]}


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}
# `tokenizer.ggml.pre`: how a text is cut before merging. Our own pattern cuts like Llama 3 up to 256 blanks in a row.
PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "gpt-2": BYTES,
    "smollm": {"type": "Sequence", "pretokenizers": [DIGITS, BYTES]},
    "llama-bpe": _split(SPLIT_PATTERN),
    "qwen2": _split(SPLIT_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")),
}


def from_gguf(fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The content of `tokenizer.json` and of `tokenizer_config.json`.

    Raises:
        RequestError: another kind of tokenizer, or one that is not whole.
    """
    kind, pre = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre")
    if kind != "gpt2":
        raise RequestError(f"tokenizer.ggml.model is {kind!r}; what can be read is 'gpt2', byte-level BPE")
    if pre not in PRE_TOKENIZERS:
        raise RequestError(f"tokenizer.ggml.pre is {pre!r}; what can be read is {', '.join(PRE_TOKENIZERS)}")
    tokens, merges, types = (fields.get(f"tokenizer.ggml.{name}") for name in ("tokens", "merges", "token_type"))
    if not (isinstance(tokens, list) and isinstance(merges, list) and isinstance(types, list)):
        raise RequestError("tokenizer.ggml.tokens, tokenizer.ggml.merges or tokenizer.ggml.token_type is missing")
    if len(types) != len(tokens):
        raise RequestError(f"tokenizer.ggml.token_type has {len(types)} entries and tokens {len(tokens)}")
    configuration: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
    }
    for role, key in TOKEN_IDS.items():
        number = fields.get(key)
        if number is not None:
            if not 0 <= number < len(tokens):
                raise RequestError(f"{key} is {number}, and there are {len(tokens)} tokens")
            configuration[role] = tokens[number]
    if "eos_token" not in configuration:
        raise RequestError("tokenizer.ggml.eos_token_id is missing")
    if fields.get("tokenizer.chat_template") is not None:
        configuration["chat_template"] = fields["tokenizer.chat_template"]
    begins = [configuration["bos_token"]] if fields.get("tokenizer.ggml.add_bos_token") else []
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": number,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": types[number] == CONTROL,
            }
            for number, token in enumerate(tokens)
            if types[number] in (CONTROL, USER_DEFINED)
        ],
        "normalizer": None,
        "pre_tokenizer": PRE_TOKENIZERS[pre],
        "post_processor": _begin(begins, tokens),
        "decoder": BYTES,
        "model": byte_pairs(
            {token: number for number, token in enumerate(tokens) if types[number] != UNUSED},
            [merge.split(" ") for merge in merges],
        ),
    }, configuration


def _begin(tokens: list[str], vocabulary: list[str]) -> dict[str, Any]:
    """The post-processor that puts `tokens` before a text."""
    special = {token: {"id": token, "ids": [vocabulary.index(token)], "tokens": [token]} for token in tokens}
    sides = {
        kind: [{"SpecialToken": {"id": token, "type_id": place}} for token in tokens]
        + [{"Sequence": {"id": kind, "type_id": place}}]
        for place, kind in enumerate("AB")
    }
    pair = sides["A"] + sides["B"]
    return {"type": "TemplateProcessing", "single": sides["A"], "pair": pair, "special_tokens": special}


def to_gguf(directory: Path, vocab_size: int) -> dict[str, Any]:
    """The keys of the tokenizer in `directory` for a model of `vocab_size` tokens.

    Raises:
        RequestError: there is none, or llama.cpp has no name for how it cuts text.
    """
    tokenizer = load(directory)
    if tokenizer.vocab_size > vocab_size:
        raise RequestError(f"{directory}: the tokenizer has {tokenizer.vocab_size} tokens and the model {vocab_size}")
    definition, configuration = (read_json(directory / f"{name}.json") for name in ("tokenizer", "tokenizer_config"))
    model = definition["model"]
    cuts = [name for name, known in PRE_TOKENIZERS.items() if known == definition.get("pre_tokenizer")]
    if model["type"] != "BPE" or definition.get("normalizer") or not cuts:
        raise RequestError(
            f"{directory / 'tokenizer.json'}: llama.cpp has no name for this tokenizer; what can be written is "
            f"byte-level BPE that cuts text as one of {', '.join(PRE_TOKENIZERS)}"
        )
    tokens, types = [f"[PAD{number}]" for number in range(vocab_size)], [UNUSED] * vocab_size
    for token, number in model["vocab"].items():
        tokens[number], types[number] = token, NORMAL
    for added in definition["added_tokens"]:
        tokens[added["id"]] = added["content"]
        types[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    numbers = {token: number for number, token in enumerate(tokens)}
    fields: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": cuts[0],
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]],
        "tokenizer.ggml.add_bos_token": tokenizer.frame([])[:1] == [tokenizer.bos_token_id],
    }
    for role, key in TOKEN_IDS.items():
        token = configuration.get(role)
        if token is not None:
            fields[key] = numbers[token if isinstance(token, str) else token["content"]]
    if tokenizer.chat_template:
        fields["tokenizer.chat_template"] = tokenizer.chat_template
    return fields
