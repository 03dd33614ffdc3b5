"""Bodies on their way to disk."""

from collections.abc import AsyncIterator
from typing import IO

from anyio.to_thread import run_sync

SPOOLED = 1 << 20  # bytes of a body that are written at a time


async def spool(content: AsyncIterator[bytes], file: IO[bytes]) -> int:
    """Append a body to a file, out of the way of other requests, and go back to its beginning; returns its bytes."""
    size, waiting = 0, bytearray()
    async for block in content:
        size += len(block)
        waiting += block
        if len(waiting) > SPOOLED:
            await run_sync(file.write, bytes(waiting))
            waiting.clear()
    await run_sync(file.write, bytes(waiting))
    await run_sync(file.seek, 0)  # which writes out what is buffered
    return size
