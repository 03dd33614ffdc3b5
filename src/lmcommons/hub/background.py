"""Work that a hub does beside its answers, each kind in a thread of its own."""

import logging
import threading
import time
from abc import ABC, abstractmethod

from sqlalchemy.exc import SQLAlchemyError

from lmcommons.hub.errors import HubError

LOGGER = logging.getLogger(__name__)

LONGEST_PAUSE = 60.0  # seconds between looks after errors
HOUR = 3600.0  # seconds between cleanings
EXPECTED = (SQLAlchemyError, HubError)  # a database that is busy or restarts, or a full disk


class Background(ABC):
    """Does what is due, from a thread of its own between `start` and `stop`."""

    def __init__(self, name: str, *, pause: float) -> None:
        """Work called `name`, with so many seconds between looks when nothing is due."""
        self._name = name
        self._pause = pause
        self.stopping = threading.Event()

    def start(self) -> None:
        """Begin."""
        self.stopping.clear()
        threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def stop(self) -> None:
        """End after what is being done; what is not is done by the next to start."""
        self.stopping.set()

    @abstractmethod
    def work(self) -> int:
        """Do some of what is due; returns how much of it was taken, 0 when nothing was due."""

    def clean(self) -> None:  # noqa: B027 - not all have something to clean
        """What is done once an hour."""

    def _run(self) -> None:
        cleaned, pause = 0.0, self._pause
        while not self.stopping.wait(pause):
            try:
                while self.work() and not self.stopping.is_set():
                    pass
                if time.monotonic() - cleaned > HOUR:
                    self.clean()
                    cleaned = time.monotonic()
                pause = self._pause
            except Exception as error:
                # What is due stays due. Of an error that is not expected, the log shows the place.
                LOGGER.warning("%s wait: %s", self._name, error, exc_info=not isinstance(error, EXPECTED))
                pause = min(2 * pause, LONGEST_PAUSE)
