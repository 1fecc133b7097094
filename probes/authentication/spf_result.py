"""What an SPF evaluation is bounded by, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SpfLimits:
    """Section 4.6.4: terms that ask DNS, terms whose question finds nothing, names within one mx or ptr."""

    lookups: int = 10
    voids: int = 2
    names: int = 10


@dataclass(slots=True)
class SpfNode:
    """One record that was evaluated, with the include and redirect records below it, in order."""

    domain: str
    record: str = ""
    result: str = "none"
    matched: str = ""
    children: list[SpfNode] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            "domain": self.domain,
            "record": self.record,
            "result": self.result,
            "matched": self.matched,
            "children": [child.to_json() for child in self.children],
        }


@dataclass(frozen=True, slots=True)
class SpfResult:
    """What SPF says of one (address, identity).

    result: none, pass, fail, softfail, neutral, temperror or permerror; evaluated: False where a fact was
    missing and nothing was looked at; identity: mailfrom or helo; matched: the term that decided;
    lookups, voids: counted against the limits of section 4.6.4; explanation: of the domain's owner,
    untrusted text; tree: what was read.
    """

    result: str
    domain: str
    detail: str
    evaluated: bool = True
    identity: str = "mailfrom"
    ip: str = ""
    matched: str = ""
    lookups: int = 0
    voids: int = 0
    explanation: str = ""
    tree: SpfNode | None = None

    def to_json(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            "result": self.result,
            "domain": self.domain,
            "detail": self.detail,
            "evaluated": self.evaluated,
            "identity": self.identity,
            "ip": self.ip,
            "matched": self.matched,
            "lookups": self.lookups,
            "voids": self.voids,
            "explanation": self.explanation,
            "tree": self.tree.to_json() if self.tree else None,
        }
