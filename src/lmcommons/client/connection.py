"""The connection to a hub."""

import os
from typing import cast

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

PUBLIC_HUB = "https://huggingface.co"  # what huggingface_hub asks when HF_ENDPOINT is not set

# What huggingface_hub's HTTP library raises, whichever library that is.
HTTPError = cast(type[Exception], HfHubHTTPError.__bases__[0])


def hub() -> HfApi:
    """A client of the hub that HF_ENDPOINT names, else of the public one. It sends HF_TOKEN and no other token."""
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or PUBLIC_HUB, token=os.environ.get("HF_TOKEN") or False)
