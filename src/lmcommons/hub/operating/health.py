"""Whether a hub can serve: what a load balancer, a supervisor or an operator asks every few seconds."""

import shutil

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from lmcommons.hub.errors import HubError
from lmcommons.hub.rooms import Hub
from lmcommons.hub.words import Words

LEAST_FREE = 64 << 20  # bytes; with less, uploads are about to fail


def problems(hub: Hub) -> dict[str, str]:
    """What keeps the hub from serving, by part; empty when it is well. Tells no address, path or name."""
    found: dict[str, str] = {}
    try:
        with hub.database.read() as session:
            session.execute(select(1))
    except SQLAlchemyError:
        found["database"] = Words("does not answer")
    try:
        hub.objects.blobs.size("healthz")
    except (HubError, OSError):
        found["objects"] = Words("the store does not answer")
    for part, directory in (("repositories", hub.settings.repositories_dir), ("objects", hub.objects.blobs.staging)):
        try:
            if shutil.disk_usage(directory).free < LEAST_FREE:
                found.setdefault(part, Words("the disk is full"))
        except OSError:
            found.setdefault(part, Words("the directory is not there"))
    return found
