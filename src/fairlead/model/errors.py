"""The exceptions of Fairlead, one small tree. Inside the core a rejection or a refusal is a value,
never an exception; these are for users' mistakes and the world's.

    FairleadError
      ConfigError        a fleet file, a flag or a trace says something impossible
      ModelError         a model folder is missing, broken or of an unsupported architecture
      ProtocolError      the other end of a connection does not speak our protocol
      RequestError       an HTTP request cannot be served as it is (400, 404, 413 ...)
"""

from __future__ import annotations


class FairleadError(Exception):
    """What was wrong, what was expected, and what to do, in one message."""

    status = 500
    """The HTTP status it becomes."""


class ConfigError(FairleadError):
    status = 400


class ModelError(FairleadError):
    status = 400


class ProtocolError(FairleadError):
    status = 400


class RequestError(FairleadError):
    """A request that cannot be served, with the fields of OpenAI's error object."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.kind = kind
        self.retry_after_s = retry_after_s
