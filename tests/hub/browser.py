"""A browser without a screen: keeps cookies, fills in the forms that a page has, and sends them as a browser would."""

import re
from collections.abc import Sequence
from html import escape, unescape
from typing import Any

import httpx
from hub_process import HubProcess


class Browser:
    """One browser of one person."""

    def __init__(self, hub: HubProcess) -> None:
        self.client = httpx.Client(base_url=hub.endpoint, follow_redirects=True, headers={"Accept": "text/html"})

    def get(self, address: str) -> httpx.Response:
        return self.client.get(address)

    def submit(
        self, page: httpx.Response, action: str, files: Sequence[tuple[str, bytes]] = (), **fields: str
    ) -> httpx.Response:
        """Send the form of `page` that goes to `action`, with its hidden fields, these, and files by their names."""
        form = next(
            part for part in page.text.split("<form")[1:] if f'action="{escape(action)}"' in part.partition(">")[0]
        )
        inputs = re.findall(r"<input[^>]*>", form.partition("</form>")[0])
        hidden = {_attribute(tag, "name"): _attribute(tag, "value") for tag in inputs if 'type="hidden"' in tag}
        headers = {"Origin": str(self.client.base_url), "Sec-Fetch-Site": "same-origin"}
        if "multipart/form-data" not in form.partition(">")[0]:
            return self.client.post(action, data={**hidden, **fields}, headers=headers)
        parts: list[Any] = [(name, (None, value.encode())) for name, value in {**hidden, **fields}.items()]
        return self.client.post(action, files=[*parts, *(("files", file) for file in files)], headers=headers)

    def sign_in(self, name: str, password: str) -> httpx.Response:
        return self.submit(self.get("/login"), "/login", name=name, password=password)


def _attribute(tag: str, name: str) -> str:
    found = re.search(rf'{name}="([^"]*)"', tag)
    return unescape(found[1]) if found else ""
