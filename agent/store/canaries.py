"""Canary rows: inserted as intents, advanced by compare-and-swap, read back as values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from agent.store.database import Tx
from agent.store.json_text import to_text
from agent.store.paging import pages
from agent.store.prepared import Prepared
from agent.store.tables import canaries, sightings
from agent.store.verdicts import newest_settled
from probes.canary.state import Canary, Moment, Reply, State
from probes.canary.token import token_time
from probes.errors import DataError, StaleWrite
from probes.outcome import Evidence, Outcome, Placement

MOVING = (
    "state",
    "due_at",
    "attempts",
    "retry_at",
    "soft",
    "accepted_at",
    "accepted_monotonic",
    "accepted_boot",
    "reply",
    "stages",
    "placement",
    "category",
    "outcome",
    "reason",
    "settled_at",
    "seen_at",
    "latency",
    "folder",
    "late",
    "duplicates",
    "verdicts",
    "evidence",
    "epoch",
)

# A new intent has nothing but what it was made with: the other columns have their defaults in the schema.
INTENT = (
    "id",
    "token",
    "message_id",
    "sender",
    "seed",
    "provider",
    "round",
    "created_at",
    "created_monotonic",
    "boot",
    "deadline",
    "late_after",
    "state",
    "version",
    "due_at",
    "epoch",
)

UNJUDGED = [s.value for s in (State.INTENDED, State.DEFERRED, State.SENT, State.UNCONFIRMED)]

_insert = Prepared(sa.insert(canaries), INTENT)
_update = Prepared(
    sa.update(canaries)
    .where(canaries.c.id == sa.bindparam("key_id"), canaries.c.version == sa.bindparam("seen_version"))
    .values({name: sa.bindparam(name) for name in (*MOVING, "version")}),
    (*MOVING, "version", "key_id", "seen_version"),
)
_sight = Prepared(
    sa.text(
        "INSERT INTO sightings (seed, folder, uidvalidity, uid, canary, seen_at, header) VALUES "
        "(:seed, :folder, :uidvalidity, :uid, :canary, :seen_at, CASE WHEN (SELECT count(*) FROM sightings "
        "WHERE canary = :canary AND header IS NOT NULL) < :most THEN :header END) ON CONFLICT DO NOTHING"
    ),
    ("seed", "folder", "uidvalidity", "uid", "canary", "seen_at", "most", "header"),
)


_sighted = Prepared(
    sa.select(sightings.c.canary).where(
        *(column == sa.bindparam(f"at_{column.name}") for column in sightings.primary_key.columns)
    ),
    tuple(f"at_{column.name}" for column in sightings.primary_key.columns),
)


COLUMNS = tuple(column.name for column in canaries.columns)
_one = sa.select(canaries).where(canaries.c.id == sa.bindparam("wanted"))
_get = Prepared(_one, ("wanted",))
_hold = Prepared(_one.with_for_update(), ("wanted",))


def insert(tx: Tx, canary: Canary) -> None:
    """Records an intent. Must be committed before MAIL FROM is said."""
    created = canary.created
    row = (
        canary.id,
        canary.token,
        canary.message_id,
        canary.sender,
        canary.seed,
        canary.provider,
        canary.round,
        created.wall,
        created.monotonic,
        created.boot,
        canary.deadline,
        canary.late_after,
        canary.state.value,
        canary.version,
        canary.due_at,
        canary.epoch,
    )
    tx.insert(_insert, row, canary.id, canary.seed)


def save(tx: Tx, canary: Canary, seen: Canary) -> None:
    """Advances the row from `seen` to `canary`. Raises StaleWrite where somebody else has moved it."""
    if canary is seen:
        return
    row = (*_moving(canary), seen.version + 1, canary.id, seen.version)
    if _update.run(tx.conn, [row]) != 1:
        raise StaleWrite(f"canary {canary.id}")


def get(conn: Connection, canary_id: str) -> Canary | None:
    """One canary by id."""
    row = _get.first(conn, canary_id)
    return _canary(dict(zip(COLUMNS, row, strict=True))) if row else None


def hold(conn: Connection, canary_id: str) -> Canary | None:
    """The same for one who is going to move it: no other agent does before this transaction ends."""
    row = _hold.first(conn, canary_id)
    return _canary(dict(zip(COLUMNS, row, strict=True))) if row else None


def id_of(token: str) -> str:
    """The id of the canary that bears the token: grows with time, and tells nothing of the token's secret.

    Rows are found by token through it, so that the token needs no index of its own. Raises DataError.
    """
    digest = hashlib.blake2b(token.encode(), digest_size=8).hexdigest()
    return f"{round(token_time(token) * 1000):012x}{digest}"


def by_token(conn: Connection, token: str) -> Canary | None:
    """The canary that bears the token."""
    try:
        found = get(conn, id_of(token))
    except DataError:
        return None
    return found if found is not None and found.token == token else None


def by_message_id(conn: Connection, message_id: str) -> Canary | None:
    """The canary that was sent under the Message-ID (RFC 5322 section 3.6.4)."""
    return _first(conn, sa.select(canaries).where(canaries.c.message_id == message_id))


class Waits(NamedTuple):
    """What tells whose turn it is to look at a canary that comes due."""

    seed: str
    sender: str
    state: str
    epoch: int
    due_at: float


_WAITS = tuple(canaries.c[name] for name in Waits._fields)
Mine = Callable[[Waits], bool]


def due(conn: Connection, now: float, mine: Mine, limit: int = 1000) -> list[Canary]:
    """What has come due and is the asker's, oldest first."""
    c = canaries.c
    query = sa.select(c.id, *_WAITS).where(c.due_at <= now).order_by(c.due_at, c.id)
    come = pages(conn, query, lambda last: sa.tuple_(c.due_at, c.id) > sa.tuple_(last.due_at, last.id))
    wanted = list(islice((row[0] for row in come if mine(Waits(*row[1:]))), limit))
    return sorted(several(conn, wanted), key=lambda canary: canary.due_at or 0.0)


