"""The owner of the bounces' mailbox: matches DSNs (RFC 3464) to their canaries."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from agent.runner.ledger import Change, Ledger
from agent.runner.services import Services
from agent.store import canaries
from agent.store.database import Tx
from probes.canary import track
from probes.canary.replies import classify
from probes.canary.state import Canary, Moment
from probes.canary.token import find_tokens
from probes.headers.dsn import Bounce, read_bounce
from probes.mailbox.model import Expectation, ReaderState, Reason, ScanReport, SeenMessage

log = structlog.get_logger("bounces")

NO_FAILURE = frozenset({"delayed", "delivered", "relayed", "expanded"})
"""Actions of a DSN that end nothing (RFC 3464 section 2.3.3)."""
NO_BOUNCES = frozenset({"auto-reply", "feedback"})
"""Kinds that say the opposite of a bounce: a person's mailbox answered, or a person complained."""


_CLASSES = {"5": 550, "4": 450}
"""What a status alone stands for (RFC 3463 section 2): many a bounce quotes no SMTP reply."""


@dataclass
class BounceOwner:
    """Implements probes.mailbox.model.ReaderOwner for the mailbox the return paths lead to."""

    services: Services
    ledger: Ledger

    def expecting(self) -> Expectation:
        """Bounces come when they come; looking as often as for canaries is enough."""
        return Expectation(open=1, oldest_sent_at=self.services.clock.wall() - 86400.0)

    async def on_message(self, message: SeenMessage) -> None:
        """Any message of the mailbox: only a bounce of one of our canaries counts."""
        # Anybody may write here: the slowest message must not hold up the loop.
        bounce = await asyncio.to_thread(read_bounce, message.whole)
        if bounce is None or bounce.kind in NO_BOUNCES:
            return
        seen = Moment(message.seen_wall, message.seen_monotonic, self.services.clock.boot)
        change = await self.services.database.write(lambda tx: self._record(tx, bounce, message, seen))
        if change is None:
            log.info("a bounce of no canary of ours", folder=message.folder, uid=message.uid)
            return
        self.ledger.committed([change])

    def _record(self, tx: Tx, bounce: Bounce, message: SeenMessage, seen: Moment) -> Change | None:
        canary = self._canary(tx, bounce, message)
        if canary is None or not bounce.recipients:
            return None
        told = bounce.recipients[0]
        status = told.status or ""
        code = int(told.reply_code or 0) or _CLASSES.get(status[:1], 0)
        meaning = classify(canary.provider, code, status, told.reason or "")
        event = track.BounceSeen(
            status=status,
            text=told.reason or "",
            soft=meaning.seeds_own_fault,
            permanent=(told.action or "failed").lower() not in NO_FAILURE,
            seen=seen,
            meaning=meaning.key,
        )
        return self.ledger.apply_in(tx, canary.id, lambda c, now: track.bounced(c, event, now))

    def _canary(self, tx: Tx, bounce: Bounce, message: SeenMessage) -> Canary | None:
        """By the token (ENVID or returned part), else by the returned Message-ID."""
        for token in find_tokens(message.whole):
            found = canaries.by_token(tx.conn, token)
            if found is not None:
                return found
        if bounce.message_id:
            return canaries.by_message_id(tx.conn, f"<{bounce.message_id}>")
        return None

    async def on_scan(self, report: ScanReport) -> None:
        """Nothing is concluded from a scan of this mailbox."""

    async def on_state(self, state: ReaderState) -> None:
        """Told in the log; the canaries stay what they are."""
        if state.reason in (Reason.STARTING, Reason.STOPPED):
            return
        level = log.info if state.readable else log.warning
        level("bounces mailbox", readable=state.readable, reason=str(state.reason))
