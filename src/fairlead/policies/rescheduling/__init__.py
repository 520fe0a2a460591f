"""Which sequences move from one instance to another."""

from fairlead.policies.rescheduling.parts import Move, ReschedulingPolicy

__all__ = ["Move", "ReschedulingPolicy"]
