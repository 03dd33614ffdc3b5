"""Generation on real models: equal to `transformers`, equal alone and in a batch, and ended where it was asked to."""

import platform
from collections import deque
from pathlib import Path

import pytest
import torch
from tiny_model import write_tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from lmcommons import model as models
from lmcommons import tokenizer as tokenizers
from lmcommons.errors import CommandError, RequestError
from lmcommons.generation import Batch, SamplingParameters, Sequence, generate, packing, stream
from lmcommons.generation.packing import PackedModel

SHAPES = {
    "grouped": {},
    "tied": {"tie_word_embeddings": True, "num_key_value_heads": 4},
    "one-key-head": {"num_key_value_heads": 1, "rope_theta": 500.0},
}


@pytest.fixture(scope="module", params=SHAPES)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp(request.param), **SHAPES[request.param])


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[models.Decoder, tokenizers.Tokenizer]:
    directory = write_tiny_model(tmp_path_factory.mktemp("model"))
    return models.load(directory), tokenizers.load(directory)


def prompts_of(tokenizer: tokenizers.Tokenizer) -> list[list[int]]:
    texts = [
        "The class statement",
        "x",
        "A mapping object maps hashable values to arbitrary objects. Mappings",
        "def f(",
    ]
    return [[tokenizer.bos_token_id, *tokenizer.encode(text)] for text in texts]


def test_greedy_tokens_are_those_of_transformers(directory: Path) -> None:
    decoder, tokenizer = models.load(directory), tokenizers.load(directory)
    reference = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    prompts = prompts_of(tokenizer)
    for prompt, completion in zip(
        prompts, generate(decoder, tokenizer, prompts, SamplingParameters(max_tokens=40)), strict=True
    ):
        expected = reference.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=40)[0, len(prompt) :]
        ended = expected[-1] == tokenizer.eos_token_id
        assert [token.id for token in completion.tokens] == expected.tolist()[: -1 if ended else None]
        assert completion.finish_reason == ("stop" if ended else "length")


def test_a_prompt_is_tokenised_as_transformers_does(directory: Path) -> None:
    text = "The class <|endoftext|> 漢字 😀"
    tokenizer = tokenizers.load(directory)
    reference = AutoTokenizer.from_pretrained(directory)
    plain = reference(text, split_special_tokens=True)["input_ids"]
    assert [tokenizer.bos_token_id, *tokenizer.encode(text)] == plain


