"""How a training run tells a hub of itself: the requests under `/api/x/models/NAMESPACE/NAME/runs` of our own hub."""

from collections.abc import Sequence
from typing import Any

from huggingface_hub import HfApi, get_session, hf_raise_for_status

ANSWER_LIMIT = 5.0  # seconds for the hub to answer


class RunReports:
    """The run that is called `run` among those of a model's repository.

    Each method raises what `huggingface_hub` raises: `HfHubHTTPError` for what the hub refuses, `HTTPError` and OSError
    where it does not answer.
    """

    def __init__(self, api: HfApi, repository: str, run: str) -> None:
        self._headers = {"Authorization": f"Bearer {api.token}"}
        self._address = f"{api.endpoint}/api/x/models/{repository}/runs/{run}"

    def begin(self, description: dict[str, str]) -> None:
        """Begin the run, or go on with it: its `name`, `stage`, `recipe` and `machine`, texts for people."""
        self._send("PUT", description)

    def progress(self, numbers: dict[str, int], points: Sequence[dict[str, Any]]) -> None:
        """Tell how far it is: `step`, `steps`, `tokens`, `secondsLeft`, and lines of its metrics.

        Points take the place of those that the hub has from the first one's step on.
        """
        self._send("PATCH", {**numbers, "points": points})

    def end(self, state: str) -> None:
        """Tell that it is `finished`, `failed` or `stopped`."""
        self._send("PATCH", {"state": state})

    def _send(self, method: str, body: dict[str, Any]) -> None:
        hf_raise_for_status(
            get_session().request(method, self._address, json=body, headers=self._headers, timeout=ANSWER_LIMIT)
        )
