"""Text to token ids and back: byte-level BPE, trained here or read from a `transformers` directory.

`train` learns a vocabulary and writes `tokenizer.json` and `tokenizer_config.json`; `load` reads them as a `Tokenizer`.
Imports nothing of the house but the recipe, beside the errors, files and progress that all share. Start reading at
`bpe.py`.
"""

from lmcommons.tokenizer.bpe import Kind, train
from lmcommons.tokenizer.tokenizer import Tokenizer, load

__all__ = ["Kind", "Tokenizer", "load", "train"]
