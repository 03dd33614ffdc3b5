"""Small random models of `transformers` classes with tokenizers of word pieces or of words, to be compared with."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tiny_model import TEXTS
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, MarianConfig, MarianMTModel, PreTrainedModel, PreTrainedTokenizerFast

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
WORDS = ["red", "green", "blue", "white", "black", "grey", "rot", "grün", "blau", "weiß", "schwarz", "grau"]


def write_bert(directory: Path, architecture: type[PreTrainedModel], **fields: Any) -> PreTrainedModel:
    """A random model of a BERT class that reads 64 tokens, with word pieces as BERT has them."""
    engine = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    engine.normalizer = normalizers.BertNormalizer()
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    engine.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=500, special_tokens=special))
    engine.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    words = PreTrainedTokenizerFast(
        tokenizer_object=engine, model_input_names=["input_ids", "token_type_ids", "attention_mask"], **names
    )
    words.save_pretrained(directory)
    config = BertConfig(vocab_size=len(words), max_position_embeddings=64, pad_token_id=0, **SIZES, **fields)
    return _write(architecture(config), directory)


def write_marian(directory: Path) -> PreTrainedModel:
    """A random translator of words that reads 64 tokens."""
    _word_tokenizer(["<pad>", "</s>", "<unk>", *WORDS]).save_pretrained(directory)
    config = MarianConfig(
        vocab_size=3 + len(WORDS), d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=64,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, forced_eos_token_id=None,
    )  # fmt: skip
    return _write(MarianMTModel(config), directory)


def _word_tokenizer(vocabulary: Iterable[str]) -> PreTrainedTokenizerFast:
    numbers = {word: number for number, word in enumerate(vocabulary)}
    engine = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    engine.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    engine.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=engine, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def _write(model: PreTrainedModel, directory: Path) -> PreTrainedModel:
    """Save the model with every weight away from its initial value, so that a mistake shows."""
    torch.manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name.lower() and name.endswith("weight"):
                parameter.uniform_(0.5, 1.5)
            elif "embed_positions" not in name:
                parameter.normal_(std=0.2)
    model.save_pretrained(directory)
    return model.eval()
