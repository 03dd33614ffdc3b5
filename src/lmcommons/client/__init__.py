"""What the toolkit says to a hub: the one that HF_ENDPOINT names, with the token in HF_TOKEN.

`model_directory` (models) turns the MODEL of a command into a directory with its files, and `fetched` says which commit
that was; `hub` (connection) is the `huggingface_hub` client that reads, and `HTTPError` what it raises when a hub does
not answer; `RunReports` (runs) tells a hub how a training run goes. Imports nothing of the house but the errors.
"""

from lmcommons.client.connection import HTTPError, hub
from lmcommons.client.models import fetched, model_directory
from lmcommons.client.runs import RunReports

__all__ = ["HTTPError", "RunReports", "fetched", "hub", "model_directory"]
