"""Alert state, its history, silences and the outbox of notifications."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.store.database import upsert
from agent.store.tables import alerts, silences, transitions
from agent.store.tables import engine_rows as engine_table
from alerts import codec
from alerts.lifecycle import Alert, Transition
from alerts.muting import Silence
from alerts.settings import Match
from alerts.state import EngineState
from alerts.texts import headline


def engine_rows(conn: Connection) -> dict[str, Any]:
    """The engine's rows as alerts.state.from_rows takes them."""
    return {row.key: row.value for row in conn.execute(sa.select(engine_table))}


def write_engine(conn: Connection, write: Mapping[str, Any], delete: Iterable[str]) -> None:
    """Writes what changed of the engine's state."""
    for key, value in write.items():
        upsert(conn, engine_table, ["key"], {"key": key, "value": value})
    for key in delete:
        conn.execute(sa.delete(engine_table).where(engine_table.c.key == key))


def write_alerts(
    conn: Connection, old: EngineState, state: EngineState, changed: Sequence[Transition], now: float
) -> None:
    """Keeps the alerts as people list them, and every transition as history."""
    seen = {t.alert.key: state.alerts.get(t.alert.key, t.alert) for t in changed}
    quiet = {key: alert for key, alert in state.alerts.items() if old.alerts.get(key) is not alert}
    for alert in (quiet | seen).values():
        row = {
            "key": alert.key,
            "status": str(alert.state),
            "severity": alert.severity.value,
            "title": alert_title(alert),
            "since": alert.started,
            "updated_at": now,
            "body": codec.to_json(alert),
        }
        upsert(conn, alerts, ["key"], row)
    for key in old.alerts.keys() - state.alerts.keys():  # it never fired, and is no more
        conn.execute(sa.delete(alerts).where(alerts.c.key == key, alerts.c.status == "pending"))
    for transition in changed:
        alert = seen[transition.alert.key]
        conn.execute(
            sa.insert(transitions).values(
                key=alert.key,
                at=transition.at,
                kind=str(transition.kind),
                severity=alert.severity.value,
                title=alert_title(alert),
                body={"members": list(alert.members), "note": transition.note, "notify": transition.notify},
            )
        )


def alert_title(alert: Alert) -> str:
    """One line that names the alert."""
    return headline(alert)


def alert_rows(conn: Connection, *, open_only: bool = True) -> list[Mapping[str, Any]]:
    """Alerts as people list them, newest first."""
    query = sa.select(alerts).order_by(alerts.c.since.desc())
    if open_only:
        query = query.where(alerts.c.status != "resolved")
    return [dict(row) for row in conn.execute(query).mappings()]


def alert_row(conn: Connection, key: str) -> Mapping[str, Any] | None:
    """One alert by its key."""
    row = conn.execute(sa.select(alerts).where(alerts.c.key == key)).mappings().first()
    return dict(row) if row else None


def history(conn: Connection, key: str | None, limit: int = 200) -> list[Mapping[str, Any]]:
    """Transitions, newest first; of one alert where a key is given."""
    query = sa.select(transitions).order_by(transitions.c.id.desc()).limit(limit)
    if key is not None:
        query = query.where(transitions.c.key == key)
    return [dict(row) for row in conn.execute(query).mappings()]


def active_silences(conn: Connection, now: float) -> list[Silence]:
    """Silences that mute now."""
    query = sa.select(silences).where(silences.c.ends_at > now, silences.c.expired_at.is_(None))
    return [
        Silence(
            str(row["id"]),
            codec.from_json(Match, row["matchers"]),
            row["created_at"],
            row["ends_at"],
            row["author"],
            row["comment"],
        )
        for row in conn.execute(query).mappings()
    ]


def add_silence(conn: Connection, match: Match, now: float, ends: float, author: str, comment: str) -> int:
    """Adds an ad hoc mute; returns its number."""
    added = conn.execute(
        sa.insert(silences).values(
            created_at=now,
            ends_at=ends,
            author=author,
            comment=comment,
            matchers=codec.to_json(match),
        )
    )
    return int(added.inserted_primary_key[0]) if added.inserted_primary_key else 0


def expire_silence(conn: Connection, silence_id: int, now: float) -> bool:
    """Ends a silence early. False where there is no such one."""
    done = conn.execute(
        sa.update(silences)
        .where(silences.c.id == silence_id, silences.c.expired_at.is_(None))
        .values(expired_at=now)
    )
    return done.rowcount == 1
