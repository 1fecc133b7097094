"""The top floor: one process that wires the probes and the alerts together."""

__version__ = "0.1.0"
