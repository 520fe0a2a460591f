"""Fairlead: one scheduler for a whole fleet of LLM engines, live and simulated."""

__version__ = "0.1.0"
