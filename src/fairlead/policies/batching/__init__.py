"""What one instance runs next: order, admission, victim, budget."""

from fairlead.policies.batching.parts import (
    Admission,
    Batching,
    BatchView,
    Budget,
    Order,
    Victim,
)

__all__ = ["Admission", "BatchView", "Batching", "Budget", "Order", "Victim"]
