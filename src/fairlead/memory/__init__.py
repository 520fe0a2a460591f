"""KV memory: blocks, the names by which prefixes are found, and the need to come."""

from fairlead.memory.blocks import BlockPool
from fairlead.memory.peak import future_peak, worst_future_peak
from fairlead.memory.prefix import chain_hashes, next_hash, root_hash

__all__ = [
    "BlockPool",
    "chain_hashes",
    "future_peak",
    "next_hash",
    "root_hash",
    "worst_future_peak",
]
