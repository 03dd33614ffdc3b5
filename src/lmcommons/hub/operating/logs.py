"""What the hub writes to standard error: one line a record, as text or JSON, and no secret in any of them."""

import json
import logging
import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

REQUESTS = "lmcommons.hub.requests"  # the logger that gets one record a request

SECRETS = re.compile(
    r"""(?P<before>
          \b(?:bearer|basic)\s+  # credentials in a header
        | \b(?:access_?token|token|password|secret|sig|signature|x-amz-[a-z-]+)["']?\s*[=:]\s*["']?  # in a query
        | ://[^\s/:@]*:(?=[^\s/@]+@)  # in an address
        )
        (?P<secret>[^\s&"',;@]+)
      | \bhf_(?:oauth_|jwt_)?[A-Za-z0-9]{16,}                                     # a hub's token
    """,
    re.VERBOSE | re.IGNORECASE,
)


class LogFormat(StrEnum):
    """How a line looks: for people, or for a program."""

    TEXT = "text"
    JSON = "json"


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return self.line(at, record.levelname.lower(), redact(text), getattr(record, "fields", {}))

    def line(self, at: str, level: str, text: str, fields: dict[str, Any]) -> str:
        raise NotImplementedError


class TextLines(_Lines):
    """`2026-01-31T12:00:00.000Z info GET /api/models/{namespace}/{name} status=200 …`."""

    def line(self, at: str, level: str, text: str, fields: dict[str, Any]) -> str:
        """One record; a traceback, of which the hub should have none, takes several lines."""
        return " ".join((at, level, text, *(f"{name}={value}" for name, value in fields.items())))


class JsonLines(_Lines):
    """A JSON object a line: `at`, `level`, `message`, and the record's own fields."""

    def line(self, at: str, level: str, text: str, fields: dict[str, Any]) -> str:
        """One record."""
        return json.dumps({"at": at, "level": level, "message": text, **fields}, ensure_ascii=False)


def redact(text: str) -> str:
    """`text` without tokens, passwords and signatures."""
    return SECRETS.sub(lambda found: f"{found['before'] or ''}[hidden]", text)


def configuration(form: LogFormat, level: str) -> dict[str, Any]:
    """The logging of a hub's process, as `logging.config.dictConfig` takes it."""
    formatter = TextLines if form is LogFormat.TEXT else JsonLines
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": {"()": formatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "lines"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {"lmcommons": {"level": level.upper()}},
    }
