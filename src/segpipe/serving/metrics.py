"""What Prometheus reads at `/metrics`."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from segpipe.serving.backends import Served
from segpipe.serving.following import FAILED, LOADED, UNREACHABLE

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """The counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        self.requests = Counter(
            "segpipe_requests", "Requests that were answered", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "segpipe_request_seconds",
            "From a prediction's first byte to its answer",
            buckets=SECONDS,
            registry=registry,
        )
        self.pictures = Counter("segpipe_pictures", "Pictures that were predicted", ["version"], registry=registry)
        self.batch_pictures = Histogram(
            "segpipe_batch_pictures", "Pictures that the network got at once", buckets=SIZES, registry=registry
        )
        self.network_seconds = Histogram(
            "segpipe_network_seconds", "Of the network for a batch", buckets=SECONDS, registry=registry
        )
        self.held = Gauge("segpipe_held_pictures", "Accepted and not answered yet", registry=registry)
        self.model = Gauge(
            "segpipe_model_info",
            "The model that is served",
            ["name", "version", "backend", "weights"],
            registry=registry,
        )
        self.changes = Counter("segpipe_model_changes", "Attempts to follow the alias", ["outcome"], registry=registry)
        self.in_trouble = Gauge(
            "segpipe_model_outdated", "1 where the alias cannot be followed, else 0", registry=registry
        )
        for outcome in (LOADED, FAILED, UNREACHABLE):
            self.changes.labels(outcome)

    def observe_batch(self, number: int, seconds: float) -> None:
        """Counts a batch."""
        self.batch_pictures.observe(number)
        self.network_seconds.observe(seconds)

    def write(self, served: Served, num_held: int, is_in_trouble: bool) -> bytes:
        """Gives the page for Prometheus."""
        self.model.clear()
        self.model.labels(served.name, served.label, served.backend, served.model.weights_sha256[:12]).set(1)
        self.held.set(num_held)
        self.in_trouble.set(is_in_trouble)
        return generate_latest(self.registry)
