"""`lmc serve` as a process and as plain HTTP: start, errors, keys, limits, end."""

import json
import shutil
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from server_process import CONTEXT, ServerProcess, start_server
from tiny_model import write_tiny_model
from tiny_run import lmc

from lmcommons.cli import main
from lmcommons.errors import CommandError
from lmcommons.model import ModelConfig, build, load, save
from lmcommons.serving import Binding


def curl(*arguments: object, data: bytes | None = None) -> tuple[int, str]:
    """Status and body that the real curl gets."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(
        ["curl", "-sS", "-w", "\n%{http_code}", *map(str, arguments)], input=data, capture_output=True, check=True
    )
    body, _, status = done.stdout.decode().rpartition("\n")
    return int(status), body


def post(server: ServerProcess, path: str, body: str | bytes, *options: object) -> tuple[int, dict]:
    data = body.encode() if isinstance(body, str) else body
    header = ("-H", "Content-Type: application/json")
    status, text = curl(f"{server.url}/{path}", *header, *options, "--data-binary", "@-", data=data)
    return status, json.loads(text)


def test_curl_gets_a_completion(chat_server: ServerProcess) -> None:
    request = '{"model": "chat", "prompt": "The class", "max_tokens": 3}'
    status, answer = post(chat_server, "completions", request)
    assert status == 200
    assert answer["object"] == "text_completion"
    assert answer["choices"][0]["text"]


def test_curl_gets_a_stream_of_events(chat_server: ServerProcess) -> None:
    request = '{"model": "chat", "prompt": "The class", "max_tokens": 3, "stream": true}'
    header = ("-H", "Content-Type: application/json")
    status, text = curl(f"{chat_server.url}/completions", *header, "-d", request)
    events = text.strip().split("\n\n")
    assert status == 200
    assert events[-1] == "data: [DONE]"
    assert all(json.loads(event.removeprefix("data: "))["choices"] for event in events[:-1])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{bad", "not valid JSON"),
        ("[1]", "must be a JSON object"),
        ('"text"', "must be a JSON object"),
        ("", "must be a JSON object"),
        ('{"prompt": "a"}', "'model'"),
        ('{"model": "chat", "prompt": "\\ud800"}', "surrogate"),
        ('{"model": "chat", "prompt": "a", "top_p": NaN}', "top_p"),
        ('{"model": "chat", "prompt": "a", "stop": {"a": 1}}', "stop"),
        (b'{"model": "chat", "prompt": "\xff"}', "body"),
        ("[" * 100_000, "body"),
    ],
)
def test_a_body_that_is_no_request_gets_one_clear_line(
    chat_server: ServerProcess, body: str | bytes, message: str
) -> None:
    status, answer = post(chat_server, "completions", body)
    assert status == 400
    assert message in answer["error"]["message"]
    assert set(answer["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("options", [(), ("-H", "Transfer-Encoding: chunked")])
def test_a_body_that_is_too_large_is_refused(chat_server: ServerProcess, options: tuple[str, ...]) -> None:
    status, answer = post(chat_server, "completions", b" " * (9 << 20), *options)
    assert status == 413
    assert "larger than" in answer["error"]["message"]


@pytest.mark.parametrize(("path", "status"), [("nothing", 404), ("models/nothing", 404), ("completions", 405)])
def test_a_wrong_address_gets_openais_error_shape(chat_server: ServerProcess, path: str, status: int) -> None:
    code, text = curl(f"{chat_server.url}/{path}")
    assert code == status
    assert json.loads(text)["error"]["message"]


def test_health_and_metrics_answer(chat_server: ServerProcess) -> None:
    assert curl(f"{chat_server.root}/health") == (200, '{"status":"ok"}')
    _, text = curl(f"{chat_server.root}/metrics")
    assert 'lmc_requests_total{endpoint="/health",status="200"}' in text
    for line in text.splitlines():
        assert line.startswith("# ") or float(line.split()[-1]) >= 0


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with a key, a batch of one, a line of one, and a model without a chat template."""
    plain = write_tiny_model(tmp_path_factory.mktemp("plain"), max_position_embeddings=CONTEXT)
    with start_server(
        plain, "--name", "plain", "--max-batch", 1, "--max-waiting", 1, LMC_API_KEY="open sesame"
    ) as server:
        yield server


@pytest.fixture(scope="module")
def member(narrow: ServerProcess) -> openai.OpenAI:
    """A client with the key."""
    return openai.OpenAI(base_url=narrow.url, api_key="open sesame", max_retries=0)


def test_a_model_without_a_chat_template_says_so(member: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="no chat template; use /v1/completions"):
        member.chat.completions.create(model="plain", messages=[{"role": "user", "content": "Hi"}])
    assert member.completions.create(model="plain", prompt="Hi").usage.completion_tokens == 16


