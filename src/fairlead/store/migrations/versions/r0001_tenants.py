"""Tenants, their keys, the ledger of calls, and what gateways share about limits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tenants",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("created_s", sa.Float, nullable=False),
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("tenant", sa.Text, sa.ForeignKey("tenants.name"), nullable=False, index=True),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("created_s", sa.Float, nullable=False),
        sa.Column("expires_s", sa.Float),
        sa.Column("revoked_s", sa.Float),
    )
    op.create_table(
        "changes",
        sa.Column("what", sa.Text, primary_key=True),
        sa.Column("n", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "calls",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("tier", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("ended_s", sa.Float, nullable=False, index=True),
        *_tokens(),
    )
    op.create_table(
        "totals",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True),
        sa.Column("calls", sa.BigInteger, nullable=False),
        *_tokens(),
    )
    op.create_table(
        "rates",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("what", sa.Text, primary_key=True),
        sa.Column("used", sa.Float, nullable=False),
        sa.Column("as_of_s", sa.Float, nullable=False),
    )
    op.create_table(
        "under_way",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("gateway", sa.Text, primary_key=True),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("as_of_s", sa.Float, nullable=False),
    )


def downgrade() -> None:
    for table in ("under_way", "rates", "totals", "calls", "changes", "keys", "tenants"):
        op.drop_table(table)


def _tokens() -> list[sa.Column[int]]:
    names = ("prompt_tokens", "cached_tokens", "output_tokens")
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]
