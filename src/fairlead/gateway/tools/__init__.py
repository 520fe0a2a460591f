"""Tools: what a call offers its model, what the answer may do with them, and how it is shown."""