def several(conn: Connection, ids: Sequence[str]) -> list[Canary]:
    """Canaries by id, those that are there, in no order."""
    chunks = [ids[start : start + 500] for start in range(0, len(ids), 500)]
    return [one for some in chunks for one in _all(conn, sa.select(canaries).where(canaries.c.id.in_(some)))]


NEXT = (16, 512)
"""Rows that are looked at for the next that is the asker's: at first, and where none of those is."""


def next_due(conn: Connection, after: float, mine: Mine) -> float | None:
    """When the asker's next canary comes due, seconds since the epoch; sooner where it is not found soon."""
    last = None
    for limit in NEXT:
        query = sa.select(*_WAITS).where(canaries.c.due_at > after).order_by(canaries.c.due_at).limit(limit)
        rows = [Waits(*row) for row in conn.execute(query)]
        found = next((row.due_at for row in rows if mine(row)), None)
        if found is not None or len(rows) < limit:
            return found
        last = rows[-1].due_at
    return last


SEEDS = 10_000
"""Mailboxes that are named in one query."""


def awaited(conn: Connection, seeds: Sequence[str], until: float) -> list[Canary]:
    """The canaries to these mailboxes that have no verdict yet, each mailbox's oldest first. until: by then
    each of them comes due; those that have theirs come due days later, and are not walked through."""
    found: list[Canary] = []
    for start in range(0, len(seeds), SEEDS):
        some = canaries.c.seed.in_(seeds[start : start + SEEDS])
        query = sa.select(canaries).where(canaries.c.due_at <= until, some, canaries.c.state.in_(UNJUDGED))
        found += _all(conn, query.order_by(canaries.c.created_at))
    return found


def unsettled(conn: Connection, seed: str, before: float) -> list[Canary]:
    """What was sent to a mailbox, has no verdict and came due before then: what a scan may settle."""
    waiting = canaries.c.state.in_([State.SENT.value, State.UNCONFIRMED.value])
    query = sa.select(canaries).where(canaries.c.due_at <= before, canaries.c.seed == seed, waiting)
    return _all(conn, query)


def orphans(conn: Connection, living: Collection[int]) -> list[Canary]:
    """Open intents of lives of agents that have ended."""
    query = sa.select(canaries).where(canaries.c.state == State.INTENDED.value)
    return _all(conn, query.where(canaries.c.due_at.is_not(None), canaries.c.epoch.not_in(living)))


def everything(conn: Connection) -> list[Canary]:
    """Every canary there is, oldest first."""
    return _all(conn, sa.select(canaries).order_by(canaries.c.created_at))


def in_states(conn: Connection, *states: State) -> list[Canary]:
    """Every canary in one of the states."""
    return _all(conn, sa.select(canaries).where(canaries.c.state.in_([s.value for s in states])))


def of_route(conn: Connection, sender: str, seed: str, limit: int = 20) -> list[Canary]:
    """A route's canaries, newest first."""
    query = sa.select(canaries).where(canaries.c.sender == sender, canaries.c.seed == seed)
    return _all(conn, query.order_by(canaries.c.created_at.desc()).limit(limit))


def of_round(conn: Connection, round_id: str) -> list[Canary]:
    """A round's canaries."""
    return _all(conn, sa.select(canaries).where(canaries.c.round == round_id))


def latest_settled(conn: Connection, routes: Sequence[tuple[str, str]]) -> list[Canary]:
    """The newest canary with an outcome of each of the routes (sender, seed)."""
    return several(conn, list(newest_settled(conn, routes).values()))


MOST_HEADERS = 8
"""Copies of one canary whose headers are kept: whoever has seen its token can send it again and again."""


def sight(tx: Tx, seed: str, place: tuple[str, int, int], canary_id: str, at: float, header: bytes) -> bool:
    """Notes a message (folder, UIDVALIDITY, UID) as this canary's. False where it was noted before."""
    return _sight.run(tx.conn, [(seed, *place, canary_id, at, MOST_HEADERS, header)]) == 1


