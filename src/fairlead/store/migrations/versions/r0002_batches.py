"""Files, and offline batches."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("created_s", sa.Float, nullable=False),
    )
    op.create_index("ix_files_tenant", "files", ["tenant", "created_s"])
    op.create_table(
        "batches",
        sa.Column("id", sa.Text, primary_key=True),
        *_required("tenant", "key_id", "endpoint", "input_file", "window", kind=sa.Text),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        *_required("created_s", "expires_s", kind=sa.Float),
        *_required("times", "errors", kind=sa.JSON),
        *_required("total", "completed", "failed", kind=sa.BigInteger),
        sa.Column("output_file", sa.Text),
        sa.Column("error_file", sa.Text),
        sa.Column("checkpoint", sa.JSON, nullable=False),
        *_required("owner", "owner_host", kind=sa.Text),
        sa.Column("lease_s", sa.Float, nullable=False),
    )
    op.create_index("ix_batches_tenant", "batches", ["tenant", "created_s"])
    op.create_index("ix_batches_status", "batches", ["status"])


def downgrade() -> None:
    op.drop_table("batches")
    op.drop_table("files")


def _required(*names: str, kind: Any) -> list[sa.Column[object]]:
    return [sa.Column(name, kind, nullable=False) for name in names]
