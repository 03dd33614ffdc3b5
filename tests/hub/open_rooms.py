"""A hub without HTTP, on the stack of the session."""

from pathlib import Path
from typing import Any

import stack

from lmcommons.hub.rooms import Hub
from lmcommons.hub.settings import Settings


def open_rooms(data: Path, **more: Any) -> Hub:
    """The rooms of the hub in `data`, where `start_hub` would find them; `more` are settings."""
    if stack.is_cluster():
        more |= {"database": stack.database_url(data), "objects": stack.objects_url(data)}
    return Hub(Settings.make(data, **more))
