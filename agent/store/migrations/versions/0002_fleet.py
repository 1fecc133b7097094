"""Several agents on one store: memberships, leases that hang on them, who sends a canary, config versions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

AGENTS = ("epoch", "expires_at", "state", "region", "addresses", "config_hash", "detail", "lag")


def upgrade() -> None:
    with op.batch_alter_table("agents") as agents:
        agents.add_column(sa.Column("epoch", sa.Integer(), server_default="0", nullable=False))
        agents.add_column(sa.Column("expires_at", sa.Float(), server_default="0", nullable=False))
        agents.add_column(sa.Column("state", sa.String(), server_default="", nullable=False))
        agents.add_column(sa.Column("region", sa.String(), server_default="", nullable=False))
        agents.add_column(sa.Column("addresses", sa.JSON(), nullable=True))
        agents.add_column(sa.Column("config_hash", sa.String(), server_default="", nullable=False))
        agents.add_column(sa.Column("detail", sa.Text(), server_default="", nullable=False))
        agents.add_column(sa.Column("lag", sa.Float(), server_default="0", nullable=False))
    op.drop_table("leases")
    op.create_table(
        "leases",
        sa.Column("resource", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("resource", name=op.f("pk_leases")),
    )
    # In place: to copy a history of canaries would take the store away for minutes.
    op.add_column("canaries", sa.Column("epoch", sa.Integer(), server_default="0", nullable=False))
    op.create_table(
        "config_versions",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("activated_at", sa.Float(), nullable=False),
        sa.Column("activated_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_config_versions")),
    )


def downgrade() -> None:
    op.drop_table("config_versions")
    op.drop_column("canaries", "epoch")
    op.drop_table("leases")
    op.create_table(
        "leases",
        sa.Column("resource", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("resource", name=op.f("pk_leases")),
    )
    with op.batch_alter_table("agents") as agents:
        for name in AGENTS:
            agents.drop_column(name)
