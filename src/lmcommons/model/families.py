"""From a configuration to the model that it describes."""

from lmcommons.model.config import ModelConfig
from lmcommons.model.transformer import Decoder, Encoder, EncoderDecoder
from lmcommons.model.xlnet import XLNet

Model = Decoder | Encoder | EncoderDecoder | XLNet

KINDS: dict[str, type[Model]] = {
    "decoder": Decoder,
    "encoder": Encoder,
    "encoder-decoder": EncoderDecoder,
    "permutation": XLNet,
}


def build(config: ModelConfig) -> Model:
    """A model with initial weights, drawn from torch's global generator."""
    return KINDS[config.kind](config)
