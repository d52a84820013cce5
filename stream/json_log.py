"""A program's own log: JSON lines on standard error."""

import json
import logging
import time

__all__ = ["log_to_stderr"]


class _JsonLines(logging.Formatter):
    """One JSON object a record: time, level, logger, message, and of several processes which one it was."""

    def __init__(self, process: str | None) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{moment}.{int(record.msecs * 1000):06d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self._process is not None:
            line["process"] = self._process
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_to_stderr(process: str | None = None) -> None:
    """Write what is logged to standard error; `process` names this one among several."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines(process))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
