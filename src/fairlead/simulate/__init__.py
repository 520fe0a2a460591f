"""The same Fleet and Instances, driven by a heap of events and a virtual clock."""

from fairlead.simulate.run import Simulated, simulate

__all__ = ["Simulated", "simulate"]
