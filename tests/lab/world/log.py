"""What really happened to a message, from the servers' own logs: the truth that verdicts are held against."""

import re
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LINE: Final = re.compile(
    r"^(?P<time>\d+\.\d+) (?P<facility>\S+) (?P<tag>[^\s\[:]+)(?:\[\d+\])?: (?P<text>.*)$"
)
POSTFIX: Final = re.compile(r"^(?P<queue>[0-9A-Za-z]{6,20}): (?P<rest>.*)$")
STATUS: Final = re.compile(
    r"to=<(?P<to>[^>]*)>.*?relay=(?P<relay>[^,]+).*?delay=(?P<delay>[\d.]+), delays=(?P<delays>[\d./]+),"
    r".*?dsn=(?P<dsn>[\d.]+), status=(?P<status>\w+) \((?P<reply>.*)\)$"
)
MESSAGE_ID: Final = re.compile(r"message-id=<?([^>]+)>?")
TOKEN: Final = re.compile(r"info: header X-Mailcanary-Token: (\S+)", re.IGNORECASE)
SAVED: Final = re.compile(
    r"msgid=<?(?P<id>[^>:]+)>?: (?:fileinto action: )?"
    r"(?:stored mail into mailbox|saved mail to) '?(?P<folder>[^']+?)'?$"
)

ACTIONS: Final = {"discard": "discarded", "hold": "held"}
Queue = tuple[str, str]
"""Postfix instance and queue id."""


@dataclass(frozen=True)
class Delivery:
    """One step of a message. Times are epoch seconds, stamped on the line's arrival at the lab's log."""

    time: float
    host: str
    """relay, a or b."""
    queue_id: str
    """Empty for Dovecot."""
    stage: str
    """received, sent, deferred, bounced, discarded, held, stored (in a mailbox: `folder`)."""
    text: str
    recipient: str = ""
    dsn: str = ""
    delay: float | None = None
    """Seconds since the message came to this host."""
    delays: tuple[float, ...] = ()
    """Before the queue manager, in the queue, connection set-up, transmission."""
    folder: str = ""


class DeliveryLog:
    """Reads the lab's log, each line once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._queues: dict[str, set[Queue]] = defaultdict(set)
        self._ids: dict[Queue, set[str]] = defaultdict(set)
        self._steps: dict[Queue, list[Delivery]] = defaultdict(list)
        self._stored: dict[str, list[Delivery]] = defaultdict(list)

    def of(self, wanted: str) -> list[Delivery]:
        """Every step of the message with this Message-ID or X-Mailcanary-Token, in time order."""
        self._catch_up()
        ids = {wanted.strip("<>")}
        for _ in range(2):  # a token leads to a Message-ID, which leads to the queues of the next host
            ids |= {known for name in list(ids) for queue in self._queues[name] for known in self._ids[queue]}
        steps = {step for name in ids for queue in self._queues[name] for step in self._steps[queue]}
        steps |= {step for name in ids for step in self._stored[name]}
        return sorted(steps, key=lambda step: step.time)

    def lines_since(self, start: float) -> list[str]:
        """Raw log lines from a wall-clock time (epoch seconds) on."""
        lines = self.path.read_text(errors="replace").splitlines()
        return [line for line in lines if float(line.partition(" ")[0]) >= start]

    def wait(self, wanted: str, stage: str, host: str = "", timeout: float = 10) -> Delivery | None:
        """The first step of a stage (at a host), waited for; None when it did not come in time."""
        deadline = time.monotonic() + timeout
        while True:
            for step in self.of(wanted):
                if step.stage == stage and host in ("", step.host):
                    return step
            if time.monotonic() > deadline:
                return None
            time.sleep(0.02)

    def _catch_up(self) -> None:
        with self.path.open("rb") as log:
            log.seek(self._offset)
            data = log.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            if match := LINE.match(line):
                self._take(float(match["time"]), match["facility"], match["tag"], match["text"])

    def _take(self, at: float, facility: str, tag: str, text: str) -> None:
        if tag.startswith("dovecot"):
            self._take_stored(at, facility, text)
        elif line := POSTFIX.match(text):
            queue = (tag.partition("/")[0], line["queue"])
            if "/cleanup" in tag:
                for said in filter(None, (MESSAGE_ID.match(line["rest"]), TOKEN.search(line["rest"]))):
                    self._ids[queue].add(said[1])
                    self._queues[said[1]].add(queue)
            if step := _postfix_step(at, queue, line["rest"]):
                self._steps[queue].append(step)

    def _take_stored(self, at: float, facility: str, text: str) -> None:
        if saved := SAVED.search(text):
            user = re.search(r"lmtp\(([^)]+)\)", text)
            who = user[1] if user else ""
            step = Delivery(at, facility, "", "stored", text, recipient=who, folder=saved["folder"])
            self._stored[saved["id"]].append(step)


def _postfix_step(at: float, queue: Queue, rest: str) -> Delivery | None:
    host = queue[0].removeprefix("postfix-")
    word = rest.partition(":")[0]
    if rest.startswith("client="):
        return Delivery(at, host, queue[1], "received", rest)
    if word in ACTIONS:
        return Delivery(at, host, queue[1], ACTIONS[word], rest)
    if said := STATUS.search(rest):
        parts = tuple(float(p) for p in said["delays"].split("/"))
        stage, delay = said["status"], float(said["delay"])
        return Delivery(at, host, queue[1], stage, said["reply"], said["to"], said["dsn"], delay, parts)
    return None
