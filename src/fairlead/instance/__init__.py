"""The Instance state machine: one engine replica."""

from fairlead.instance.instance import Exported, Instance
from fairlead.instance.sequence import Sequence

__all__ = ["Exported", "Instance", "Sequence"]
