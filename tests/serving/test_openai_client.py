"""A real `lmc serve` answers OpenAI's own client."""

import math
from contextlib import ExitStack

import openai
import pytest
from server_process import CONTEXT, ServerProcess

from lmcommons.generation import SamplingParameters, generate

MESSAGES = [{"role": "user", "content": "What is a class?"}]


def complete(client: openai.OpenAI, prompt: object = "The class statement", **fields: object):
    return client.completions.create(**{"model": "chat", "prompt": prompt, "max_tokens": 24, "temperature": 0} | fields)


def chat(client: openai.OpenAI, **fields: object):
    asked = {"model": "chat", "messages": MESSAGES, "max_tokens": 24, "temperature": 0}
    return client.chat.completions.create(**asked | fields)


def test_the_model_is_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["chat"]
    assert client.models.retrieve("chat").max_model_len == CONTEXT


def test_a_completion_is_what_generate_gives(client: openai.OpenAI, chat_model) -> None:
    decoder, tokenizer = chat_model
    prompt = [tokenizer.bos_token_id, *tokenizer.encode("The class statement")]
    (expected,) = generate(decoder, tokenizer, [prompt], SamplingParameters(max_tokens=24))
    answer = complete(client)
    assert answer.choices[0].text == expected.text
    assert answer.choices[0].finish_reason == expected.finish_reason
    assert answer.usage.prompt_tokens == len(prompt)
    assert answer.usage.completion_tokens == len(expected.token_ids)
    assert complete(client, prompt).choices[0].text == expected.text


def test_several_prompts_and_choices_come_back_in_order(client: openai.OpenAI) -> None:
    answer = complete(client, ["The class", "def f("], n=2, temperature=1, seed=4)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    for place, (prompt, seed) in enumerate([("The class", 4), ("The class", 5), ("def f(", 4), ("def f(", 5)]):
        assert complete(client, prompt, temperature=1, seed=seed).choices[0].text == answer.choices[place].text


