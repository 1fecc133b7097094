"""A turn of a schedule: taken by one agent, and the schedule moved on with it."""

from __future__ import annotations

from agent import schedule
from agent.runner.services import Services
from agent.store import rows
from agent.store.database import Tx


async def take_turn(services: Services, name: str, every: float, resource: str = "") -> bool:
    """False where it is not due, or another agent has taken it. resource: what one must hold for it."""

    def claim(tx: Tx) -> bool:
        services.fence(tx, resource)
        now = services.clock.wall()
        row = rows.schedule_row(tx.conn, name)
        if row is None or row.due_at > now:
            return False
        return rows.move_schedule(tx.conn, row, schedule.next_due(name, every, now, row.count + 1), now)

    return await services.database.write(claim)
