"""The model at work: one thread continues the sequences of all requests in one batch."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

from lmcommons.errors import CommandError
from lmcommons.generation import Batch, Delta, Sequence
from lmcommons.progress import say
from lmcommons.serving.metrics import Metrics


class EngineBusyError(Exception):
    """The queue is full; the same request may succeed a little later."""


class EngineStoppedError(Exception):
    """The server shuts down."""


class Work:
    """The sequences of one request, on their way through the engine. Iterate over it once; `cancel` at the end."""

    def __init__(self, engine: "Engine", sequences: list[Sequence]) -> None:
        self.sequences = sequences
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[tuple[Sequence, Delta | Exception]] = asyncio.Queue()

    def deliver(self, sequence: Sequence, item: Delta | Exception) -> None:
        """Hand over a result; called in the engine's thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._arrived.put_nowait, (sequence, item))

    async def __aiter__(self) -> AsyncIterator[tuple[int, Delta]]:
        """Yield (place in `sequences`, delta) until all have ended.

        Raises:
            EngineStoppedError: the server shuts down.
            CommandError: the model failed.
        """
        running = {sequence: place for place, sequence in enumerate(self.sequences)}
        while running:
            sequence, item = await self._arrived.get()
            if isinstance(item, Exception):
                raise item
            yield running[sequence], item
            if item.finish_reason:
                del running[sequence]

    def cancel(self) -> None:
        """Free the places of sequences that have not ended: the client has gone, or the work is done."""
        self._engine.cancel(self.sequences)


class Engine:
    """Continues sequences in a thread of its own, up to the batch's `max_rows` at once and `max_waiting` in line.

    Sequences join and leave between steps, so a short request does not wait for a long one.
    """

    def __init__(self, batch: Batch, *, max_waiting: int) -> None:
        self.batch = batch
        self.metrics = Metrics()
        self._max_waiting = max_waiting
        self._condition = threading.Condition()
        self._inbox: deque[Sequence] = deque()
        self._cancelled: list[Sequence] = []
        self._owners: dict[Sequence, tuple[Callable[[Sequence, Delta | Exception], None], float]] = {}
        self._waiting: deque[Sequence] = deque()  # the thread's own; the inbox is emptied into it
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, sequences: list[Sequence]) -> Work:
        """Queue the sequences of one request, all or none.

        Raises:
            RequestError: a sequence cannot be continued by this model.
            EngineBusyError: there are too many in line.
            EngineStoppedError: the server shuts down.
        """
        for sequence in sequences:
            self.batch.check(sequence)
        work = Work(self, sequences)
        with self._condition:
            if self._stopped:
                raise EngineStoppedError
            in_line = len(self._inbox) + len(self._waiting)
            if in_line and in_line + len(sequences) > self._max_waiting:
                raise EngineBusyError
            now = time.monotonic()
            self._owners.update(dict.fromkeys(sequences, (work.deliver, now)))
            self._inbox.extend(sequences)
            self._condition.notify()
        return work

    def cancel(self, sequences: list[Sequence]) -> None:
        """Drop what has not ended of `sequences` before the next step."""
        with self._condition:
            self._cancelled += [sequence for sequence in sequences if self._owners.pop(sequence, None)]
            self._condition.notify()

    def abort(self) -> None:
        """Take no more work, and end what is running with `EngineStoppedError` after this step."""
        with self._condition:
            self._stopped = True
            self._condition.notify()

    def stop(self) -> None:
        """`abort`, and wait for the thread to end."""
        self.abort()
        self._thread.join()

    def _run(self) -> None:
        while self._next_step():
            try:
                deltas = self.batch.admit(self._waiting)
                self.metrics.prompt_tokens += sum(len(sequence.prompt) for sequence, _ in deltas)
                self._report(deltas)
                if self.batch.sequences:
                    self.metrics.batch_rows.observe(len(self.batch.sequences))
                    self._report(self.batch.step())
            except Exception as error:
                say(f"lmc serve: a step failed: {' '.join(str(error).split())}")
                self._fail(CommandError(str(error)))
        self._fail(EngineStoppedError())

    def _next_step(self) -> bool:
        """Wait for work and sort out arrivals and departures; False when the engine is to stop."""
        with self._condition:
            while not (self._stopped or self._inbox or self._cancelled or self._waiting or self.batch.sequences):
                self._condition.wait()
            self._waiting.extend(self._inbox)
            self._inbox.clear()
            if self._cancelled:
                gone = set(self._cancelled)
                self._cancelled.clear()
                self.batch.remove(gone)
                kept = [sequence for sequence in self._waiting if sequence not in gone]
                self._waiting.clear()
                self._waiting.extend(kept)
            self._count()
            return not self._stopped

    def _report(self, deltas: list[tuple[Sequence, Delta]]) -> None:
        now = time.monotonic()
        self.metrics.generated_tokens += sum(bool(sequence.generated) for sequence, _ in deltas)
        for sequence, delta in deltas:
            with self._condition:
                owner = self._owners.get(sequence)
                if owner and delta.finish_reason:
                    del self._owners[sequence]
            if owner:
                deliver, arrived = owner
                if len(sequence.generated) <= 1:
                    self.metrics.first_token_seconds.observe(now - arrived)
                if delta.finish_reason:
                    self.metrics.request_seconds.observe(now - arrived)
                deliver(sequence, delta)
        self._count()

    def _count(self) -> None:
        self.metrics.running = len(self.batch.sequences)
        self.metrics.waiting = len(self._waiting)

    def _fail(self, error: Exception) -> None:
        """End everything that runs or waits with `error`."""
        with self._condition:
            owners, self._owners = self._owners, {}
            self._inbox.clear()
        self._waiting.clear()
        self.batch.remove(list(self.batch.sequences))
        for sequence, (deliver, _) in owners.items():
            deliver(sequence, error)
        self._count()
