"""Logging of every process: structlog, one JSON object per line on stdout, and into a file when one is named.

It does not decide what is logged. Event names are static, data goes into attributes, and numbers, transcripts, audio
and secrets are not logged at all.
"""

import logging
import sys
from collections.abc import Mapping
from typing import Any

import structlog
from structlog.typing import EventDict, Processor


def configure(level: str, file: str = "", **context: str | int) -> None:
    """Sets up logging for this process; `context` (for example worker=...) stands on every line it writes."""
    targets: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if file:
        targets.append(logging.FileHandler(file))
    logging.basicConfig(level=level, format="%(message)s", handlers=targets, force=True)
    # Libraries below us report their own troubles; what they say at INFO repeats what our events already say.
    for library in ("aiohttp", "asyncio", "azure", "redis"):
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    # It logs each attempt that fails, for as long as its collector is away; `shared/telemetry/export.py` says it once.
    logging.getLogger("opentelemetry").setLevel(level if level == "DEBUG" else logging.CRITICAL)
    structlog.configure(
        processors=[
            _always(context),
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _what_first,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _always(context: Mapping[str, str | int]) -> Processor:
    """Puts the process's context on every line: not by context variables, which pjsip's threads lack."""
    return lambda _logger, _method, entry: {**context, **entry}


def _what_first(_logger: Any, _method: str, entry: EventDict) -> EventDict:
    """Puts time, level and event before the data, for the people who read the lines."""
    head = {name: entry.pop(name) for name in ("timestamp", "level", "event") if name in entry}
    return head | dict(entry)
