"""Counts of long lists, kept for a minute: on a large hub they take longer than all else that a page shows."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

LONG = 10_000  # repositories; shorter lists are counted each time
SECONDS = 60
ENTRIES = 1_000

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """What was counted, by the question."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._values: OrderedDict[Hashable, tuple[float, Value]] = OrderedDict()  # until when, the newest last

    def get(self, question: Hashable, count: Callable[[], Value], length: Callable[[Value], int]) -> Value:
        """The answer to a question, by `count` unless it was asked a short while ago and the list is a long one.

        While one visitor's answer is counted again, others get the one before.
        """
        with self._lock:
            until, value = self._values.get(question, (0.0, None))
            if value is not None:
                if time.monotonic() < until:
                    return value
                self._values[question] = (time.monotonic() + SECONDS, value)
        value = count()
        with self._lock:
            self._values.pop(question, None)
            if length(value) > LONG:
                self._values[question] = (time.monotonic() + SECONDS, value)
                if len(self._values) > ENTRIES:
                    self._values.popitem(last=False)
        return value
