"""One schema for SQLite and PostgreSQL. Wall times are seconds since the epoch, UTC, as floats."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
    true,
)

BigId = BigInteger().with_variant(Integer(), "sqlite")
"""A year of a fleet's rows, and a UID (32 bits without a sign), need more than PostgreSQL's integer holds."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

settings = Table(
    "settings",
    metadata,
    Column("key", String(), primary_key=True),
    Column("value", JSON, nullable=False),
)

token_keys = Table(
    "token_keys",
    metadata,
    Column("id", String(), primary_key=True),
    Column("key", LargeBinary, nullable=False),
    Column("created_at", Float, nullable=False),
)

agents = Table(
    "agents",
    metadata,
    Column("holder", String(), primary_key=True),
    Column("name", String(), nullable=False),
    Column("version", String(), nullable=False),
    Column("listen", String(), nullable=False),
    Column("started_at", Float, nullable=False),
    Column("heartbeat_at", Float, nullable=False),
    Column("epoch", Integer, nullable=False, server_default="0"),
    Column("expires_at", Float, nullable=False, server_default="0"),
    Column("state", String(), nullable=False, server_default=""),
    Column("region", String(), nullable=False, server_default=""),
    Column("addresses", JSON),
    Column("config_hash", String(), nullable=False, server_default=""),
    Column("detail", Text, nullable=False, server_default=""),
    Column("lag", Float, nullable=False, server_default="0"),
    Column("resolvers", JSON),
)

leases = Table(
    "leases",
    metadata,
    Column("resource", String(), primary_key=True),
    Column("holder", String(), nullable=False),
    Column("epoch", Integer, nullable=False),
)

config_versions = Table(
    "config_versions",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("hash", String(), nullable=False),
    Column("body", Text, nullable=False),
    Column("activated_at", Float, nullable=False),
    Column("activated_by", String(), nullable=False),
)

schedules = Table(
    "schedules",
    metadata,
    Column("name", String(), primary_key=True),
    Column("due_at", Float, nullable=False),
    Column("last_at", Float),
    Column("count", Integer, nullable=False),
    Index("ix_schedules_due_at", "due_at"),
)

paces = Table(
    "paces",
    metadata,
    Column("name", String(), primary_key=True),
    Column("free_at", Float, nullable=False),
)

