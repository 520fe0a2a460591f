"""Which instance gets a request."""

from fairlead.policies.routing.parts import RoutingPolicy

__all__ = ["RoutingPolicy"]
