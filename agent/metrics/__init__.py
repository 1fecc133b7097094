"""What Prometheus sees. Counters and histograms live in the process, gauges are rebuilt from the store."""

from agent.metrics.process import Metrics

__all__ = ["Metrics"]
