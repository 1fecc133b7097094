"""How many examples a property is tried on."""

import os


def examples(full: int) -> int:
    """A tenth of them, and at least 20; all with HYPOTHESIS_PROFILE=full, as in `make soak`."""
    return full if os.environ.get("HYPOTHESIS_PROFILE") == "full" else max(20, full // 10)
