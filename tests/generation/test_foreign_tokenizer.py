"""`lmc generate` with tokenizers that are not byte-level BPE: the text and the prompt are those of `transformers`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
import torch
from generative_models import VOCABULARY, pair
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from lmcommons.cli import main

LETTERS = "abcdefghijklmnopqrst"  # of 40 tokens: 4 special ones, 16 pieces
SPECIAL = ["<pad>", "</s>", "<unk>", "<s>"]


def unigram() -> tokenizers.Tokenizer:
    """As SentencePiece for T5: spaces belong to the word behind them, `</s>` ends a text."""
    pieces = [*SPECIAL, "▁", *LETTERS, *(f"▁{letter}" for letter in LETTERS[:15])]
    made = tokenizers.Tokenizer(models.Unigram([(piece, -float(len(piece))) for piece in pieces], unk_id=2))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return made


def word_pieces() -> tokenizers.Tokenizer:
    """As BERT's, without a template."""
    pieces = [*SPECIAL, "▁", *LETTERS, *(f"##{letter}" for letter in LETTERS[:15])]
    made = tokenizers.Tokenizer(models.WordPiece({piece: at for at, piece in enumerate(pieces)}, unk_token="<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.decoder = decoders.WordPiece()
    return made


def words() -> tokenizers.Tokenizer:
    """Whole words, joined by spaces; `<s>` begins a text."""
    known = [*SPECIAL, *LETTERS, *(letter * 2 for letter in LETTERS[:16])]
    made = tokenizers.Tokenizer(models.WordLevel({word: at for at, word in enumerate(known)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 3)])
    return made


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5", "marian"])
@pytest.mark.parametrize("kind", [unigram, word_pieces, words])
def test_prompt_tokens_and_text_are_those_of_transformers(
    kind: Callable[[], tokenizers.Tokenizer], family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, reference = pair(family, tmp_path, seed=2)
    roles = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "bos_token": "<s>"}
    PreTrainedTokenizerFast(tokenizer_object=kind(), **roles).save_pretrained(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert len(theirs) == VOCABULARY
    assert main.run(["generate", str(tmp_path), "--prompt", "ab c dd", "--max-new-tokens", "12", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    [found] = result["sequences"]
    read = theirs("ab c dd")["input_ids"]
    if not reference.config.is_encoder_decoder and read[-1] == 1:
        read = read[:-1]  # a text that is to be continued has no end
    assert result["usage"]["prompt_tokens"] == len(read)
    ends = sorted({1, *[end for end in [reference.config.eos_token_id] if end is not None]})
    expected = reference.generate(
        torch.tensor([read]), max_new_tokens=12, do_sample=False, eos_token_id=ends, pad_token_id=0
    )[0, 1 if reference.config.is_encoder_decoder else len(read) :].tolist()
    assert found["token_ids"] == expected
    shown = expected[:-1] if expected[-1] in ends else expected
    # A text that begins inside a word continues the prompt's last one.
    text = theirs.decode(shown, clean_up_tokenization_spaces=False).removeprefix("##")
    assert found["text"].strip() == text.strip()
    if reference.config.is_encoder_decoder:
        assert found["text"] == text
