"""The models: small modules that later families share, and the decoder that is composed of them.

`decoder` is the place to begin: it reads top to bottom. `attention`, `positions`, `feed_forward`, `norms` and `linear`
are its parts, `config` says what a model is apart from its weights, `cache` holds keys and values between calls,
`directory` reads and writes a model's files, and `interop` knows the names and shapes that `transformers` uses. Imports
nothing of training, generation or serving; needs torch.
"""

from lmcommons.model.cache import KeyValueCache
from lmcommons.model.config import DecoderConfig
from lmcommons.model.decoder import Decoder
from lmcommons.model.directory import convert, load, save

__all__ = ["Decoder", "DecoderConfig", "KeyValueCache", "convert", "load", "save"]
