"""Who is next in the fleet's queue, where tenants share a fleet."""

from fairlead.policies.fairness.parts import FairnessPolicy, Lane

__all__ = ["FairnessPolicy", "Lane"]
