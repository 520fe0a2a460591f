"""The Fleet state machine: every decision above one instance."""

from fairlead.fleet.fleet import Fleet
from fairlead.fleet.limits import Limits
from fairlead.fleet.shadow import Shadow
from fairlead.fleet.tracked import Tracked

__all__ = ["Fleet", "Limits", "Shadow", "Tracked"]
