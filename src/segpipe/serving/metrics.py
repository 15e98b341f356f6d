"""What Prometheus reads at `/metrics`."""

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from segpipe.serving.following import FAILED, LOADED, MISSING, UNREACHABLE, Follower
from segpipe.serving.roles import Role

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
        self.pictures = Counter(
            "segpipe_pictures", "Pictures that were predicted", ["role", "version"], registry=registry
        )
        self.batch_pictures = Histogram(
            "segpipe_batch_pictures", "Pictures that the network got at once", buckets=SIZES, registry=registry
        )
        self.network_seconds = Histogram(
            "segpipe_network_seconds", "Of the network for a batch", buckets=SECONDS, registry=registry
        )
        self.held = Gauge("segpipe_held_pictures", "Accepted and not answered yet", registry=registry)
        self.model = Gauge(
            "segpipe_model_info",
            "The models that are served",
            ["role", "name", "version", "backend", "weights"],
            registry=registry,
        )
        self.changes = Counter(
            "segpipe_model_changes", "Attempts to follow the alias", ["role", "outcome"], registry=registry
        )
        self.in_trouble = Gauge(
            "segpipe_model_outdated", "1 where the alias cannot be followed, else 0", ["role"], registry=registry
        )

    def count_changes(self, role: Role) -> Callable[[str], None]:
        """Gives what counts the outcomes of following a role's alias; they begin with 0."""
        for outcome in (LOADED, FAILED, UNREACHABLE, MISSING):
            self.changes.labels(role, outcome)
        return lambda outcome: self.changes.labels(role, outcome).inc()

    def observe_batch(self, number: int, seconds: float) -> None:
        """Counts a batch."""
        self.batch_pictures.observe(number)
        self.network_seconds.observe(seconds)

    def write(self, followers: Sequence[Follower], num_held: int) -> bytes:
        """Gives the page for Prometheus."""
        self.model.clear()
        for one in followers:
            if (served := one.served) is not None:
                weights = served.model.weights_sha256[:12]
                self.model.labels(one.role, served.name, served.label, served.backend, weights).set(1)
            self.in_trouble.labels(one.role).set(one.trouble is not None)
        self.held.set(num_held)
        return generate_latest(self.registry)
