"""The fast way to ask: one UDP socket, prebuilt packets, no future and no task for a question.

Measured (facts of the field): a future per question costs more than the question. Here a question costs one
tuple, one dict entry and one system call each way. What is rare (an odd answer, a truncated one) goes to the
slow and thorough code of `probes.dns_client`.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import secrets
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from probes.blocklists.pace import Bucket
from probes.blocklists.slow import over_tcp, thorough
from probes.blocklists.wire import HEADER, fast_answer, is_clean, name_of
from probes.dns import DnsAnswer, DnsStatus
from probes.dns_client import Nameserver

TICK = 0.01  # seconds between looks at silence and pace
MIN_RTO, MAX_RTO = 0.05, 1.0  # seconds of silence after which a question is sent again
CONGESTED = 4  # questions lost in a row: no accident
MIN_WINDOW = 16.0  # questions in flight, however bad it is
BLOCK = 64  # questions to one zone before the next one has its turn
RECEIVE_BUFFER = 4 * 1024 * 1024
BURST = 512  # datagrams read before the loop gets its turn

CLEAN = 1  # the state of a question answered "no such name"; 0 is not answered, the rest is the lane's


class Lane(Protocol):
    """The questions to one zone: prefixes[i] + suffix for i from `next` to `end`."""

    prefixes: Sequence[bytes]
    suffix: bytes
    state: bytearray
    next: int
    end: int
    rate: float | None

    def answered(self, index: int, answer: DnsAnswer) -> None:
        """Any answer but a plain "no such name", and every final failure."""


# id, question, index, lane, tries, failure so far, when sent first
_Entry = tuple[bytes, bytes, int, Lane, int, DnsStatus, float]


@dataclass(slots=True)
class Engine:
    """Asks the questions of many lanes through one nameserver. One `run` at a time.

    in_flight: questions unanswered at a time. timeout: seconds for a question with all its resends. pace:
    questions a second over all lanes, None for as many as the server answers.
    """

    server: Nameserver
    in_flight: int = 400
    timeout: float = 5.0
    pace: float | None = None
    sent: int = 0
    resent: int = 0
    strays: int = 0
    _socket: socket.socket = field(init=False, repr=False)
    _pending: dict[bytes, _Entry] = field(default_factory=dict, repr=False)
    _free: deque[bytes] = field(default_factory=deque, repr=False)
    _waiting: list[tuple[float, int, list[_Entry]]] = field(default_factory=list, repr=False)
    _late: deque[_Entry] = field(default_factory=deque, repr=False)
    _window: float = field(default=0.0, repr=False)
    _bucket: list[_Entry] = field(default_factory=list, repr=False)
    _order: itertools.count[int] = field(default_factory=itertools.count, repr=False)
    _lanes: deque[Lane] = field(default_factory=deque, repr=False)
    _current: tuple[Lane, int] | None = field(default=None, repr=False)
    _buckets: dict[int, Bucket] = field(default_factory=dict, repr=False)
    _clean: set[bytes] = field(default_factory=set, repr=False)
    _tcp: set[asyncio.Task[None]] = field(default_factory=set, repr=False)
    _done: asyncio.Future[None] | None = field(default=None, repr=False)
    _loop: asyncio.AbstractEventLoop = field(init=False, repr=False)
    _until: float = field(default=0.0, repr=False)
    _sample: tuple[bytes, float] = field(default=(b"", 0.0), repr=False)
    _rtt: float = field(default=0.05, repr=False)
    _spread: float = field(default=0.02, repr=False)

    async def run(self, lanes: Sequence[Lane], seconds: float) -> None:
        """Asks until every lane is at its end or `seconds` are over, then waits for what is under way."""
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + seconds
        self._lanes = deque(lane for lane in lanes if lane.next < lane.end)
        self._buckets = {id(lane): Bucket(lane.rate) for lane in lanes if lane.rate}
        if self.pace is not None:
            self._buckets[0] = Bucket(self.pace)
        self._done = self._loop.create_future()
        self._current = None
        self._window = float(self.in_flight)
        self._open()
        try:
            self._tick()
            while not self._done.done():
                await asyncio.wait([self._done], timeout=TICK)
                self._tick()
        finally:
            self._close()
            for task in self._tcp:
                task.cancel()
            await asyncio.gather(*self._tcp, return_exceptions=True)

    def _open(self) -> None:
        """A new socket for each run: its port is chosen at random by the kernel."""
        family = socket.AF_INET6 if ":" in self.server.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self._socket.connect((self.server.host, self.server.port))  # the kernel drops what others send
        if not self._free:
            ids = [number.to_bytes(2, "big") for number in range(65536)]
            random.Random(secrets.randbits(128)).shuffle(ids)
            self._free.extend(ids)
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def _close(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._free.extend(self._pending)
        self._pending.clear()
        self._waiting.clear()
        self._late.clear()
        self._bucket = []

    # sending

    def _fill(self, now: float) -> None:
        """Sends again what is late, then as many new questions as there is room for."""
        room = int(self._window) - len(self._pending) + len(self._late) - len(self._tcp)
        if self._late:
            room = self._send_late(now, room)
        while room > 0:
            if self._current is None:
                self._current = self._next_block(now, room)
                if self._current is None:
                    return
            lane, end = self._current
            stop = min(end, lane.next + room)
            before = lane.next
            if not self._send_block(lane, stop, now):
                return
            room -= lane.next - before
            if lane.next >= end:
                self._current = None

    def _send_block(self, lane: Lane, stop: int, now: float) -> bool:
        """Sends lane.next up to stop; False where the socket takes no more."""
        send, pending, bucket, take = self._socket.send, self._pending, self._bucket, self._free.popleft
        prefixes, suffix, failure = lane.prefixes, lane.suffix, DnsStatus.TIMEOUT
        index = lane.next
        try:
            for index in range(lane.next, stop):
                key = take()
                question = prefixes[index] + suffix
                entry = (key, question, index, lane, 1, failure, now)
                pending[key] = entry
                bucket.append(entry)
                send(key + HEADER + question)
        except BlockingIOError:
            self._free.append(key)
            del pending[key]
            bucket.pop()
            self.sent += index - lane.next
            lane.next = index
            return False
        except OSError:  # refused or unreachable: it counts as sent, and silence will tell
            stop = index + 1
        if not self._sample[0] and stop > lane.next:
            self._sample = (key, self._loop.time())
        self.sent += stop - lane.next
        lane.next = stop
        return True

    def _next_block(self, now: float, room: int) -> tuple[Lane, int] | None:
        """The next lane whose pace allows a question, in turn, and up to where it may go now."""
        if now >= self._until:
            return None
        pace = self._buckets.get(0)
        for _ in range(len(self._lanes)):
            lane = self._lanes[0]
            self._lanes.rotate(-1)
            left = lane.end - lane.next
            if left <= 0:
                self._lanes.pop()
                continue
            size = min(BLOCK, left, room)
            own = self._buckets.get(id(lane))
            size = own.take(size, now) if own is not None else size
            size = pace.take(size, now) if pace is not None and size else size
            if size:
                return lane, lane.next + size
        return None

    # receiving

    def _readable(self) -> None:
        self._read(BURST)
        self._fill(self._loop.time())

    def _read(self, most: int) -> None:
        """Takes in what has arrived, up to so many datagrams."""
        receive, pending, clean, give = self._socket.recv, self._pending, self._clean, self._free.append
        sample = self._sample[0]
        try:
            for _ in range(most):
                data = receive(4096)
                key = data[:2]
                entry = pending.get(key)
                if entry is None or not data.startswith(entry[1], 12):
                    self._stray(entry, data)
                    continue
                if data[2:8] in clean:
                    entry[3].state[entry[2]] = CLEAN
                    del pending[key]
                    give(key)
                    if key == sample:
                        self._measure()
                else:
                    self._odd(entry, data)
        except BlockingIOError:
            pass
        except OSError:  # port unreachable: silence will tell
            pass

    def _stray(self, entry: _Entry | None, data: bytes) -> None:
        """An answer to nobody's question; one that differs in letter case only is taken."""
        if entry is not None and data[12:].lower().startswith(entry[1]):
            self._odd(entry, data[:12] + entry[1] + data[12 + len(entry[1]) :])
        else:
            self.strays += 1

    def _odd(self, entry: _Entry, data: bytes) -> None:
        """Everything but the plain "no such name" that was seen before."""
        key, question, index, lane, tries, _, first = entry
        if is_clean(data):
            self._clean.add(data[2:8])
            lane.state[index] = CLEAN
            self._settle(key)
            return
        if len(data) < 12 or not data[2] & 0x80:
            self.strays += 1
            return
        if data[2] & 0x02:  # truncated
            self._settle(key)
            task = self._loop.create_task(self._over_tcp(entry))
            self._tcp.add(task)
            task.add_done_callback(self._tcp.discard)
            return
        answer = fast_answer(data, question) or thorough(data, question, self.server)
        if answer.status.conclusive:
            self._settle(key)
            lane.answered(index, answer)
            return
        retry = (
            key,
            question,
            index,
            lane,
            tries,
            answer.status,
            first,
        )  # asked again after the next silence
        self._pending[key] = retry
        self._bucket.append(retry)

    def _settle(self, key: bytes) -> None:
        del self._pending[key]
        self._free.append(key)

    async def _over_tcp(self, entry: _Entry) -> None:
        _, question, index, lane, _, _, _ = entry
        answer = await over_tcp(question, self.server, self.timeout)
        lane.answered(index, answer)

    # time

    def _measure(self) -> None:
        """The usual smoothing of round trips (RFC 6298)."""
        taken = self._loop.time() - self._sample[1]
        self._sample = (b"", 0.0)
        self._spread += (abs(taken - self._rtt) - self._spread) / 4
        self._rtt += (taken - self._rtt) / 8

    def _tick(self) -> None:
        """Looks at what is overdue, sends more, and ends the run when nothing is left."""
        if self._done is None or self._done.done():
            return
        now = self._loop.time()
        self._put_away(now + self._rto())
        self._window = min(float(self.in_flight), self._window + 1)
        if self._waiting and self._waiting[0][0] <= now:
            self._read(len(self._pending))  # on a busy machine the answers lie unread: that is no silence
        while self._waiting and self._waiting[0][0] <= now:
            self._overdue(heapq.heappop(self._waiting)[2], now)
        self._fill(now)
        if now - self._sample[1] > MAX_RTO:  # lost, or asked again: no measure of anything
            self._sample = (b"", now)
        over = now >= self._until or not any(lane.next < lane.end for lane in self._lanes)
        idle = self._current is None or now >= self._until
        if over and idle and not self._pending and not self._tcp:
            self._current = None
            self._done.set_result(None)

    def _put_away(self, due: float) -> None:
        if self._bucket:
            heapq.heappush(self._waiting, (due, next(self._order), self._bucket))
            self._bucket = []

    def _overdue(self, entries: list[_Entry], now: float) -> None:
        """Lines up for sending again what was not answered, until its time is up.

        One lost here and there is the network's way; several in a row are a full buffer: then fewer may fly.
        """
        run, longest = 0, 0
        for entry in entries:
            if self._pending.get(entry[0]) is not entry:
                run = 0
                continue
            run += 1
            longest = max(longest, run)
            if not self._expired(entry, now):
                self._late.append(entry)
        if longest >= CONGESTED:
            self._window = max(MIN_WINDOW, self._window * 0.7)

    def _expired(self, entry: _Entry, now: float) -> bool:
        key, question, index, lane, _, failure, first = entry
        if now - first < self.timeout:
            return False
        self._settle(key)
        lane.answered(index, DnsAnswer(name_of(question), "A", failure))
        return True

    def _send_late(self, now: float, room: int) -> int:
        """Sends again what waits for it, each time giving it twice as long. Returns what room is left."""
        again: dict[int, list[_Entry]] = {}
        while self._late and room > 0:
            entry = self._late.popleft()
            key, question, index, lane, tries, failure, first = entry
            if self._pending.get(key) is not entry or self._expired(entry, now):
                continue
            retry = (key, question, index, lane, tries + 1, failure, first)
            self._pending[key] = retry
            again.setdefault(tries, []).append(retry)
            self._resend(key + HEADER + question)
            room -= 1
        rto = self._rto()
        for tries, bucket in again.items():
            wait = min(rto * 2**tries, max(rto, self.timeout - (now - bucket[0][6])))
            heapq.heappush(self._waiting, (now + wait, next(self._order), bucket))
        return room

    def _rto(self) -> float:
        return min(MAX_RTO, max(MIN_RTO, self._rtt + 4 * self._spread))

    def _resend(self, packet: bytes) -> None:
        try:
            self._socket.send(packet)
            self.resent += 1
        except OSError:  # a full buffer or no route: the next silence tries again
            pass