def test_a_stream_is_the_completion_in_pieces(client: openai.OpenAI) -> None:
    chunks = list(complete(client, stream=True, stream_options={"include_usage": True}))
    whole = complete(client)
    texts = [chunk.choices[0] for chunk in chunks[:-1]]
    assert "".join(choice.text for choice in texts) == whole.choices[0].text
    assert len(texts) > 5
    assert [choice.finish_reason for choice in texts] == [None] * (len(texts) - 1) + ["length"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage


def test_a_stop_text_is_never_sent(client: openai.OpenAI) -> None:
    whole = complete(client).choices[0].text
    stop = whole[8:13]
    before = whole[: whole.index(stop)]
    stopped = complete(client, stop=stop).choices[0]
    assert (stopped.text, stopped.finish_reason) == (before, "stop")
    streamed = "".join(chunk.choices[0].text for chunk in complete(client, stop=[stop, "☃"], stream=True))
    assert streamed == before


def test_a_seed_repeats_a_sample(client: openai.OpenAI) -> None:
    first, again, other = (complete(client, temperature=1.2, seed=seed).choices[0].text for seed in (1, 1, 2))
    assert first == again != other


def test_log_probabilities_describe_prompt_and_completion(client: openai.OpenAI) -> None:
    answer = complete(client, "The class", max_tokens=4, logprobs=3, echo=True)
    choice = answer.choices[0]
    logprobs = choice.logprobs
    assert choice.text.startswith("The class")
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == answer.usage.total_tokens - 1
    assert logprobs.text_offset[0] == 0
    for logprob, best in zip(logprobs.token_logprobs, logprobs.top_logprobs, strict=True):
        assert logprob < 0
        assert len(best) in (3, 4)
    for token, best in list(zip(logprobs.tokens, logprobs.top_logprobs, strict=True))[-4:]:
        assert token == max(best, key=best.__getitem__)  # greedy


def test_reading_a_prompt_only_gives_its_log_probabilities(client: openai.OpenAI) -> None:
    answer = complete(client, "The class statement", max_tokens=0, logprobs=0, echo=True)
    assert answer.choices[0].text == "The class statement"
    assert answer.usage.completion_tokens == 0
    assert all(math.isfinite(logprob) for logprob in answer.choices[0].logprobs.token_logprobs)
    assert complete(client, max_tokens=0).choices[0].text == ""
    tokens = complete(client, [7, 8, 9], max_tokens=0, logprobs=1, echo=True).choices[0].logprobs
    assert tokens.token_logprobs[0] is None
    assert len(tokens.token_logprobs) == 3


def test_a_chat_uses_the_models_template(client: openai.OpenAI, chat_model) -> None:
    _, tokenizer = chat_model
    prompt = tokenizer.apply_chat_template(MESSAGES)
    answer = chat(client)
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == complete(client, prompt).choices[0].text
    assert answer.usage.prompt_tokens == len(prompt)
    parts = [{"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "a class?"}]}]
    assert chat(client, messages=parts).choices[0].message.content == answer.choices[0].message.content


def test_a_chat_streams_deltas(client: openai.OpenAI) -> None:
    chunks = [chunk.choices[0] for chunk in chat(client, stream=True, n=2, temperature=1, seed=3)]
    assert [chunk.delta.role for chunk in chunks[:2]] == ["assistant", "assistant"]
    whole = chat(client, n=2, temperature=1, seed=3)
    for choice in whole.choices:
        own = [chunk for chunk in chunks if chunk.index == choice.index]
        assert "".join(chunk.delta.content or "" for chunk in own) == choice.message.content
        assert own[-1].finish_reason == choice.finish_reason


def test_a_chat_reports_log_probabilities(client: openai.OpenAI) -> None:
    content = chat(client, logprobs=True, top_logprobs=2, max_completion_tokens=5).choices[0].logprobs.content
    assert len(content) == 5
    for token in content:
        assert token.token == token.top_logprobs[0].token
        assert token.logprob == token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob
        assert bytes(token.bytes).decode(errors="replace") == token.token


def test_sixteen_requests_at_once_share_a_batch_and_get_what_each_gets_alone(
    client: openai.OpenAI, chat_server: ServerProcess
) -> None:
    prompts = [f"{number} The class statement" for number in range(16)]
    alone = [complete(client, prompt, max_tokens=60) for prompt in prompts]
    with ExitStack() as streams:
        with complete(client, n=128, temperature=1, max_tokens=CONTEXT, stream=True) as busy:
            next(busy)
            before = chat_server.metrics("lmc_batch_rows_sum", "lmc_batch_rows_count")
            together = [
                streams.enter_context(complete(client, prompt, max_tokens=60, stream=True)) for prompt in prompts
            ]
        texts = ["".join(chunk.choices[0].text for chunk in stream) for stream in together]
    assert texts == [answer.choices[0].text for answer in alone]
    after = chat_server.metrics("lmc_batch_rows_sum", "lmc_batch_rows_count")
    rows, steps = (late - early for late, early in zip(after, before, strict=True))
    # The first token of each comes from reading its prompt. Every step of the busy request has all 16 rows of the
    # batch; the steps that remain are those of the sixteen requests.
    generated = sum(answer.usage.completion_tokens - 1 for answer in alone)
    assert steps - (rows - generated) / 16 < generated / 4


def test_a_short_request_does_not_wait_for_a_long_one(client: openai.OpenAI, chat_server: ServerProcess) -> None:
    with complete(client, n=8, temperature=1, seed=1, max_tokens=CONTEXT, stream=True) as long:
        next(long)
        assert complete(client, max_tokens=2).usage.completion_tokens == 2
        assert chat_server.metric("lmc_running_sequences") > 0
    chat_server.wait_for("lmc_running_sequences", 0)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_its_place(
    client: openai.OpenAI, chat_server: ServerProcess, stream: bool
) -> None:
    generated = chat_server.metric("lmc_generated_tokens_total")
    if stream:
        with complete(client, n=128, temperature=1, max_tokens=CONTEXT, stream=True) as answer:
            next(answer)
    else:
        with pytest.raises(openai.APITimeoutError):
            complete(client.with_options(timeout=0.3), n=128, temperature=1, max_tokens=CONTEXT)
    chat_server.wait_for("lmc_running_sequences", 0)
    assert chat_server.metric("lmc_generated_tokens_total") - generated < 128 * CONTEXT / 4


WRONG = [
    ({"model": "other"}, openai.NotFoundError, "model", "model_not_found"),
    ({"temperature": 2.5}, openai.BadRequestError, "temperature", None),
    ({"temperature": "hot"}, openai.BadRequestError, "temperature", None),
    ({"top_p": 1.5}, openai.BadRequestError, "top_p", None),
    ({"max_tokens": -1}, openai.BadRequestError, "max_tokens", None),
    ({"n": 0}, openai.BadRequestError, "n", None),
    ({"stop": [""]}, openai.BadRequestError, "stop.0", None),
    ({"logit_bias": {"5": 3}}, openai.BadRequestError, "logit_bias", None),
    ({"presence_penalty": 0.5}, openai.BadRequestError, "presence_penalty", None),
    ({"extra_body": {"temprature": 1}}, openai.BadRequestError, "temprature", "unknown_parameter"),
]


@pytest.mark.parametrize(("fields", "error", "param", "code"), WRONG)
@pytest.mark.parametrize("endpoint", [complete, chat])
def test_a_wrong_parameter_is_named(client: openai.OpenAI, endpoint, fields, error, param, code) -> None:
    if endpoint is chat and fields.get("max_tokens") == -1:
        fields = {"max_tokens": 0}  # a chat needs room for a reply
    with pytest.raises(error) as caught:
        endpoint(client, **fields)
    assert (caught.value.param, caught.value.code, caught.value.type) == (param, code, "invalid_request_error")
    assert caught.value.body["message"]


@pytest.mark.parametrize(
    ("endpoint", "fields", "param"),
    [
        (complete, {"suffix": "end"}, "suffix"),
        (complete, {"best_of": 3}, "best_of"),
        (complete, {"prompt": [70_000]}, "prompt"),
        (complete, {"prompt": []}, "prompt"),
        (chat, {"messages": []}, "messages"),
        (chat, {"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages.0.tool_call_id"),
        (chat, {"messages": [{"role": "developer", "content": "x"}]}, "messages"),
        (chat, {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages.0.content"),
        (chat, {"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        (chat, {"response_format": {"type": "json_object"}}, "response_format"),
        (chat, {"top_logprobs": 2}, "top_logprobs"),
    ],
)
def test_what_is_not_supported_is_refused(client: openai.OpenAI, endpoint, fields, param) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        endpoint(client, **fields)
    assert caught.value.param == param


def test_the_neutral_value_of_an_unsupported_field_is_no_error(client: openai.OpenAI) -> None:
    complete(client, presence_penalty=0, frequency_penalty=0.0, logit_bias={}, suffix=None, best_of=1, user="me")
    chat(client, tools=[], response_format={"type": "text"}, parallel_tool_calls=True, max_tokens=1)


@pytest.mark.parametrize("extremes", [{"top_p": 0}, {"top_p": 1}, {"temperature": 2, "top_p": 0}])
def test_the_extremes_of_top_p_work(client: openai.OpenAI, extremes: dict) -> None:
    greedy = complete(client).choices[0].text
    sampled = complete(client, **{"temperature": 1, "seed": 1} | extremes).choices[0].text
    assert (sampled == greedy) == (extremes["top_p"] == 0)


def test_a_prompt_beyond_the_context_is_refused_and_one_near_its_end_is_cut(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, [5] * CONTEXT)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, messages=[{"role": "user", "content": "class " * CONTEXT}])
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
    answer = complete(client, [5] * (CONTEXT - 3), max_tokens=50)
    assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (3, "length")
