"""A decoder made ready to read only: on a CPU its matrices are laid out once in the order that the kernels read them.

Torch's own product of a few rows with a matrix reads the matrix at a small part of the memory's speed; oneDNN reads
its own blocked layout several times faster. The result differs from the plain product by the order of summation only.
"""

import copy

import torch
from torch import Tensor, nn

from lmcommons.errors import CommandError
from lmcommons.model import Decoder, KeyValueCache
from lmcommons.model.linear import Linear

LAYOUT_ROWS = 16  # the layout works for any number of rows; this is what it is chosen for


class PackedLinear(nn.Module):
    """`x @ weight.T` with the weight in oneDNN's layout and in its own precision; `x` keeps its precision."""

    def __init__(self, weight: Tensor, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes
        self.dtype = weight.dtype
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), LAYOUT_ROWS)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] -> [..., sum(sizes)]."""
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x.to(self.dtype), self._packed, None, "none", [], "")
        return product.to(x.dtype)


class PackedDecoder:
    """What generation needs of a decoder. The model that it is made from stays as it is, and shares its other weights.

    On a CPU only the matrix products have the precision of the weights: hidden states, attention and the cache are
    float32, which is faster there than bfloat16 and more exact.
    """

    def __init__(self, model: Decoder) -> None:
        self.config = model.config
        self.device = model.embedding.device
        self._model = copy.deepcopy(model, {id(weight): weight for weight in model.parameters()}).eval()
        self._head: PackedLinear | None = None
        if self.device.type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            for parent in list(self._model.modules()):
                for name, child in parent.named_children():
                    if isinstance(child, Linear):
                        setattr(parent, name, PackedLinear(child.weight.to(model.compute_dtype), child.sizes))
            matrix = model.embedding if model.head is None else model.head.weight
            self._head = PackedLinear(matrix.to(model.compute_dtype), (model.config.vocab_size,))
            self._model.compute_dtype = torch.float32

    def new_cache(self, rows: int, max_length: int) -> KeyValueCache:
        """An empty cache in the precision of the hidden states.

        Raises:
            CommandError: it does not fit into memory.
        """
        try:
            return KeyValueCache(self.config, rows, max_length, self._model.compute_dtype, self.device)
        except RuntimeError as error:  # what torch raises when it cannot allocate
            raise CommandError(
                f"keys and values of {rows} rows of {max_length} tokens do not fit into memory; lower one of them"
            ) from error

    def hidden(self, tokens: Tensor, cache: KeyValueCache) -> Tensor:
        """[rows, sequence] int64 -> [rows, sequence, hidden], as `Decoder.hidden`."""
        return self._model.hidden(tokens, cache=cache)

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., hidden] -> [..., vocab] float32."""
        return self._model.logits(hidden) if self._head is None else self._head(hidden)
