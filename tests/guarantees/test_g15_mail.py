"""G15: no mail is believed that vouches for itself, through the lab's real Postfix, rspamd and OpenDMARC.

The quick form is tests/lab/test_forgeries.py.
"""

from __future__ import annotations

from pathlib import Path

from tests.guarantees.claim import Guarantee, Tally
from tests.lab.test_forgeries import attack
from tests.lab.world.lab import Lab


async def part(folder: Path, number: int) -> Tally:
    """Every forgery once at each provider."""
    tally = Tally()
    with Lab.start() as lab:
        for provider in ("a", "b"):
            found = await attack(lab, folder / provider, provider)
            tally.trials += found.read
            tally.check(found.read == found.sent, f"{provider}: {found.read} of {found.sent} were read")
            tally.check(found.judged >= found.read - 10, f"{provider}: {found.judged} true verdicts")
            for one in found.believed:
                tally.check(False, f"{provider}: {one}")
    return tally


GUARANTEE = Guarantee("G15-mail", "no forged Authentication-Results is believed", "mails", 1, 1, part)
