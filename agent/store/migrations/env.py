"""Alembic's entry: runs the migrations on the connection that agent.store.schema hands over."""

from collections.abc import Iterable
from typing import Any

from alembic import context
from alembic.script import ScriptDirectory

from agent.store import schema
from agent.store.tables import metadata

connection = context.config.attributes["connection"]


def declare(*, heads: Iterable[str], **_more: Any) -> None:
    """Beside the version goes what its migration declares: which programs work with it."""
    for revision in heads:
        script = ScriptDirectory.from_config(context.config).get_revision(revision)
        if script is not None:
            schema.declare(connection, revision, getattr(script.module, "works_with", revision))


context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    transaction_per_migration=connection.dialect.name == "postgresql",
    compare_type=True,
    on_version_apply=declare,  # type: ignore[arg-type]  # called by keyword
)
with context.begin_transaction():
    context.run_migrations()
