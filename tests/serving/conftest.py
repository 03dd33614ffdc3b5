"""A server of a small random model with a chat template, and OpenAI's client for it."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from server_process import CONTEXT, ServerProcess, start_server
from tiny_model import write_tiny_model

from lmcommons import model, tokenizer


@pytest.fixture(scope="session")
def chat_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a chat template; the context is long enough for a request that runs for some seconds."""
    return write_tiny_model(tmp_path_factory.mktemp("chat"), chat_template=True, max_position_embeddings=CONTEXT)


@pytest.fixture(scope="session")
def chat_model(chat_directory: Path) -> tuple[model.Decoder, tokenizer.Tokenizer]:
    """The served model in this process."""
    return model.load(chat_directory), tokenizer.load(chat_directory)


@pytest.fixture(scope="session")
def chat_server(chat_directory: Path) -> Iterator[ServerProcess]:
    """Serves it as `chat`."""
    with start_server(chat_directory, "--name", "chat") as server:
        yield server


@pytest.fixture(scope="session")
def client(chat_server: ServerProcess) -> openai.OpenAI:
    """OpenAI's own client, without retries."""
    return openai.OpenAI(base_url=chat_server.url, api_key="unused", max_retries=0)
