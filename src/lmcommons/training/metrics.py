"""The numbers of a run over time: `metrics.jsonl`, one line a logged step, and the same as TensorBoard events."""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from torch.utils.tensorboard import SummaryWriter

from lmcommons import files


class MetricsLog:
    """Appends to a run's metrics.

    Opened at `step`, it first drops the lines of later steps, which will be computed again. In a process that does not
    write, nothing happens.
    """

    def __init__(self, out: Path, step: int, *, writes: bool = True) -> None:
        self.writes = writes
        if not writes:
            return
        self.path = out / "metrics.jsonl"
        kept = [line for line in _whole_lines(self.path) if json.loads(line)["step"] <= step]
        files.write_text(self.path, "".join(kept))
        self._file = self.path.open("a", encoding="utf-8")
        self._board = SummaryWriter(out / "tensorboard", purge_step=step + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.writes:
            self._file.close()
            self._board.close()

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """One line for `step`; `numbers` are scalars named as in the JSONL file."""
        if not self.writes:
            return
        self._file.write(json.dumps({"step": step, **numbers}) + "\n")
        self._file.flush()
        for name, value in numbers.items():
            self._board.add_scalar(name, value, step)

    def sync(self) -> None:
        """Make all lines so far survive a power cut, as a checkpoint that follows them does."""
        if self.writes:
            os.fsync(self._file.fileno())


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file up to the first that a killed process left unfinished."""
    if not path.exists():
        return []
    return [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("}\n")]
