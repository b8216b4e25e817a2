"""Counters and histograms for Prometheus."""

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from shortlist.engine.batch import BatchEngine

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

NOW = {"running", "waiting", "slots", "queue", "kv_tokens", "kv_tokens_used"}
"""Fields of the engine's statistics that can fall (gauges); the others only grow (counters)."""


class Metrics:
    """The metrics of one server, served at `/metrics`.

    Parameters
    ----------
    engine
        Its statistics are read when a client asks for the metrics.
    """

    def __init__(self, engine: BatchEngine):
        self._registry = registry = CollectorRegistry()
        registry.register(_EngineStats(engine))
        self._requests = Counter(
            "shortlist_requests",
            "Requests by endpoint and status.",
            ["endpoint", "status"],
            registry=registry,
        )

        def seconds(name: str, what: str, labels: Sequence[str] = ()) -> Histogram:
            return Histogram(f"shortlist_{name}_seconds", what, labels, buckets=SECONDS, registry=registry)

        self._parts = seconds("request", "Where the time of a request went.", ["part"])
        self._first = seconds("first_token", "Until the first token.")
        self._between = seconds("between_tokens", "From one token to the next.")
        self._audited = Counter(
            "shortlist_audited_tokens", "Tokens compared with the dense head.", registry=registry
        )
        self._agreed = Counter(
            "shortlist_agreed_tokens", "Those that the dense head chose too.", registry=registry
        )

    def count_request(self, endpoint: str, status: int) -> None:
        """Count a request that has ended."""
        self._requests.labels(endpoint, str(status)).inc()

    def observe_parts(self, seconds: Mapping[str, float]) -> None:
        """Record the seconds of each part of a request."""
        for part, value in seconds.items():
            self._parts.labels(part).observe(value)

    def observe_token(self, seconds: float, *, first: bool, agrees: bool | None) -> None:
        """Record the seconds since the token before, or since submission for the first token."""
        (self._first if first else self._between).observe(seconds)
        if agrees is not None:
            self._audited.inc()
            self._agreed.inc(agrees)

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _EngineStats(Collector):
    """A collector of all numbers among an engine's statistics."""

    def __init__(self, engine: BatchEngine):
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        for name, value in vars(self._engine.stats()).items():
            if isinstance(value, int | float):
                family = GaugeMetricFamily if name in NOW else CounterMetricFamily
                yield family(f"shortlist_engine_{name}", f"{name} of the batch engine", value=value)
