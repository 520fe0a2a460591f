"""The tables. What changes here needs a migration in `migrations/versions`.

Other parts of the gateway put their tables here as well, into the same `METADATA`.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

TENANTS = Table(
    "tenants",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("settings", JSON, nullable=False),  # Of `Tenant`, those that are not at their default.
    Column("created_s", Float, nullable=False),
)

KEYS = Table(
    "keys",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, ForeignKey("tenants.name"), nullable=False, index=True),
    Column("role", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),  # SHA-256 of the key.
    Column("label", Text, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("expires_s", Float),
    Column("revoked_s", Float),
)

CHANGES = Table(
    "changes",
    METADATA,
    Column("what", Text, primary_key=True),  # "tenants": tenants or their keys.
    Column("n", BigInteger, nullable=False),  # Counts up with every change.
)

CALLS = Table(
    "calls",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("ended_s", Float, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),  # Of the prompt's.
    Column("output_tokens", BigInteger, nullable=False),
    Index("ix_calls_ended_s", "ended_s"),
)
"""The ledger: one row for every call of which anything was delivered or computed."""

TOTALS = Table(
    "totals",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("key_id", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("day", Integer, primary_key=True),  # Days since 1970, UTC.
    Column("calls", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
)
"""Sums of the ledger, written in the same transaction; they stay when old calls are deleted."""

RATES = Table(
    "rates",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("what", Text, primary_key=True),  # requests or tokens
    Column("used", Float, nullable=False),  # Runs off at a minute's limit in a minute.
    Column("as_of_s", Float, nullable=False),
)

UNDER_WAY = Table(
    "under_way",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("gateway", Text, primary_key=True),
    Column("n", Integer, nullable=False),
    Column("as_of_s", Float, nullable=False),
)
"""Answers under way at each gateway; what is old is of one that has died."""

FILES = Table(
    "files",
    METADATA,
    Column("id", Text, primary_key=True),  # Also its name in the folder of files.
    Column("tenant", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_s", Float, nullable=False),
    Index("ix_files_tenant", "tenant", "created_s"),
)
"""Files that are whole: uploaded ones, and those that batches have written."""

BATCHES = Table(
    "batches",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("input_file", Text, nullable=False),
    Column("window", Text, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("expires_s", Float, nullable=False),
    Column("times", JSON, nullable=False),  # When it came to each status.
    Column("errors", JSON, nullable=False),
    Column("total", BigInteger, nullable=False),  # Lines; what was counted before it began.
    Column("completed", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("output_file", Text),
    Column("error_file", Text),
    Column("checkpoint", JSON, nullable=False),
    Column("owner", Text, nullable=False),  # The gateway that runs it; "" where none does.
    Column("owner_host", Text, nullable=False),
    Column("lease_s", Float, nullable=False),  # Until when others leave it alone.
    Index("ix_batches_tenant", "tenant", "created_s"),
    Index("ix_batches_status", "status"),
)
"""Offline batches, with how far they have come."""
