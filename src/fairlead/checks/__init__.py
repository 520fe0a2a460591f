"""Checks of what is asked, before it is: prompt injection, personal data, and whatever else
somebody has a library for. `protocol.py` is what one's own check is written against."""

from fairlead.checks.protocol import Allow, Check, CheckedCall, Refuse, Replace, Verdict

__all__ = ["Allow", "Check", "CheckedCall", "Refuse", "Replace", "Verdict"]
