"""What the dashboard and `fairlead top` show: the fleet now, and its last minutes."""

from fairlead.observe.window.changes import apply, difference
from fairlead.observe.window.window import Window

__all__ = ["Window", "apply", "difference"]