def test_with_a_key_only_those_who_have_it_are_served(narrow: ServerProcess, member: openai.OpenAI) -> None:
    stranger = member.with_options(api_key="wrong")
    with pytest.raises(openai.AuthenticationError) as caught:
        stranger.completions.create(model="plain", prompt="Hi")
    assert caught.value.code == "invalid_api_key"
    assert curl(f"{narrow.url}/models")[0] == 401
    assert curl(f"{narrow.root}/health")[0] == 200
    assert member.completions.create(model="plain", prompt="Hi", max_tokens=2).choices


def test_a_full_queue_sends_clients_away_for_a_moment(narrow: ServerProcess, member: openai.OpenAI) -> None:
    busy = {"model": "plain", "prompt": "The", "temperature": 1, "max_tokens": CONTEXT, "stream": True, "n": 20}
    with member.completions.create(**busy) as running:
        next(running)
        with pytest.raises(openai.InternalServerError) as caught:
            member.completions.create(model="plain", prompt="Hi")
        assert caught.value.status_code == 503
        assert caught.value.code == "overloaded"
        assert caught.value.response.headers["Retry-After"] == "1"
    narrow.wait_for("lmc_running_sequences", 0)
    assert member.completions.create(model="plain", prompt="Hi", max_tokens=1).choices


def test_a_signal_lets_running_requests_end(chat_directory: Path) -> None:
    with start_server(chat_directory, "--name", "chat") as server:
        client = openai.OpenAI(base_url=server.url, api_key="unused", max_retries=0)
        with client.completions.create(model="chat", prompt="The", max_tokens=40, n=4, seed=1, stream=True) as running:
            next(running)
            server.process.send_signal(signal.SIGINT)
            reasons = [chunk.choices[0].finish_reason for chunk in running]
        assert sum(reason is not None for reason in reasons) == 4
        assert server.process.wait(timeout=60) == 0
        assert server.process.stderr.read() == ""


def test_requests_that_run_too_long_after_a_signal_get_an_error(chat_directory: Path) -> None:
    with start_server(chat_directory, "--name", "chat", "--max-batch", 1) as server:
        client = openai.OpenAI(base_url=server.url, api_key="unused", max_retries=0)
        request = {"model": "chat", "prompt": "The", "temperature": 1, "max_tokens": CONTEXT, "n": 128}
        with client.completions.create(**request, stream=True) as running:
            next(running)
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises(openai.APIError, match="shutting down"):
                for _ in running:
                    pass
        assert server.process.wait(timeout=60) == 0


def test_a_model_that_is_no_decoder_is_refused_in_one_line(
    chat_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = shutil.copytree(chat_directory, tmp_path / "model")
    vocabulary = load(chat_directory).config.vocab_size
    config = ModelConfig(family="t5", vocab_size=vocabulary, decoder_start_token_id=0, hidden_size=32)
    save(build(config), directory)
    assert main.run(["serve", str(directory), "--port", "0"]) == 2
    said = capsys.readouterr().err
    assert said == f"lmc: {directory}: an encoder-decoder model; this needs a decoder\n"


def test_a_taken_port_is_one_line_before_the_model_is_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = lmc("serve", "no-such-model", "--port", port)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"lmc: port {port} on 127.0.0.1 is taken; choose another with --port\n"


def test_a_port_is_taken_while_the_model_is_still_being_read() -> None:
    with Binding("127.0.0.1", 0) as first:
        port = int(first.url.rsplit(":", 1)[1])
        with pytest.raises(CommandError, match=f"port {port} on 127.0.0.1 is taken"):
            Binding("127.0.0.1", port)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["no-such-model", "--port", "0"], 2, "no-such-model: no such directory"),
        (["PICKLE", "--port", "0"], 2, "no model.safetensors; pytorch_model.bin is a pickle"),
        (["MODEL", "--port", "99999"], 2, "--port"),
        (["MODEL", "--host", "203.0.113.1", "--port", "0"], 1, "cannot listen on 203.0.113.1"),
        (["MODEL", "--host", "a" * 70, "--port", "0"], 1, "cannot listen on aaaa"),
        (["MODEL", "--port", "0", "--max-batch", "0"], 2, "--max-batch"),
        (["MODEL", "--port", "0", "--device", "tpu"], 2, "--device"),
    ],
)
def test_a_wrong_start_is_one_line(
    chat_directory: Path,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copyfile(chat_directory / "config.json", tmp_path / "config.json")
    (tmp_path / "pytorch_model.bin").touch()
    places = {"MODEL": str(chat_directory), "PICKLE": str(tmp_path)}
    given = [places.get(argument, argument) for argument in arguments]
    assert main.run(["serve", *given]) == code
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1


def test_many_connections_that_never_end_their_request_do_not_stop_others(chat_server: ServerProcess) -> None:
    host, port = chat_server.root.removeprefix("http://").split(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(50)]
    for connection in idle:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(urllib.request.urlopen(f"{chat_server.root}/health").status))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for connection in idle:
        connection.close()
    assert answers == [200] * 5
