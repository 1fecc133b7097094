"""A second look at every write, by the database itself: triggers that note what a fleet must never do.

They run at each commit and ask nobody's permission: a write by a process whose membership had ended, and a
canary that got its verdict twice, are found even where the agents' own checks are wrong.
"""

from __future__ import annotations

from tests.fakes.postgres import Postgres

WATCHED = (
    "canaries",
    "sightings",
    "observations",
    "alerts",
    "transitions",
    "outbox",
    "schedules",
    "mailboxes",
)
TABLES = """
CREATE TABLE audit_stale (at timestamptz, app text, what text);
CREATE TABLE audit_settled (id text);
CREATE FUNCTION audit_stale() RETURNS trigger AS $$
DECLARE app text := current_setting('application_name');
BEGIN
  IF app LIKE 'mailcanary:%' AND NOT EXISTS (
    SELECT FROM agents WHERE split_part(holder, ':', 3) = split_part(app, ':', 2) AND state <> 'lost'
  ) THEN
    INSERT INTO audit_stale VALUES (clock_timestamp(), app, TG_OP || ' ' || TG_TABLE_NAME);
  END IF;
  RETURN NULL;
END $$ LANGUAGE plpgsql;
CREATE FUNCTION audit_settled() RETURNS trigger AS $$
BEGIN
  INSERT INTO audit_settled VALUES (NEW.id);
  RETURN NULL;
END $$ LANGUAGE plpgsql;
CREATE TRIGGER audit_settled AFTER UPDATE ON canaries FOR EACH ROW
  WHEN (OLD.settled_at IS NULL AND NEW.settled_at IS NOT NULL) EXECUTE FUNCTION audit_settled();
"""
TRIGGER = """
CREATE CONSTRAINT TRIGGER audit_{table} AFTER INSERT OR UPDATE OR DELETE ON {table}
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_stale();
"""


def watch(server: Postgres, database: str) -> None:
    """Puts the triggers into a database that has the schema."""
    server.sql(TABLES + "".join(TRIGGER.format(table=table) for table in WATCHED), database)


def stale_writes(server: Postgres, database: str) -> list[tuple[object, ...]]:
    """Writes by agents that were no members any more: (when, who, what)."""
    return server.sql("SELECT * FROM audit_stale ORDER BY at", database)


def settled_twice(server: Postgres, database: str) -> list[tuple[object, ...]]:
    """Canaries that got a first verdict more than once: (id, times)."""
    return server.sql("SELECT id, count(*) FROM audit_settled GROUP BY id HAVING count(*) > 1", database)
