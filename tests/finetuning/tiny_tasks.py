"""Tiny models of several families with tokenizers, and small files of rows, for the tests of fine-tuning."""

import json
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
import yaml
from tiny_model import TEXTS
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    XLNetConfig,
    XLNetLMHeadModel,
)

from lmcommons import recipe, tokenizer
from lmcommons.recipe import TaskRecipe, TokenizerRecipe

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
BYTES = 300  # tokens of the byte-level tokenizer
CHAT = TokenizerRecipe(vocab_size=BYTES, chat_template=True)


def foreign_decoder() -> PreTrainedModel:
    """A decoder that is not one of our families."""
    return OPTForCausalLM(
        OPTConfig(
            vocab_size=BYTES, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, ffn_dim=64,
            word_embed_proj_dim=32, max_position_embeddings=128, bos_token_id=0, eos_token_id=0, pad_token_id=0,
        )
    )  # fmt: skip


FAMILIES = {
    "bert": lambda size: BertForMaskedLM(BertConfig(vocab_size=size, max_position_embeddings=128, **SMALL)),
    "distilbert": lambda size: DistilBertForMaskedLM(
        DistilBertConfig(vocab_size=size, max_position_embeddings=128, dim=32, n_layers=2, n_heads=2, hidden_dim=64,
                         dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0)
    ),
    "xlnet": lambda size: XLNetLMHeadModel(
        XLNetConfig(vocab_size=size, d_model=32, n_layer=2, n_head=2, d_inner=64, dropout=0.0)
    ),
    "llama": lambda size: LlamaForCausalLM(
        LlamaConfig(vocab_size=size, num_key_value_heads=1, max_position_embeddings=128, tie_word_embeddings=True,
                    bos_token_id=0, eos_token_id=0, **SMALL)
    ),
    "gpt2": lambda size: GPT2LMHeadModel(
        GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=2, n_positions=128, bos_token_id=0, eos_token_id=0,
                   resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    ),
    "opt": lambda size: foreign_decoder(),
    "t5": lambda size: T5ForConditionalGeneration(
        T5Config(vocab_size=size, d_model=32, d_ff=64, num_layers=2, num_heads=2, d_kv=16, decoder_start_token_id=0,
                 pad_token_id=0, eos_token_id=1, dropout_rate=0.0)
    ),
}  # fmt: skip


def write_model(directory: Path, family: str) -> Path:
    """A random model of a fixed seed with its tokenizer, as a `transformers` directory."""
    words = write_tokenizer(directory, family)
    torch.manual_seed(5)
    FAMILIES[family](len(words)).save_pretrained(directory)
    return directory


