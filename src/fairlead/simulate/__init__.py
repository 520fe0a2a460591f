"""The same Fleet and Instances, driven by a heap of events and a virtual clock."""
