"""From a due schedule to a submitted canary. The intent is durable before MAIL FROM is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from agent import schedule
from agent.config.models import Route
from agent.runner.ledger import SEND_LEASE, Change, Ledger, Step
from agent.runner.origins import Origins
from agent.runner.services import Services, nonce
from agent.store import canaries, rows
from agent.store.database import Tx
from agent.store.limits import limits
from alerts.observation import OwnState, observation_to_json
from alerts.settings import AlertKind
from probes.canary import replies, track
from probes.canary.state import Canary, Moment, Reply, State
from probes.canary.submission import HeldBack, Submission, SubmitResult
from probes.canary.token import NONCE_BYTES, mint
from probes.errors import MailcanaryError, StaleWrite, StoreError

log = structlog.get_logger("sending")

RECORD_AGAIN = 2.0
"""Seconds between attempts to record what the store did not take."""

OWN_SIDE = frozenset({"greeting", "ehlo", "tls", "auth"})
"""Stages of a submission in which a relay knows nothing yet but us."""

DAY = 86400.0


@dataclass(slots=True)
class Held:
    """Why a canary was not sent now."""

    reason: str
    until: float


@dataclass
class Sending:
    """Claims due routes, submits, retries, and keeps every limit."""

    services: Services
    ledger: Ledger
    origins: Origins
    on_sent: Callable[[Canary], None]
    stopping: Callable[[], bool] = lambda: False
    """True once nothing new is to be begun."""
    working: int = 0
    """Canaries between their claim and the record of how the attempt ended."""
    _slots: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.services.config.limits.in_flight)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[bool]:
        """One of the SMTP sessions that may be open at the same time; False where the agent stops."""
        async with self._slots:
            self.working += 1
            try:
                yield not self.stopping()
            finally:
                self.working -= 1

    async def scheduled(self, name: str) -> None:
        """A hint: the route's schedule may be due."""
        async with self.slot() as free:
            route = self.origins.route(name)
            if not free or route is None:
                return
            claimed = await self._claim_scheduled(name, route)
            if claimed is not None:
                await self.submit(claimed)

    async def _claim_scheduled(self, name: str, route: Route) -> Canary | None:
        try:
            change = await self.services.database.write(
                lambda tx: self._claim(tx, name, route), order=self.order(route), may_wait=True
            )
        except StoreError as error:
            log.error("cannot persist, so nothing is sent", route=route.name, error=str(error))
            return None
        if isinstance(change, Held):
            log.info("held back", route=route.name, reason=change.reason)
            return None
        if change is None:
            return None
        self.ledger.committed([change])
        return change.after

    def _claim(self, tx: Tx, name: str, route: Route) -> Change | Held | None:
        self.services.fence(tx)
        now = self.services.now()
        row = rows.schedule_row(tx.conn, name)
        if row is None or row.due_at > now.wall:
            return None
        held = self.held(tx, route, now)
        if held:
            rows.move_schedule(tx.conn, row, max(held.until, now.wall + 1.0), None)
            return held
        due = schedule.next_due(name, route.every, now.wall, row.count + 1)
        if not rows.move_schedule(tx.conn, row, due, now.wall):
            return None
        return self.intend(tx, route, now, round_id="")

    def order(self, route: Route) -> str:
        """What a claim on the route locks, for `Database.write`."""
        return _pace(self.origins.provider(route.seed))

    def held(self, tx: Tx, route: Route, now: Moment) -> Held | None:
        """What keeps a canary back now: the pause, the seed's day, the provider's pace or its silence."""
        provider = self.origins.provider(route.seed)
        # First the lock, then the count: it includes what other agents have just sent there.
        free_at = rows.lock_pace_in(tx, _pace(provider))
        tx.flush(route.seed)
        found = limits(tx.conn, _silence(route.sender, provider), route.seed, now.wall - DAY)
        if found.paused:
            return Held("paused", now.wall + min(route.every, 30.0))
        if found.sent >= self.origins.daily_limit(route.seed):
            return Held("daily limit of the seed", now.wall + route.every)
        if found.silent_until > now.wall:
            return Held("the provider asked for silence", found.silent_until)
        # The time now: it passed while others had the lock.
        free, at = self.origins.pace(provider).take(free_at, self.services.clock.wall())
        if not free:
            return Held("pace of the provider", at)
        rows.set_pace_in(tx, _pace(provider), at)
        return None

    def intend(self, tx: Tx, route: Route, now: Moment, round_id: str) -> Change:
        """Records the intent of a new canary on the route."""
        services = self.services
        secret = nonce(services.random, NONCE_BYTES)
        token = mint(services.keys, agent=services.agent, route=route.name, at=now.wall, nonce=secret)
        domain = self.origins.domain(route.sender)
        canary = Canary(
            id=canaries.id_of(token),
            token=token,
            message_id=f"<{nonce(services.random, 12).hex()}.canary@{domain}>",
            sender=route.sender,
            seed=route.seed,
            provider=self.origins.provider(route.seed),
            round=round_id,
            created=now,
            deadline=route.deadline,
            late_after=route.late_after,
            due_at=now.wall + SEND_LEASE,
            epoch=services.epoch,
        )
        return self.ledger.intend_in(tx, canary)

    async def retry(self, canary_id: str) -> None:
        """A hint: a deferred canary's next attempt may be due. The same token is sent again."""
        if canary_id in self.services.inflight:
            return
        found = await self.services.database.read(lambda conn: canaries.get(conn, canary_id))
        if found is None or (self.origins.has(found) and not self.services.fleet.may_send(found.sender)):
            return
        async with self.slot() as free:
            if not free:
                return
            canary = await self.services.database.write(lambda tx: self._claim_retry(tx, canary_id))
            if canary is not None:
                await self.submit(canary)

    def _claim_retry(self, tx: Tx, canary_id: str) -> Canary | None:
        self.services.fence(tx)
        now = self.services.now()
        canary = canaries.hold(tx.conn, canary_id)
        if canary is None or not track.may_send_again(canary, now):
            return None
        silent = rows.pace(tx.conn, _silence(canary.sender, canary.provider)) or 0.0
        if rows.setting(tx.conn, rows.PAUSED) or silent > now.wall:
            after = track.postponed(canary, max(silent, now.wall + 30.0))
        else:
            after = track.resending(canary, now.wall + SEND_LEASE, self.services.epoch)
        canaries.save(tx, after, canary)
        return after if after.state is State.INTENDED else None

    async def submit(self, canary: Canary) -> Canary | None:
        """Sends one canary whose intent is durable, and records how that ended."""
        self.services.inflight.add(canary.id)
        try:
            if not self.origins.has(canary):  # a reload came between
                return await self.ledger.apply(canary.id, track.withdrawn)
            submission = await self.origins.submit(canary)
            event = _event(submission, self.services.now(), relayed=self._relayed(canary))
            foreseen = track.sent(canary, event, self.services.now())
            if submission.result in (SubmitResult.ACCEPTED, SubmitResult.UNCONFIRMED):
                self.ledger.foresee(canary, foreseen)
                self.on_sent(canary)
            after = await self._record(
                canary, lambda c, now: foreseen if c is canary else track.sent(c, event, now)
            )
            await self._aftermath(canary, submission)
        except HeldBack:
            log.warning("not sent: this agent may not be a member any more", canary=canary.id)
            return await self._hold_back(canary)
        except MailcanaryError as error:
            # The row stays INTENDED: when its lease expires the reader settles it.
            log.error("the end of a submission could not be recorded", canary=canary.id, error=str(error))
            return None
        finally:
            self.services.inflight.discard(canary.id)
        return after

    def _relayed(self, canary: Canary) -> bool:
        return self.services.config.senders[canary.sender].relay is not None

    async def _hold_back(self, canary: Canary) -> Canary | None:
        """Nothing was sent: whoever may send it, does so later."""
        try:
            return await self._record(canary, track.handed_over)
        except MailcanaryError as error:
            log.error("a canary that was held back stays open", canary=canary.id, error=str(error))
            return None

    async def _record(self, canary: Canary, step: Step) -> Canary | None:
        """Writes how an attempt ended. A store that fails (disk full) is asked again while the intent is
        ours: the reply is known, and would be lost with us."""
        clock = self.services.clock
        end = clock.monotonic() + SEND_LEASE / 2
        while True:
            try:
                return await self.ledger.apply(canary.id, step, canary, may_wait=True)
            except StaleWrite:
                raise
            except StoreError as error:
                if self.stopping() or clock.monotonic() > end:
                    raise
                log.error("the end of a submission waits to be recorded", canary=canary.id, error=str(error))
            await clock.sleep(RECORD_AGAIN)

    async def _aftermath(self, canary: Canary, submission: Submission) -> None:
        usable = submission.result is not SubmitResult.UNREACHABLE
        text = submission.detail if not usable else ""
        silence = submission.reply.meaning.silence_seconds if submission.reply else 0.0

        def record(tx: Tx) -> None:
            now = self.services.clock.wall()
            if silence:
                rows.set_pace(tx.conn, _silence(canary.sender, canary.provider), now + silence)
            changed = rows.set_sender(tx.conn, canary.sender, usable, text, now)
            if changed or not usable:
                state = OwnState(AlertKind.SENDER_UNREACHABLE, canary.sender, usable, now, text=text)
                rows.observe(tx, now, "own", observation_to_json(state))

        if silence or not usable or not self.origins.known_usable(canary.sender):
            await self.services.database.write(record)
        self.origins.note_usable(canary.sender, usable)


