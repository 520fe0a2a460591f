"""How many instances a pool has."""

from fairlead.policies.scaling.parts import PoolView, ScalingPolicy

__all__ = ["PoolView", "ScalingPolicy"]
