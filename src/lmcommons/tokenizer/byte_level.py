"""How text is cut before byte-pair encoding, and how bytes are spelled in `tokenizer.json`."""

# Letters with what precedes them, digits in groups of at most three, punctuation with the line ends that follow, white
# space. After Llama 3 (Grattafiori et al. 2024), with white space bounded: an unbounded run overflows the stack of the
# backtracking regex engine at about a million characters.
SPLIT_PATTERN = (
    r"'(?:[sdmtSDMT]|[lL][lL]|[vV][eE]|[rR][eE])"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+"
    r"|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]{0,256}"
    r"|\s{0,256}[\r\n]{1,256}"
    r"|\s{1,256}(?!\S)"
    r"|\s{1,256}"
)

# What a `ByteLevel` pre-tokenizer with `use_regex` cuts at (Radford et al. 2019).
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def _byte_characters() -> dict[int, str]:
    """Every byte as one printable character: itself where Latin-1 prints it, else the next one from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(others)}


_CHARACTERS = _byte_characters()
_BYTES = {character: byte for byte, character in _CHARACTERS.items()}


def spell(token: bytes) -> str:
    """A token's bytes as the characters that `tokenizer.json` writes for them."""
    return "".join(_CHARACTERS[byte] for byte in token)


def unspell(characters: str) -> bytes:
    """The bytes that a vocabulary entry of `tokenizer.json` stands for.

    Raises:
        KeyError: a character that stands for no byte: the vocabulary is not byte-level.
    """
    return bytes(_BYTES[character] for character in characters)


def byte_pairs(vocab: dict[str, int], merges: list[list[str]]) -> dict[str, object]:
    """The model of a `tokenizer.json`: byte-pair encoding with every token's id and the merges in order."""
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocab,
        "merges": merges,
    }
