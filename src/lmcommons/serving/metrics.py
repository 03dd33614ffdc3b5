"""Counts of what the server does, in Prometheus' text format (exposition format 0.0.4)."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Histogram:
    """How many observations were at most each bound."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self._sum += value

    def lines(self, name: str) -> Iterator[str]:
        """The cumulative buckets, sum and count."""
        total = 0
        for bound, count in zip((*self.bounds, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self._sum}"
        yield f"{name}_count {total}"


class Metrics:
    """All counts of one server. The engine's thread and the event loop each write their own."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()  # by endpoint and HTTP status
        self.prompt_tokens = 0
        self.generated_tokens = 0
        self.running = 0
        self.waiting = 0
        self.batch_rows = Histogram(ROWS)
        self.first_token_seconds = Histogram(SECONDS)
        self.request_seconds = Histogram(SECONDS)

    def render(self) -> str:
        """The page that Prometheus reads."""
        lines = ["# HELP lmc_requests_total HTTP requests by endpoint and status.", "# TYPE lmc_requests_total counter"]
        for (endpoint, status), count in sorted(self.requests.items()):
            lines.append(f'lmc_requests_total{{endpoint="{endpoint}",status="{status}"}} {count}')
        single = (
            ("prompt_tokens_total", "counter", "Tokens of prompts that were read.", self.prompt_tokens),
            ("generated_tokens_total", "counter", "Tokens that were generated.", self.generated_tokens),
            ("running_sequences", "gauge", "Sequences in the batch.", self.running),
            ("waiting_sequences", "gauge", "Sequences that wait for room in the batch.", self.waiting),
        )
        for name, kind, meaning, value in single:
            lines += [f"# HELP lmc_{name} {meaning}", f"# TYPE lmc_{name} {kind}", f"lmc_{name} {value}"]
        histograms = (
            ("batch_rows", "Sequences that a step continued.", self.batch_rows),
            ("first_token_seconds", "From the arrival of a sequence to its first token.", self.first_token_seconds),
            ("request_seconds", "From the arrival of a sequence to its end.", self.request_seconds),
        )
        for name, meaning, histogram in histograms:
            lines += [f"# HELP lmc_{name} {meaning}", f"# TYPE lmc_{name} histogram"]
            lines += histogram.lines(f"lmc_{name}")
        return "\n".join(lines) + "\n"
