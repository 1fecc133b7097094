"""Where the story is shown: a live table on a terminal, plain lines of progress elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from agent.commands.status import COLOURS, table
from agent.demo.receivers import Told
from agent.reports.status import RouteStatus, Status
from probes.clock import Clock
from probes.outcome import Outcome

_WIDTH = 100


@dataclass
class Lines:
    """Plain lines: each act, and each change of a route, once. Nobody waits for them."""

    pause = 0.0

    console: Console
    clock: Clock
    _began: float = field(init=False)
    _known: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._began = self.clock.monotonic()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def say(self, title: str, text: str) -> None:
        """A new act."""
        self._print(f"== {title}")
        self._print(f"   {text}")

    def note(self, text: str) -> None:
        """Something happened."""
        self._print(f"   {text}")

    def show(self, status: Status, _told: Sequence[Told]) -> None:
        """One line for each sender whose routes look otherwise than before."""
        for sender, look in looks(status.routes):
            if self._known.get(sender) != look:
                self._known[sender] = look
                self._print(f"   {sender:<9} {look}")

    def _print(self, text: str) -> None:
        at = self.clock.monotonic() - self._began
        self.console.print(f"{at:5.1f} s  {text}", markup=False, highlight=False, soft_wrap=True)


def looks(routes: Iterable[RouteStatus]) -> Iterable[tuple[str, str]]:
    """Each sender, and where its mail is at each seed."""
    found: dict[str, list[str]] = {}
    for route in routes:
        place = route.placement if route.outcome else "waiting"
        found.setdefault(route.sender, []).append(f"{route.seed}: {place}")
    return ((sender, ", ".join(places)) for sender, places in found.items())


class Screen:
    """The live table, the act that is on, and what fires; acts that are over stay above it."""

    pause = 6.0

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._began = clock.monotonic()
        self._act: RenderableType = Text("")
        self._notes: list[str] = []
        self._status: Status | None = None
        self._told: Sequence[Told] = ()
        self._live = Live(console=console, refresh_per_second=8, get_renderable=self._picture)

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, title: str, text: str) -> None:
        """A new act; the one before stays as one line."""
        at = self._clock.monotonic() - self._began
        self._console.print(f"[dim]{at:5.1f} s[/]  [bold]{escape(title)}[/]", width=_WIDTH)
        self._act = Group(Text(title, style="bold cyan"), Padding(Text(text), (0, 0, 0, 2)))
        self._notes = []

    def note(self, text: str) -> None:
        """A line below the act."""
        self._notes.append(text)

    def show(self, status: Status, told: Sequence[Told]) -> None:
        """What the table shows from now on."""
        self._status, self._told = status, told

    def _picture(self) -> RenderableType:
        parts: list[RenderableType] = [Text(""), self._act]
        parts += [Padding(Text(note, style="dim"), (0, 0, 0, 2)) for note in self._notes]
        if self._status is not None:
            parts += picture(self._status, self._told)
        return Padding(Group(*parts), (0, max(0, self._console.width - _WIDTH), 0, 0))


def picture(status: Status, told: Iterable[Told]) -> list[RenderableType]:
    """The agent's status: its summary, the matrix, what fires, what is listed; and who was told."""
    colour = COLOURS[status.outcome.value]
    title = "mailcanary" if status.outcome is Outcome.PASS else "mailcanary: look here"
    parts: list[RenderableType] = [
        Panel(Group(Text(status.summary, style=colour), table(status)), title=title, border_style=colour)
    ]
    parts += [Text(f"FIRING  {a['severity']}: {a['title']}", style="bold red") for a in status.alerts]
    parts += [Text(f"LISTED  {row['subject']} in {row['zone']}", style="red") for row in status.listings]
    parts += [Text(f"TOLD    {one.receiver}: {one.action}, key {one.key}", style="dim") for one in told]
    return parts