def test_packed_weights_give_the_logits_of_the_model(directory: Path) -> None:
    decoder = models.load(directory)
    packed = PackedModel(decoder)
    tokens = torch.randint(0, 400, (3, 20), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours = packed.logits(packed.model.hidden(tokens, cache=packed.new_cache(3, 20)))
        assert torch.allclose(ours, decoder(tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="matrices are packed on x86 only")
@pytest.mark.parametrize("missing", ["operators", "processor"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_plain_products_take_the_place_of_packed_ones_where_torch_has_none(
    directory: Path, dtype: torch.dtype, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = models.load(directory, dtype=dtype)
    tokens = torch.randint(0, 400, (3, 20), generator=torch.Generator().manual_seed(0))

    def logits() -> torch.Tensor:
        packing.can_pack.cache_clear()
        packed = PackedModel(decoder)
        with torch.inference_mode():
            return packed.logits(packed.model.hidden(tokens, cache=packed.new_cache(3, 20)))

    expected = logits()
    assert packing.can_pack(torch.float32)
    if missing == "operators":
        monkeypatch.setattr(torch.ops, "mkldnn", object())
    else:
        monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    found = logits()
    assert not packing.can_pack(dtype)
    packing.can_pack.cache_clear()
    # bfloat16 keeps 8 bits: another order of summation may round a product's last one the other way.
    torch.testing.assert_close(found, expected, **({} if dtype == torch.float32 else {"atol": 0.1, "rtol": 0.02}))


def test_a_batch_gives_what_each_prompt_gives_alone(opened) -> None:
    decoder, tokenizer = opened
    prompts = prompts_of(tokenizer) * 6  # 24: more than there are rows, so sequences leave and join
    parameters = SamplingParameters(max_tokens=30, temperature=0.9, top_p=0.95, top_k=50, seed=11, logprobs=2)
    together = generate(decoder, tokenizer, prompts, parameters)
    for prompt, completion in zip(prompts, together, strict=True):
        (alone,) = generate(decoder, tokenizer, [prompt], parameters)
        assert completion.text == alone.text
        assert [token.id for token in completion.tokens] == [token.id for token in alone.tokens]
        for ours, theirs in zip(completion.tokens, alone.tokens, strict=True):
            assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)


def test_sequences_join_and_leave_a_running_batch_without_a_trace(opened) -> None:
    decoder, tokenizer = opened
    prompts = prompts_of(tokenizer)
    parameters = SamplingParameters(max_tokens=25)
    expected = [completion.text for completion in generate(decoder, tokenizer, prompts, parameters)]
    batch = Batch(decoder, tokenizer, max_rows=3)
    sequences = [Sequence(prompt, parameters) for prompt in prompts]
    texts = dict.fromkeys(sequences, "")
    waiting: deque[Sequence] = deque()
    intruder = Sequence(prompts[2], SamplingParameters(max_tokens=90))
    for turn in range(80):
        if turn in (0, 3, 7, 20):
            waiting.append(sequences[(0, 3, 7, 20).index(turn)])
        if turn == 5:
            waiting.append(intruder)
        if turn == 15:
            batch.remove([intruder])
        deltas = batch.admit(waiting)
        deltas += batch.step() if batch.sequences else []
        for sequence, delta in deltas:
            if sequence is not intruder:
                texts[sequence] += delta.text
    assert list(texts.values()) == expected
    assert not batch.sequences


def test_a_seed_decides_the_text_and_another_seed_another(opened) -> None:
    decoder, tokenizer = opened
    prompt = prompts_of(tokenizer)[0]

    def text(seed: int | None) -> str:
        parameters = SamplingParameters(max_tokens=40, temperature=1.0, seed=seed)
        return generate(decoder, tokenizer, [prompt], parameters)[0].text

    assert text(5) == text(5)
    assert text(5) != text(6)
    assert text(None) != text(None)


@pytest.mark.parametrize("parameters", [{"top_k": 1}, {"top_p": 0.0}, {"temperature": 1e-30}])
def test_the_narrowest_sampling_is_greedy(opened, parameters: dict) -> None:
    decoder, tokenizer = opened
    prompts = prompts_of(tokenizer)
    sampled = SamplingParameters(**{"max_tokens": 30, "temperature": 1.0, "seed": 3} | parameters)
    greedy = SamplingParameters(max_tokens=30)
    assert generate(decoder, tokenizer, prompts, sampled) == generate(decoder, tokenizer, prompts, greedy)


@pytest.mark.parametrize("described_tokens", [2, 512])
def test_log_probabilities_are_those_of_the_model(
    opened, described_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmcommons.generation.batch.DESCRIBED_TOKENS", described_tokens)
    decoder, tokenizer = opened
    prompt = prompts_of(tokenizer)[0]
    parameters = SamplingParameters(max_tokens=10, temperature=0.7, top_k=5, seed=1, logprobs=3, echo_logprobs=True)
    (completion,) = generate(decoder, tokenizer, [prompt], parameters)
    tokens = [*prompt, *(token.id for token in completion.tokens)]
    with torch.inference_mode():
        expected = decoder(torch.tensor([tokens]))[0].log_softmax(-1)
    described = [*completion.prompt_tokens, *completion.tokens]
    assert described[0].logprob is None
    for place, token in enumerate(described[1:]):
        assert token.logprob == pytest.approx(expected[place, token.id].item(), abs=1e-4)
        best = expected[place].topk(3)
        assert [other for other, _ in token.alternatives] == best.indices.tolist()
        assert [logprob for _, logprob in token.alternatives] == pytest.approx(best.values.tolist(), abs=1e-4)


def test_a_stop_text_that_spans_tokens_ends_the_text_before_it(opened) -> None:
    decoder, tokenizer = opened
    prompt = prompts_of(tokenizer)[0]
    (whole,) = generate(decoder, tokenizer, [prompt], SamplingParameters(max_tokens=40))
    first, second = whole.tokens[12].offset, whole.tokens[14].offset
    stop = whole.text[first - 1 : second]
    (stopped,) = generate(decoder, tokenizer, [prompt], SamplingParameters(max_tokens=40, stop=(stop,)))
    assert stopped.finish_reason == "stop"
    assert stopped.text == whole.text[: whole.text.index(stop)]
    assert "".join(tokenizer.decode([token.id]) for token in stopped.tokens).startswith(stopped.text)
    assert len(stopped.token_ids) < 40


def test_generation_ends_at_the_end_of_the_context(opened) -> None:
    decoder, tokenizer = opened
    prompt = prompts_of(tokenizer)[0]
    (completion,) = generate(decoder, tokenizer, [prompt], SamplingParameters(max_tokens=10_000))
    assert completion.finish_reason == "length"
    assert len(prompt) + len(completion.token_ids) == decoder.config.max_position_embeddings


def test_a_stream_is_the_completion_in_pieces(opened) -> None:
    decoder, tokenizer = opened
    prompt, parameters = prompts_of(tokenizer)[1], SamplingParameters(max_tokens=30)
    (whole,) = generate(decoder, tokenizer, [prompt], parameters)
    deltas = list(stream(decoder, tokenizer, Sequence(prompt, parameters)))
    assert "".join(delta.text for delta in deltas) == whole.text
    assert [token for delta in deltas for token in delta.tokens] == whole.tokens
    assert [delta.finish_reason for delta in deltas] == [None] * (len(deltas) - 1) + ["length"]


def test_no_tokens_are_generated_when_none_are_asked_for(opened) -> None:
    decoder, tokenizer = opened
    (completion,) = generate(decoder, tokenizer, [prompts_of(tokenizer)[0]], SamplingParameters(max_tokens=0))
    assert (completion.text, len(completion.token_ids), completion.finish_reason) == ("", 0, "length")


@pytest.mark.parametrize(
    ("prompt", "message"),
    [([], "no tokens"), ([1] * 128, "128 tokens and the model's context is 128"), ([1, 9999], "token 9999")],
)
def test_a_prompt_that_cannot_be_continued_is_refused(opened, prompt: list[int], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        generate(*opened, [prompt], SamplingParameters(max_tokens=5))


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_p": 1.1}, {"top_k": -1}, {"stop": ("",)}]
)
def test_a_parameter_out_of_range_is_named(wrong: dict) -> None:
    with pytest.raises(RequestError, match=next(iter(wrong))):
        SamplingParameters(**wrong)


def test_damaged_weights_are_said_to_be_damaged(opened, tmp_path: Path) -> None:
    decoder, tokenizer = models.load(write_tiny_model(tmp_path)), opened[1]
    decoder.decoder.layers[0].feed_forward.down.weight.data[0, 0] = torch.nan
    with pytest.raises(CommandError, match="damaged"):
        generate(decoder, tokenizer, [[0, 5]], SamplingParameters(max_tokens=5))


def test_a_cache_that_does_not_fit_into_memory_is_one_line(opened) -> None:
    with pytest.raises(CommandError, match="10000000 rows of 1000000 tokens do not fit into memory"):
        PackedModel(opened[0]).new_cache(10**7, 10**6)


def test_bfloat16_weights_are_close_to_float32(tmp_path: Path) -> None:
    write_tiny_model(tmp_path)
    exact, rounded = models.load(tmp_path), models.load(tmp_path, dtype=torch.bfloat16)
    tokens = torch.randint(0, 400, (2, 20), generator=torch.Generator().manual_seed(0))
    packed = PackedModel(rounded)
    with torch.inference_mode():
        logits = packed.logits(packed.model.hidden(tokens, cache=packed.new_cache(2, 20)))
        reference = exact(tokens)
    assert logits.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(logits.flatten(), reference.flatten(), dim=0) > 0.999
