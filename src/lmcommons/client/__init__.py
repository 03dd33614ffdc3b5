"""What the toolkit says to a hub: the one that HF_ENDPOINT names, with the token in HF_TOKEN.

`model_directory` turns the MODEL of a command into a directory with its files; `HTTPError` is what the
`huggingface_hub` client raises when a hub does not answer. Imports nothing of the house but the errors.
"""

from lmcommons.client.models import HTTPError, model_directory

__all__ = ["HTTPError", "model_directory"]
