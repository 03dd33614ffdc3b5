"""What the toolkit says to a hub: the one that HF_ENDPOINT names, with the token in HF_TOKEN.

`model_directory` turns the MODEL of a command into a directory with its files. Imports nothing of the house but the
errors.
"""

from lmcommons.client.models import model_directory

__all__ = ["model_directory"]
