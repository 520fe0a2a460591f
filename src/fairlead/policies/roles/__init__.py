"""Which instances compute prompts, which decode, and which requests are split between them."""

from fairlead.policies.roles.parts import RolesPolicy

__all__ = ["RolesPolicy"]
