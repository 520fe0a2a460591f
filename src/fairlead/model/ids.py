"""Names of things: strings such as `r17` or `i3`, handed out by whoever owns the counter."""

from __future__ import annotations

from typing import NewType

RequestId = NewType("RequestId", str)
InstanceId = NewType("InstanceId", str)
ProgramId = NewType("ProgramId", str)
TenantId = NewType("TenantId", str)

BlockHash = NewType("BlockHash", bytes)
"""Chain hash of a full block: names the block's tokens and everything before them."""