canaries = Table(
    "canaries",
    metadata,
    Column("id", String(), primary_key=True),
    Column("token", String(), nullable=False),
    Column("message_id", String(), nullable=False),
    Column("sender", String(), nullable=False),
    Column("seed", String(), nullable=False),
    Column("provider", String(), nullable=False),
    Column("round", String(), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("created_monotonic", Float, nullable=False),
    Column("boot", String(), nullable=False),
    Column("deadline", Float, nullable=False),
    Column("late_after", Float, nullable=False),
    Column("state", String(), nullable=False),
    Column("version", Integer, nullable=False),
    Column("due_at", Float),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("retry_at", Float),
    Column("soft", Boolean, nullable=False, server_default=true()),
    Column("accepted_at", Float),
    Column("accepted_monotonic", Float),
    Column("accepted_boot", String()),
    Column("reply", JSON),
    Column("stages", JSON),
    Column("placement", String()),
    Column("category", String(), nullable=False, server_default=""),
    Column("outcome", String()),
    Column("reason", String(), nullable=False, server_default=""),
    Column("settled_at", Float),
    Column("seen_at", Float),
    Column("latency", Float),
    Column("folder", String(), nullable=False, server_default=""),
    Column("late", Boolean, nullable=False, server_default=false()),
    Column("duplicates", Integer, nullable=False, server_default="0"),
    Column("verdicts", JSON),
    Column("evidence", JSON),
    Column("epoch", Integer, nullable=False, server_default="0"),
    Index("ix_canaries_due_at", "due_at"),
    Index("ix_canaries_route", "sender", "seed", "created_at"),
    Index("ix_canaries_seed_created", "seed", "created_at"),
    Index(
        "ix_canaries_round", "round", sqlite_where=text("round <> ''"), postgresql_where=text("round <> ''")
    ),
    sqlite_with_rowid=False,  # ids grow with time: rows are appended to the one tree there is
)

KEPT, THERE = "header IS NOT NULL", "deleted_at IS NULL"
sightings = Table(
    "sightings",
    metadata,
    Column("seed", String(), primary_key=True),
    Column("folder", String(), primary_key=True),
    Column("uidvalidity", BigId, primary_key=True, autoincrement=False),
    Column("uid", BigId, primary_key=True, autoincrement=False),
    Column("canary", String(), nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("header", LargeBinary),
    Column("deleted_at", Float),
    Index("ix_sightings_canary", "canary"),
    # Small ones, of what is still to be dropped and to be deleted: history grows behind them.
    Index("ix_sightings_kept", "seen_at", sqlite_where=text(KEPT), postgresql_where=text(KEPT)),
    Index("ix_sightings_there", "seed", "seen_at", sqlite_where=text(THERE), postgresql_where=text(THERE)),
)

mailboxes = Table(
    "mailboxes",
    metadata,
    Column("seed", String(), primary_key=True),
    Column("readable", Boolean, nullable=False),
    Column("reason", String(), nullable=False),
    Column("detail", Text, nullable=False),
    Column("since", Float, nullable=False),
    Column("scanned_at", Float),
    Column("state", JSON),
)

senders = Table(
    "senders",
    metadata,
    Column("sender", String(), primary_key=True),
    Column("usable", Boolean, nullable=False),
    Column("detail", Text, nullable=False),
    Column("since", Float, nullable=False),
)

listings = Table(
    "listings",
    metadata,
    Column("subject", String(), primary_key=True),
    Column("zone", String(), primary_key=True),
    Column("since", Float, primary_key=True),
    Column("last_seen", Float, nullable=False),
    Column("delisted_at", Float),
    Column("ended", String(), nullable=False, server_default=""),
    Column("codes", JSON, nullable=False),
    Column("meaning", Text, nullable=False),
    Column("txt", Text, nullable=False),
    Column("severity", String(), nullable=False),
    Column("delist_url", Text, nullable=False),
    Column("views", JSON),
    Index("ix_listings_delisted_at", "delisted_at"),
    # Of several agents that see a listing begin, one keeps it.
    Index(
        "ix_listings_open",
        "subject",
        "zone",
        unique=True,
        sqlite_where=text("delisted_at IS NULL"),
        postgresql_where=text("delisted_at IS NULL"),
    ),
)

zones = Table(
    "zones",
    metadata,
    Column("zone", String(), primary_key=True),
    Column("resolver", String(), primary_key=True),
    Column("healthy", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("since", Float, nullable=False),
    Column("swept_at", Float, nullable=False),
    Column("counts", JSON, nullable=False),
)

record_states = Table(
    "record_states",
    metadata,
    Column("domain", String(), primary_key=True),
    Column("at", Float, nullable=False),
    Column("outcome", String(), nullable=False),
    Column("records", JSON, nullable=False),
    Column("faults", JSON, nullable=False),
    Column("selectors", JSON, nullable=False),
    Column("report", JSON, nullable=False),
)

record_events = Table(
    "record_events",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("domain", String(), nullable=False),
    Column("kind", String(), nullable=False),
    Column("name", String(), nullable=False),
    Column("rdtype", String(), nullable=False),
    Column("before", JSON, nullable=False),
    Column("after", JSON, nullable=False),
    Column("ttl", Float, nullable=False),
    Column("servers", JSON, nullable=False),
    Column("others", JSON, nullable=False),
    Column("expected", Boolean, nullable=False),
    Column("senders", JSON, nullable=False),
    Index("ix_record_events_domain", "domain", "at"),
    Index("ix_record_events_at", "at"),
)

observations = Table(
    "observations",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("kind", String(), nullable=False),
    Column("body", JSON, nullable=False),
)

engine_rows = Table(
    "engine_rows",
    metadata,
    Column("key", String(), primary_key=True),
    Column("value", JSON, nullable=False),
)

alerts = Table(
    "alerts",
    metadata,
    Column("key", String(), primary_key=True),
    Column("status", String(), nullable=False),
    Column("severity", String(), nullable=False),
    Column("title", Text, nullable=False),
    Column("since", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("body", JSON, nullable=False),
)

transitions = Table(
    "transitions",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("key", String(), nullable=False),
    Column("at", Float, nullable=False),
    Column("kind", String(), nullable=False),
    Column("severity", String(), nullable=False),
    Column("title", Text, nullable=False),
    Column("body", JSON, nullable=False),
    Index("ix_transitions_key", "key", "at"),
    Index("ix_transitions_at", "at"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("seq", BigId, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False),
    Column("dedup_key", String(), nullable=False),
    Column("receiver", String(), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("due_at", Float),
    Column("leased_until", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("sent_at", Float),
    Column("gave_up_at", Float),
    Column("error", Text, nullable=False),
    Column("body", JSON, nullable=False),
    UniqueConstraint("id"),
    Index("ix_outbox_due_at", "receiver", "due_at"),
    Index("ix_outbox_dedup_key", "receiver", "dedup_key", "seq"),
)

silences = Table(
    "silences",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("created_at", Float, nullable=False),
    Column("ends_at", Float, nullable=False),
    Column("author", String(), nullable=False),
    Column("comment", Text, nullable=False),
    Column("matchers", JSON, nullable=False),
    Column("expired_at", Float),
)

rounds = Table(
    "rounds",
    metadata,
    Column("id", String(), primary_key=True),
    Column("key", String()),
    Column("kind", String(), nullable=False),
    Column("who", String(), nullable=False),
    Column("state", String(), nullable=False),
    Column("started_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("params", JSON, nullable=False),
    Column("held", JSON, nullable=False),
    Column("around", JSON, nullable=False),
    Column("outcome", String()),
    Column("verdict", JSON),
    UniqueConstraint("key"),
    Index("ix_rounds_state", "state"),
    Index("ix_rounds_started_at", "started_at"),
)

changes = Table(
    "changes",
    metadata,
    Column("id", String(), primary_key=True),
    Column("title", Text, nullable=False),
    Column("who", String(), nullable=False),
    Column("state", String(), nullable=False),
    Column("started_at", Float, nullable=False),
    Column("ends_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("params", JSON, nullable=False),
    Column("before_round", String()),
    Column("after_round", String()),
    Column("silence", BigId),
    Column("outcome", String()),
    Column("verdict", JSON),
    Column("watch", JSON, nullable=False),
    Index("ix_changes_state", "state"),
    Index("ix_changes_started_at", "started_at"),
)
