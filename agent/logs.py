"""Logs with fields: text on a terminal, JSON lines elsewhere. Secrets never come this far."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog

from agent.forms.cells import clean

QUIET = ("aiosmtplib", "aioimaplib", "aiohttp.access", "apprise", "asyncio", "mail.log", "alembic")
"""Libraries whose debug output may hold credentials or message text: warnings at most."""


def _clean(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """What servers and strangers say may stand in a field: it must move no terminal's cursor."""
    return {name: clean(value) if isinstance(value, str) else value for name, value in event.items()}


def configure(format_: Literal["auto", "text", "json"] = "auto", level: str = "info") -> None:
    """Sends every log to standard error."""
    as_json = format_ == "json" or (format_ == "auto" and not sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    shared: list[structlog.typing.Processor] = [
        _clean,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer]
        if as_json
        else [*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
