"""What a hub counts while it serves, in the text that Prometheus reads.

With several workers each keeps its counts in files of the directory that PROMETHEUS_MULTIPROC_DIR names, which
`lmc hub serve` sets, and every worker answers for all of them.
"""

import os

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from lmcommons.hub.database.tables import Account, Repository, RepositoryObject
from lmcommons.hub.rooms import Hub

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """The counts of one process, and what all of them together and the database say."""

    def __init__(self, hub: Hub) -> None:
        own = CollectorRegistry()
        self._requests = Counter("lmcommons_requests", "Requests answered", ("method", "route", "status"), registry=own)
        self._seconds = Histogram(
            "lmcommons_request_seconds",
            "From a request's first byte to the last of its answer",
            ("method", "route"),
            buckets=SECONDS,
            registry=own,
        )
        self._received = Counter("lmcommons_received_bytes", "Bodies of requests", registry=own)
        self._sent = Counter("lmcommons_sent_bytes", "Bodies of answers", registry=own)
        moves = Counter("lmcommons_ref_moves", "Branches, tags and pull requests made, moved or removed", registry=own)
        hub.commits.listeners.append(lambda *_: moves.inc())
        self._registry = own
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            self._registry = CollectorRegistry()
            MultiProcessCollector(self._registry)  # type: ignore[no-untyped-call]
        self._registry.register(_Stored(hub))

    def count(self, method: str, route: str, status: int, seconds: float, received: int, sent: int) -> None:
        """One answered request; `route` is a template, so that there are few of them."""
        method = method if method in METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)
        self._received.inc(received)
        self._sent.inc(sent)

    def text(self) -> bytes:
        """All of it; reads the database."""
        return generate_latest(self._registry)


class _Stored(Collector):
    """What the database counts, asked at each reading."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def collect(self) -> list[GaugeMetricFamily]:
        repositories = GaugeMetricFamily("lmcommons_repositories", "Repositories", labels=["type"])
        accounts = GaugeMetricFamily("lmcommons_accounts", "Users and organisations", labels=["kind"])
        with self._hub.database.read() as session:
            for type_, number in session.execute(select(Repository.type, func.count()).group_by(Repository.type)):
                repositories.add_metric([str(type_)], number)
            for kind, number in session.execute(select(Account.kind, func.count()).group_by(Account.kind)):
                accounts.add_metric([str(kind)], number)
            objects = session.scalar(select(func.count()).select_from(RepositoryObject)) or 0
        return [
            repositories,
            accounts,
            GaugeMetricFamily("lmcommons_linked_objects", "Large objects in repositories", value=objects),
        ]

    def describe(self) -> list[GaugeMetricFamily]:
        """None: so that registering does not read the database."""
        return []
