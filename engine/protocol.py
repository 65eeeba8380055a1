"""The words that QGIS and the engine exchange: JSON-RPC 2.0, one JSON object a line, UTF-8.

Requests carry an id and a method: a job's name, "describe", or ``live/...``, which is answered
beside the job that runs. The engine answers each with a result or an error, and meanwhile sends
the notifications ``$/progress``, ``$/log`` and ``$/alive``. ``$/cancel`` goes the other way.
Standard library only; Python 3.9.
"""

from __future__ import annotations

import json
from typing import Any

PROGRESS, LOG, ALIVE, CANCEL = "$/progress", "$/log", "$/alive", "$/cancel"

#: Error codes. The second is the Language Server Protocol's RequestCancelled.
USER_ERROR, CANCELLED, BUG, UNKNOWN_JOB = -32001, -32800, -32603, -32601


def pack(message: dict[str, Any]) -> bytes:
    """One message as the bytes of a line."""
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def unpack(line: bytes) -> dict[str, Any] | None:
    """The message in a line of bytes; None when the line is not one (a stray print, say)."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) and message.get("jsonrpc") == "2.0" else None


def request(number: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """A question that wants an answer."""
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def notification(method: str, params: dict[str, Any]) -> dict[str, Any]:
    """Something to tell, without an answer."""
    return {"jsonrpc": "2.0", "method": method, "params": params}


def result(number: object, value: Any) -> dict[str, Any]:
    """The answer to a request."""
    return {"jsonrpc": "2.0", "id": number, "result": value}


def error(number: object, code: int, sentence: str, details: str = "") -> dict[str, Any]:
    """A refusal: one sentence for the user; details (a traceback) for the log."""
    return {
        "jsonrpc": "2.0",
        "id": number,
        "error": {"code": code, "message": sentence, "data": details},
    }
