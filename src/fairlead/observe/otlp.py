"""Sends traces to an OpenTelemetry collector over HTTP."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fairlead.model import ConfigError

if TYPE_CHECKING:
    from fairlead.observe.traces import Traces

TIMEOUT_S = 2.0
"""For one delivery. What a collector does not take is dropped; no request ever waits for it."""


def open_traces(url: str, epoch_s: float) -> Traces:
    """An observer that traces to the collector at `url`; `epoch_s` is the time since 1970 at zero
    of the clock that it will hear. Raises `ConfigError`."""
    endpoint = traces_address(url)
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from fairlead.observe.traces import Traces
    except ImportError as error:
        raise ConfigError(
            f"gateway.otlp needs OpenTelemetry ({error}); pip install 'fairlead[otel]'"
        ) from error
    # A collector that is away would otherwise fill the gateway's log, several lines a second.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=TIMEOUT_S)
    return Traces(BatchSpanProcessor(exporter), epoch_s)


def traces_address(url: str) -> str:
    """The address that was given, with the usual path where it has none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(
            f"gateway.otlp {url!r} is no address; write http://HOST:4318, where a collector takes "
            "OTLP over HTTP"
        )
    return url if parts.path.strip("/") else f"{url.rstrip('/')}/v1/traces"
