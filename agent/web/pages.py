"""Server-rendered pages: the matrix, a route's timeline, the runbooks. No script, no remote content."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources

import jinja2
from aiohttp import web

from agent.config.models import Config
from agent.reports.alerts import mute_text, pages_of
from agent.reports.status import read_status, sweep_line
from agent.reports.why import read_why
from agent.store import incidents
from agent.store.database import Database
from alerts import codec, runbooks
from alerts.lifecycle import Alert
from alerts.texts import sections
from probes.clock import Clock, rfc3339

MOST_ALERTS = 200

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("agent.web", "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters["muted"] = mute_text
_templates.filters["time"] = lambda at: rfc3339(at) if at else ""


def span(seconds: float) -> str:
    """A duration in one word: 4 s, 12 min, 3 h, 2 d."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


_templates.filters["span"] = span


def _html(template: str, **values: object) -> web.Response:
    text = _templates.get_template(template).render(**values)
    return web.Response(text=text, content_type="text/html")


def add_routes(app: web.Application, config: Callable[[], Config], database: Database, clock: Clock) -> None:
    """Adds the pages to the application."""

    async def overview(_request: web.Request) -> web.Response:
        current, now = config(), clock.wall()
        status = await database.read(lambda conn: read_status(conn, current, now))
        cells = {(route.sender, route.seed): route for route in status.routes}
        return _html(
            "overview.html",
            status=status,
            sweep=sweep_line(status.sweep) if status.sweep else "",
            cells=cells,
            senders=list(current.senders),
            seeds=[(name, seed.provider) for name, seed in current.seeds.items()],
        )

    async def route(request: web.Request) -> web.Response:
        sender, seed = request.match_info["sender"], request.match_info["seed"]
        if sender not in config().senders or seed not in config().seeds:
            raise web.HTTPNotFound(text="there is no such route\n")
        events = await database.read(lambda conn: read_why(conn, sender, seed))
        return _html("route.html", sender=sender, seed=seed, events=events)

    async def alerts(request: web.Request) -> web.Response:
        key = request.query.get("key")
        if key is None:
            rows = await database.read(lambda conn: incidents.alert_rows(conn, open_only=False))
            return _html("alerts.html", rows=rows[:MOST_ALERTS])
        row = await database.read(lambda conn: incidents.alert_row(conn, key))
        if row is None:
            raise web.HTTPNotFound(text="there is no such alert\n")
        history = await database.read(lambda conn: incidents.history(conn, key))
        told = sections(codec.from_json(Alert, row["body"]), pages_of(config()), clock.wall())
        return _html("alert.html", row=row, sections=told, history=history)

    async def runbook(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        text = runbooks.page(name)
        if text is None:
            raise web.HTTPNotFound(text="there is no such runbook\n")
        return _html("runbook.html", name=name, text=text)

    async def index(_request: web.Request) -> web.Response:
        titles = {
            name: (runbooks.page(name) or name).partition("\n")[0].strip("# ") for name in runbooks.names()
        }
        return _html("runbooks.html", titles=titles)

    async def style(_request: web.Request) -> web.Response:
        css = (resources.files("agent.web") / "templates" / "style.css").read_text(encoding="utf-8")
        return web.Response(text=css, content_type="text/css")

    app.router.add_get("/", overview)
    app.router.add_get("/alerts", alerts)
    app.router.add_get("/routes/{sender}/{seed}", route)
    for path in ("/runbooks", "/runbooks/"):
        app.router.add_get(path, index)
    app.router.add_get("/runbooks/{name}", runbook)
    app.router.add_get("/style.css", style)
