"""The gateway: an OpenAI-compatible HTTP API in front of a fleet."""

from fairlead.gateway.app import Gateway, calm_garbage_collector
from fairlead.gateway.config import GatewayConfig
from fairlead.gateway.driver import Driver
from fairlead.gateway.served import ServedModel

__all__ = ["Driver", "Gateway", "GatewayConfig", "ServedModel", "calm_garbage_collector"]
