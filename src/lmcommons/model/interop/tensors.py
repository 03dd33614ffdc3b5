"""Tensors of `transformers` and ours: one list says which belong together, and reads in both directions."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lmcommons.errors import RequestError
from lmcommons.model.config import ModelConfig
from lmcommons.model.families import Model, build
from lmcommons.model.linear import Linear

PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Layout:
    """How one tensor of ours is written as theirs, and back; both are views of the same values in another order."""

    write: Callable[[Tensor], Tensor]
    read: Callable[[Tensor], Tensor]


SAME = Layout(lambda x: x, lambda x: x)
TRANSPOSED = Layout(lambda x: x.T, lambda x: x.T)


@dataclass(frozen=True)
class Pair:
    """A weight of ours and the tensors of theirs that it is joined from by rows: one, or one for each of its sizes."""

    ours: str
    theirs: tuple[str, ...]
    layout: Layout = SAME


@dataclass(frozen=True)
class Correspondence:
    """All tensors of an architecture.

    Attributes:
        pairs: every weight of our model once.
        copies: tensors of theirs that some files hold again: name to the name of the tensor that it must equal.
        unused: a pattern for tensors that are constants, or that the architecture does not read.
        endings: what names end with in older files, and what they end with today.
    """

    pairs: tuple[Pair, ...]
    copies: Mapping[str, str]
    unused: str = r"$^"
    endings: tuple[tuple[str, str], ...] = ()


def to_transformers(model: nn.Module, state: Mapping[str, Tensor], names: Correspondence) -> dict[str, Tensor]:
    """Our weights under their names; joined ones are views of their rows."""
    found: dict[str, Tensor] = {}
    for pair in names.pairs:
        parts = [state[pair.ours]] if len(pair.theirs) == 1 else torch.split(state[pair.ours], _sizes(model, pair))
        found |= {theirs: pair.layout.write(part) for theirs, part in zip(pair.theirs, parts, strict=True)}
    return found


def assemble(
    config: ModelConfig, stored: Mapping[str, Tensor], correspondence: Callable[[ModelConfig], Correspondence]
) -> Model:
    """The model of `config` with the weights `stored`.

    Raises:
        RequestError: they are not the weights of such a model; one line that names the first that is wrong.
    """
    layers = config.num_hidden_layers + config.num_encoder_layers
    if layers > len(stored):  # before as many names are made
        raise RequestError(f"the configuration makes {layers} layers, and there are only {len(stored)} tensors")
    with torch.device("meta"):
        model = build(config)
    model.load_state_dict(from_transformers(model, stored, correspondence(config)), assign=True)
    return model


def from_transformers(model: nn.Module, stored: Mapping[str, Tensor], names: Correspondence) -> dict[str, Tensor]:
    """Their tensors under our names; `model` may be on the meta device.

    Raises:
        RequestError: a tensor is missing, has another shape or precision, or has no place in the model; one line
            that names it.
    """
    meta = {name: torch.empty_like(parameter, device="meta") for name, parameter in model.named_parameters()}
    expected = {name: tensor.shape for name, tensor in to_transformers(model, meta, names).items()}
    unused = re.compile(names.unused)
    found = {name: tensor for name, tensor in stored.items() if not unused.search(name)}
    for old, new in names.endings:
        found = {name.removesuffix(old) + new if name.endswith(old) else name: found[name] for name in found}
    for copy, original in names.copies.items():
        if copy in found and original in found:
            if not torch.equal(found[copy], found[original]):
                raise RequestError(f"{copy} differs from {original}, but the configuration says that they are one")
            del found[copy]
        elif copy in found:
            found[original] = found.pop(copy)
    missing, extra = [name for name in expected if name not in found], [name for name in found if name not in expected]
    for problem, which in (("is missing", missing), ("has no place in this model", extra)):
        if which:
            more = f" (and {len(which) - 1} more)" if len(which) > 1 else ""
            raise RequestError(f"tensor {which[0]} {problem}{more}; the configuration describes another model")
    for name, shape in expected.items():
        if found[name].shape != shape:
            raise RequestError(
                f"tensor {name} has shape {list(found[name].shape)}; the configuration makes it {list(shape)}"
            )
        if found[name].dtype not in PRECISIONS:
            raise RequestError(
                f"tensor {name} is {found[name].dtype}; what can be read is float32, bfloat16 or float16"
            )
    return {
        pair.ours: torch.cat([pair.layout.read(found[name]) for name in pair.theirs]).contiguous()
        for pair in names.pairs
    }


def layers(
    prefix: str, count: int, theirs: str, names: Mapping[str, tuple[str, ...]], layout: Layout = SAME
) -> Iterator[Pair]:
    """The pairs of every layer: `prefix.N.ours` is joined from `theirs.N.name`."""
    for layer in range(count):
        for ours, parts in names.items():
            yield Pair(f"{prefix}.{layer}.{ours}", tuple(f"{theirs}.{layer}.{name}" for name in parts), layout)


def linear(ours: str, theirs: str) -> list[Pair]:
    """The weight and the bias of a matrix product or of a norm."""
    return [Pair(f"{ours}.{part}", (f"{theirs}.{part}",)) for part in ("weight", "bias")]


def _sizes(model: nn.Module, pair: Pair) -> list[int]:
    module = model.get_submodule(pair.ours.rpartition(".")[0])
    assert isinstance(module, Linear)
    return list(module.sizes)