def sighted(conn: Connection, seed: str, place: tuple[str, int, int]) -> bool:
    """Whether a message (folder, UIDVALIDITY, UID) was noted before."""
    return _sighted.first(conn, seed, *place) is not None


def count_sightings(conn: Connection, seed: str, folder: str, validity: int, canary_id: str) -> int:
    """How many messages of one folder and UIDVALIDITY bore the canary's token."""
    query = sa.select(sa.func.count()).where(
        sightings.c.seed == seed,
        sightings.c.folder == folder,
        sightings.c.uidvalidity == validity,
        sightings.c.canary == canary_id,
    )
    return int(conn.execute(query).scalar_one())


def headers(conn: Connection, canary_id: str) -> list[bytes]:
    """The kept header blocks of the messages that bore the canary's token."""
    query = sa.select(sightings.c.header).where(sightings.c.canary == canary_id)
    return [row[0] for row in conn.execute(query) if row[0]]


def deletable(conn: Connection, seed: str, before: float, limit: int = 200) -> list[tuple[str, int, int]]:
    """Own messages seen before then and not yet deleted: (folder, UIDVALIDITY, UID)."""
    query = (
        sa.select(sightings.c.folder, sightings.c.uidvalidity, sightings.c.uid)
        .where(sightings.c.seed == seed, sightings.c.seen_at < before, sightings.c.deleted_at.is_(None))
        .order_by(sightings.c.seen_at)
        .limit(limit)
    )
    return [(folder, validity, uid) for folder, validity, uid in conn.execute(query)]


def deleted(tx: Tx, seed: str, places: Sequence[tuple[str, int, int]], at: float) -> None:
    """Notes that own messages were deleted from the mailbox."""
    for folder, validity, uid in places:
        tx.conn.execute(
            sa.update(sightings)
            .where(
                sightings.c.seed == seed,
                sightings.c.folder == folder,
                sightings.c.uidvalidity == validity,
                sightings.c.uid == uid,
            )
            .values(deleted_at=at)
        )


def _first(conn: Connection, query: sa.Select[Any]) -> Canary | None:
    row = conn.execute(query).mappings().first()
    return _canary(row) if row else None


def _all(conn: Connection, query: sa.Select[Any]) -> list[Canary]:
    return [_canary(row) for row in conn.execute(query).mappings()]


def _moving(canary: Canary) -> tuple[object, ...]:
    """What changes in a canary's life, in the order of MOVING."""
    reply, accepted = canary.reply, canary.accepted
    return (
        canary.state.value,
        canary.due_at,
        canary.attempts,
        canary.retry_at,
        canary.soft,
        accepted.wall if accepted else None,
        accepted.monotonic if accepted else None,
        accepted.boot if accepted else None,
        to_text(_reply_json(reply)) if reply else None,
        to_text(dict(canary.stages)) if canary.stages else None,
        canary.placement.value if canary.placement else None,
        canary.category,
        canary.outcome.value if canary.outcome else None,
        canary.reason,
        canary.settled_at,
        canary.seen_at,
        canary.latency,
        canary.folder[:255],
        canary.late,
        canary.duplicates,
        to_text(dict(canary.verdicts)) if canary.verdicts else None,
        to_text([[e.kind, e.text, e.at] for e in canary.evidence]) if canary.evidence else None,
        canary.epoch,
    )


def _reply_json(reply: Reply) -> dict[str, object]:
    return {name: getattr(reply, name) for name in Reply.__slots__}


def _read(value: Any) -> Any:
    """A JSON column, whether its driver has read it already or not."""
    return json.loads(value) if isinstance(value, str) else value


def _canary(row: Mapping[str, Any] | RowMapping) -> Canary:
    accepted = None
    if row["accepted_at"] is not None:
        accepted = Moment(row["accepted_at"], row["accepted_monotonic"] or 0.0, row["accepted_boot"] or "")
    return Canary(
        id=row["id"],
        token=row["token"],
        message_id=row["message_id"],
        sender=row["sender"],
        seed=row["seed"],
        provider=row["provider"],
        round=row["round"],
        created=Moment(row["created_at"], row["created_monotonic"], row["boot"]),
        deadline=row["deadline"],
        late_after=row["late_after"],
        state=State(row["state"]),
        version=row["version"],
        due_at=row["due_at"],
        attempts=row["attempts"],
        retry_at=row["retry_at"],
        soft=bool(row["soft"]),
        accepted=accepted,
        reply=Reply(**_read(row["reply"])) if row["reply"] else None,
        stages=_read(row["stages"]) or {},
        placement=Placement(row["placement"]) if row["placement"] else None,
        category=row["category"],
        outcome=Outcome(row["outcome"]) if row["outcome"] else None,
        reason=row["reason"],
        settled_at=row["settled_at"],
        seen_at=row["seen_at"],
        latency=row["latency"],
        folder=row["folder"],
        late=bool(row["late"]),
        duplicates=row["duplicates"],
        verdicts=_read(row["verdicts"]) or {},
        evidence=tuple(Evidence(kind, text, at) for kind, text, at in _read(row["evidence"]) or ()),
        epoch=row["epoch"],
    )
