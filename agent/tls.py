"""TLS contexts: one for each set of authorities, because making one costs 23 ms."""

from __future__ import annotations

import ssl
from functools import lru_cache

from probes.errors import ConfigError


@lru_cache(maxsize=32)
def client_context(ca_file: str | None) -> ssl.SSLContext:
    """Verifies certificate and name, TLS 1.2 at least. ca_file: a private authority besides the system's.

    Raises ConfigError where the file cannot be read.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{ca_file}: no usable certificates in this ca_file ({error})") from None
    return context