def _pace(provider: str) -> str:
    return f"provider/{provider}"


def _silence(sender: str, provider: str) -> str:
    return f"silence/{sender}/{provider}"


def _event(submission: Submission, now: Moment, *, relayed: bool) -> track.Sent:
    """relayed: what our own relay defers before it knows the recipient says nothing about the recipient."""
    reply = submission.reply
    own = relayed and reply is not None and reply.stage in OWN_SIDE
    return track.Sent(
        result=submission.result.value,
        reply=_kept(reply),
        stages=submission.stages,
        soft=own or bool(reply and (reply.meaning.seeds_own_fault or reply.meaning.greylisting)),
        retry_after=float(reply.meaning.silence_seconds) or None if reply else None,
        detail=submission.detail,
        fault=submission.reason.value if reply is None else "",
        at=_answered(submission, now),
    )


def _kept(reply: replies.Reply | None) -> Reply | None:
    if reply is None:
        return None
    meaning = reply.meaning
    return Reply(reply.code, reply.enhanced, reply.text, reply.stage, meaning.key, meaning.next_step)


def _answered(submission: Submission, now: Moment) -> Moment:
    """When the final reply was read: `now` less the goodbye that followed."""
    if submission.answered_at is None:
        return now
    ago = min(max(now.wall - submission.answered_at, 0.0), 10.0)
    return Moment(now.wall - ago, now.monotonic - ago, now.boot)
