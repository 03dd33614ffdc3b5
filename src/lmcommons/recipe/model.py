"""What a model is made of. A family is a set of values for these fields, not a class of its own."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from lmcommons.recipe.section import Fraction, Positive, Section

Family = Literal["llama", "gpt2", "bert", "t5", "marian", "xlnet"]

# What sets a family apart from the defaults of `ModelRecipe`, which are Llama's (Touvron et al. 2023).
FAMILIES: dict[Family, dict[str, Any]] = {
    "llama": {},
    # Radford et al. 2019
    "gpt2": {
        "positions": "learned",
        "norm": "layer",
        "hidden_act": "gelu_new",
        "gated": False,
        "attention_bias": "all",
        "mlp_bias": True,
    },
    # Devlin et al. 2019
    "bert": {
        "kind": "encoder",
        "positions": "learned",
        "type_vocab_size": 2,
        "norm": "layer",
        "norm_placement": "post",
        "norm_eps": 1e-12,
        "embedding_norm": True,
        "hidden_act": "gelu",
        "gated": False,
        "attention_bias": "all",
        "mlp_bias": True,
        "head_transform": True,
        "logits_bias": True,
    },
    # Raffel et al. 2020
    "t5": {
        "kind": "encoder-decoder",
        "positions": "relative_bias",
        "norm_eps": 1e-6,
        "hidden_act": "relu",
        "gated": False,
        "scale_scores": False,
        "scale_logits": True,
    },
    # Vaswani et al. 2017, as Marian (Junczys-Dowmunt et al. 2018) has it
    "marian": {
        "kind": "encoder-decoder",
        "positions": "sinusoidal",
        "scale_embedding": True,
        "norm": "layer",
        "norm_placement": "post",
        "hidden_act": "relu",
        "gated": False,
        "attention_bias": "all",
        "mlp_bias": True,
        "logits_bias": True,
    },
    # Yang et al. 2019
    "xlnet": {
        "kind": "permutation",
        "positions": "transformer_xl",
        "max_position_embeddings": 0,
        "norm": "layer",
        "norm_placement": "post",
        "norm_eps": 1e-12,
        "hidden_act": "gelu",
        "gated": False,
        "mlp_bias": True,
        "logits_bias": True,
    },
}


class ModelRecipe(Section):
    """The model; its vocabulary comes from the tokenizer. Names are those of `transformers` where it has one.

    `family` fills in what sets it apart; a field that is given as well has the last word.
    """

    family: Family = "llama"
    kind: Literal["decoder", "encoder", "encoder-decoder", "permutation"] = "decoder"
    hidden_size: Positive = 256
    intermediate_size: Positive = Field(704, description="width of the feed-forward; without a gate: 4 hidden_size")
    num_hidden_layers: Positive = Field(6, description="of an encoder-decoder: of its decoder")
    num_encoder_layers: Annotated[int, Field(ge=0)] = Field(0, description="encoder-decoder: as many as its decoder")
    num_attention_heads: Positive = 4
    num_key_value_heads: Positive = Field(
        2, description="below num_attention_heads: grouped-query attention; outside llama: num_attention_heads"
    )
    head_dim: Positive = Field(64, description="hidden_size / num_attention_heads if not given")
    max_position_embeddings: Annotated[int, Field(ge=0, description="tokens; 0: any number, of xlnet")] = 1024
    positions: Literal["rotary", "learned", "sinusoidal", "relative_bias", "alibi", "transformer_xl", "none"] = "rotary"
    rope_theta: Annotated[float, Field(gt=0)] = 10_000.0
    relative_attention_num_buckets: Positive = Field(32, description="relative_bias: distances that share a bias")
    relative_attention_max_distance: Positive = Field(128, description="relative_bias: beyond it all are one bucket")
    norm: Literal["rms", "layer"] = "rms"
    norm_placement: Literal["pre", "post"] = Field("pre", description="before a sublayer, or after it is added")
    norm_eps: Annotated[float, Field(gt=0)] = 1e-5
    hidden_act: Literal["silu", "gelu", "gelu_new", "relu"] = "silu"
    gated: bool = Field(True, description="feed-forward multiplies the activation with a second projection")
    attention_bias: Literal["none", "qkv", "all"] = "none"
    mlp_bias: bool = False
    scale_scores: bool = Field(True, description="divide attention scores by sqrt(head_dim)")
    scale_embedding: bool = Field(False, description="multiply token embeddings by sqrt(hidden_size)")
    embedding_norm: bool = Field(False, description="normalise the sum of embeddings")
    type_vocab_size: Annotated[int, Field(ge=0)] = Field(0, description="kinds of segments with an embedding")
    tie_word_embeddings: bool = True
    scale_logits: bool = Field(False, description="divide what tied logits are read from by sqrt(hidden_size)")
    logits_bias: bool = False
    head_transform: bool = Field(False, description="dense layer, activation and norm before the logits")
    dropout: Fraction = Field(0.0, description="of embeddings and of what each sublayer adds, while training")
    initializer_range: Annotated[float, Field(gt=0)] = Field(0.02, description="standard deviation of initial weights")

    @model_validator(mode="before")
    @classmethod
    def _of_a_family(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("family", "llama") not in FAMILIES:
            return given
        family = FAMILIES[given.get("family", "llama")]
        found = {**family, **given}
        hidden, heads = found.get("hidden_size", 256), found.get("num_attention_heads", 4)
        if not (isinstance(hidden, int) and isinstance(heads, int) and hidden > 0 and heads > 0):
            return found
        if "head_dim" not in found:
            if hidden % heads:
                raise ValueError(f"hidden_size {hidden} is not divisible by num_attention_heads {heads}")
            found["head_dim"] = hidden // heads
        if family:
            found.setdefault("num_key_value_heads", heads)
        if not found.get("gated", True):
            found.setdefault("intermediate_size", 4 * hidden)
        if found.get("kind") == "encoder-decoder":
            found.setdefault("num_encoder_layers", found.get("num_hidden_layers", 6))
        return found

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not divisible by "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        if self.positions == "rotary" and self.head_dim % 2:
            raise ValueError(f"head_dim is {self.head_dim}: rotary positions need an even head size")
        if self.positions in ("sinusoidal", "transformer_xl") and self.hidden_size % 2:
            raise ValueError(f"hidden_size is {self.hidden_size}: {self.positions} positions need an even one")
        if (self.kind == "permutation") != (self.positions == "transformer_xl"):
            raise ValueError(f"kind {self.kind} cannot have {self.positions} positions")
        if self.kind == "permutation" and self.max_position_embeddings:
            raise ValueError("kind permutation reads any number of tokens: leave max_position_embeddings out")
        if self.kind != "permutation" and not self.max_position_embeddings:
            raise ValueError(f"max_position_embeddings must be at least 1 for kind {self.kind}, not 0")
        if self.kind == "permutation" and self.num_key_value_heads != self.num_attention_heads:
            raise ValueError("kind permutation has no grouped-query attention: leave num_key_value_heads out")
        if (self.kind == "encoder-decoder") != (self.num_encoder_layers > 0):
            raise ValueError(f"num_encoder_layers is {self.num_encoder_layers} and kind is {self.kind}")
        return self

    def parameters(self, vocab_size: int) -> int:
        """How many weights the model has with a vocabulary of `vocab_size` tokens, heads of tasks not counted."""
        hidden, inner = self.hidden_size, self.intermediate_size
        query, key_value = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        norm = hidden * (2 if self.norm == "layer" else 1)
        attention = 2 * hidden * (query + key_value)
        attention += query + 2 * key_value if self.attention_bias != "none" else 0
        attention += hidden if self.attention_bias == "all" else 0
        attention += (hidden + 5) * query if self.kind == "permutation" else 0  # distances, biases and segments
        branches = 2 if self.gated else 1
        feed_forward = (branches + 1) * hidden * inner + (branches * inner + hidden if self.mlp_bias else 0)
        stack = norm if self.norm_placement == "pre" else 0
        stack += (
            self.relative_attention_num_buckets * self.num_attention_heads if self.positions == "relative_bias" else 0
        )
        layer = attention + feed_forward + 2 * norm
        layers = self.num_hidden_layers * layer + stack
        if self.kind == "encoder-decoder":
            layers += self.num_encoder_layers * layer + stack + self.num_hidden_layers * (attention + norm)
        tables = vocab_size * (1 if self.tie_word_embeddings else 2) + self.type_vocab_size
        tables += self.max_position_embeddings if self.positions == "learned" else 0
        tables += 1 if self.kind == "permutation" else 0  # what the query stream begins with
        head = (vocab_size if self.logits_bias else 0) + (hidden * (hidden + 1) + norm if self.head_transform else 0)
        return layers + tables * hidden + head + (norm if self.embedding_norm else 0)