def write_tokenizer(directory: Path, family: str) -> PreTrainedTokenizerFast:
    """Word pieces with [CLS] and [SEP], words that end with </s>, or our bytes with a chat template."""
    if family in ("bert", "distilbert", "xlnet"):
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        splitter = pre_tokenizers.BertPreTokenizer()
        words = Counter(word for text in TEXTS for word, _ in splitter.pre_tokenize_str(text))
        characters = sorted({character for word in words for character in word})
        # The library's trainer chooses differently from run to run where counts are equal.
        frequent = sorted(words, key=lambda word: (-words[word], word))[:400]
        pieces = dict.fromkeys([*special, *characters, *(f"##{character}" for character in characters), *frequent])
        engine = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
        engine.pre_tokenizer = splitter
        found = BertTokenizerFast(tokenizer_object=engine)
        found.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
    elif family == "t5":
        engine = Tokenizer(models.WordLevel(unk_token="<unk>"))
        engine.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        special = ["<pad>", "</s>", "<unk>"]
        engine.train_from_iterator([COLOURS_TEXT], trainers.WordLevelTrainer(special_tokens=special))
        engine.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
        found = PreTrainedTokenizerFast(tokenizer_object=engine, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    else:
        tokenizer.train(TEXTS, CHAT, directory)
        return PreTrainedTokenizerFast.from_pretrained(directory)
    found.save_pretrained(directory)
    return found


COLOURS = {"red": "rot", "green": "grün", "blue": "blau", "white": "weiß", "black": "schwarz", "grey": "grau"}
COLOURS_TEXT = " ".join([*COLOURS, *COLOURS.values(), "."])


def reviews(count: int, seed: int) -> list[dict]:
    """Texts whose class is that of their first word."""
    chosen = random.Random(seed)
    rows = []
    for number in range(count):
        good = bool(number % 2)
        words = [chosen.choice(["value", "name", "object", "list"]) for _ in range(chosen.randint(1, 12))]
        rows.append({"text": " ".join(["class" if good else "import", *words, str(seed), str(number)]),
                     "label": "good" if good else "bad"})  # fmt: skip
    return rows


def colours(count: int, seed: int) -> list[dict]:
    """Translations word by word."""
    chosen = random.Random(seed)
    found = [[chosen.choice(list(COLOURS)) for _ in range(chosen.randint(1, 4))] for _ in range(count)]
    return [{"source": " ".join(words), "target": " ".join(COLOURS[word] for word in words)} for words in found]


def tagged(count: int, seed: int) -> list[dict]:
    """Words, of which names of colours are entities."""
    chosen = random.Random(seed)
    rows = []
    for _ in range(count):
        tokens = [chosen.choice(["class", "import", "value", "name"]) for _ in range(chosen.randint(2, 8))]
        labels = ["B-KEY" if token in ("class", "import") else "O" for token in tokens]
        rows.append({"tokens": tokens, "labels": labels})
    return rows


def questions(count: int, seed: int, *, unanswered: bool = False) -> list[dict]:
    """The answer is the word after the one that is asked for; without it where that does not occur."""
    chosen = random.Random(seed)
    rows = []
    for number in range(count):
        words = [chosen.choice(["value", "name", "object", "list"]) for _ in range(chosen.randint(4, 10))]
        place = chosen.randrange(len(words) - 1)
        words[place] = "class"
        context = " ".join(words)
        row = {"question": "class", "context": context, "answers": [words[place + 1]],
               "answer_start": [context.index("class") + len("class ")]}  # fmt: skip
        if unanswered and number % 3 == 0:
            row |= {"question": "import", "answers": [], "answer_start": []}
        rows.append(row)
    return rows


def chats(count: int, seed: int) -> list[dict]:
    """Two turns; the answer repeats the question."""
    chosen = random.Random(seed)
    rows = []
    for _ in range(count):
        word = chosen.choice(["class", "name", "value"])
        turn = [{"role": "user", "content": word}, {"role": "assistant", "content": word}]
        rows.append({"messages": turn * 2})
    return rows


def write_rows(directory: Path, split: str, rows: Iterable[dict]) -> Path:
    """A JSONL file of a split."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{split}.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_splits(directory: Path, rows: list[dict]) -> Path:
    """Rows in the three splits: half, a quarter, a quarter."""
    quarter = len(rows) // 4
    for split, part in (
        ("train", rows[: 2 * quarter]),
        ("validation", rows[2 * quarter : 3 * quarter]),
        ("test", rows[3 * quarter :]),
    ):
        write_rows(directory, split, part)
    return directory


def write_recipe(home: Path, task: str, **fields: object) -> Path:
    """A recipe for the model in `home/model` and the rows in `home/data`."""
    section = {
        "model": "model", "task": task, "data": {"path": "data"}, "precision": "float32", "compile": "off",
        "epochs": 2, "batch_size": 8, "max_length": 64, "bootstrap_samples": 50,
        "optimizer": {"learning_rate": 3e-3},
    }  # fmt: skip
    path = home / "recipe.yaml"
    path.write_text(yaml.safe_dump({"name": "tiny", "finetuning": section | fields}))
    return path


def read_recipe(home: Path, task: str, **fields: object) -> TaskRecipe:
    """The recipe that `write_recipe` writes."""
    return recipe.load_task(write_recipe(home, task, **fields))
