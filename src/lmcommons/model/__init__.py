"""The models: small modules that all families share, and the four ways in which they are composed.

`transformer` (decoder, encoder, encoder-decoder) and `xlnet` are the places to begin; a family (GPT-2, Llama, BERT, T5,
Marian, XLNet) is a `ModelConfig`, not a class. `stack` puts layers one after the other; `attention`, `positions`,
`feed_forward`, `norms`, `heads` and `linear` are the parts; `cache` holds keys and values between calls; `interop`
reads and writes `transformers` directories. Imports nothing of training, generation or serving; needs torch.
"""

from lmcommons.model.attention import Memory
from lmcommons.model.cache import KeyValueCache
from lmcommons.model.config import ModelConfig
from lmcommons.model.families import Model, build
from lmcommons.model.interop.directory import convert, load, save
from lmcommons.model.stack import IGNORED, LanguageModel
from lmcommons.model.transformer import Decoder, Encoder, EncoderDecoder
from lmcommons.model.xlnet import XLNet

__all__ = [
    "IGNORED",
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "KeyValueCache",
    "LanguageModel",
    "Memory",
    "Model",
    "ModelConfig",
    "XLNet",
    "build",
    "convert",
    "load",
    "save",
]
