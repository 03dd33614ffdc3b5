"""A model behind an OpenAI-compatible API.

`server` binds the port and runs until a signal; `app` holds the routes; `requests` says what a client may send,
`replies` and `errors` what it gets back; `engine` runs the model in a thread of its own, all requests in one batch;
`metrics` counts. Start reading at `app`. Imports generation, the model and the tokenizer; needs FastAPI and uvicorn.
"""

from lmcommons.serving.app import create_app
from lmcommons.serving.engine import Engine
from lmcommons.serving.server import Binding, run

__all__ = ["Binding", "Engine", "create_app", "run"]
