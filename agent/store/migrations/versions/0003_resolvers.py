"""What each resolver says of a listing, side by side, and which ones an agent asks; sweeps in parts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = works_with = "0002"
branch_labels = None
depends_on = None

OPEN = sa.text("delisted_at IS NULL")
TWICE = """
UPDATE listings SET delisted_at = last_seen, ended = 'delisted' WHERE delisted_at IS NULL AND EXISTS (
    SELECT 1 FROM listings AS other WHERE other.subject = listings.subject AND other.zone = listings.zone
    AND other.delisted_at IS NULL AND other.since > listings.since)
"""


def upgrade() -> None:
    op.add_column("agents", sa.Column("resolvers", sa.JSON(), nullable=True))
    op.add_column("listings", sa.Column("views", sa.JSON(), nullable=True))
    op.execute(TWICE)
    op.create_index(
        "ix_listings_open",
        "listings",
        ["subject", "zone"],
        unique=True,
        sqlite_where=OPEN,
        postgresql_where=OPEN,
    )
    op.execute("UPDATE settings SET key = 'blocklist-sweep/0' WHERE key = 'blocklist-sweep'")


def downgrade() -> None:
    op.execute("DELETE FROM settings WHERE key = 'blocklist-sweep'")
    op.execute("UPDATE settings SET key = 'blocklist-sweep' WHERE key = 'blocklist-sweep/0'")
    op.execute("DELETE FROM settings WHERE key LIKE 'blocklist-sweep/%'")
    op.drop_index("ix_listings_open", "listings")
    op.drop_column("listings", "views")
    op.drop_column("agents", "resolvers")
