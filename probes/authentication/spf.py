"""SPF (RFC 7208): check_host() over our own resolver, with every term that was looked at kept.

DNS failures are temperror, never a silent "does not match".
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NoReturn

from probes.authentication.domains import normal_domain
from probes.authentication.spf_macro import MacroError, MacroString, read_macro
from probes.authentication.spf_record import Mechanism, SpfRecord, SpfSyntaxError, is_spf, parse_record
from probes.authentication.spf_result import SpfLimits, SpfNode, SpfResult
from probes.dns import DnsAnswer, DnsStatus, Resolver

Address = IPv4Address | IPv6Address

#: Characters of an explanation that are kept, and of a sender that is looked at (RFC 5321 allows 320).
EXPLANATION_CAP = 1000
SENDER_CAP = 1000


class _Stop(Exception):
    """Ends the whole evaluation with a result."""

    def __init__(self, result: str, detail: str) -> None:
        super().__init__(detail)
        self.result = result
        self.detail = detail


async def check_spf(
    ip: str | None,
    mail_from: str | None,
    helo: str | None,
    resolver: Resolver,
    *,
    limits: SpfLimits | None = None,
    now: float = 0.0,
) -> SpfResult:
    """Evaluates SPF for a connection.

    mail_from: the reverse path, "" for the null one (then postmaster@helo, section 2.4), None where it is
    not known. Never raises; a missing or unreadable fact is "none" with `evaluated` False.
    """
    if mail_from is not None:
        mail_from = mail_from.strip().strip("<>")
    identity = "mailfrom" if mail_from else "helo"
    sender = _sender(mail_from, helo)
    domain = normal_domain(sender.rpartition("@")[2]) if sender else ""
    if _address(ip) is None or not sender:
        why = "the connecting address is not known" if _address(ip) is None else "the sender is not known"
        return SpfResult("none", domain[:253], f"not evaluated: {why}", False, identity, ip or "")
    return await check_host(
        ip or "", domain, sender, resolver, helo=(helo or "")[:253], limits=limits, now=now, identity=identity
    )


async def check_host(
    ip: str,
    domain: str,
    sender: str,
    resolver: Resolver,
    *,
    helo: str = "",
    limits: SpfLimits | None = None,
    now: float = 0.0,
    identity: str = "mailfrom",
) -> SpfResult:
    """check_host() of section 4.1: ip must be an address, sender local@domain. now: epoch seconds, for
    %{t}.
    """
    address = _address(ip)
    if address is None:
        raise ValueError(f"not an address: {ip[:60]!r}")
    values = macro_values(address, sender, helo)
    values["t"] = str(int(now))
    return await _Run(address, values, resolver, limits or SpfLimits()).check(domain, identity)


def macro_values(address: Address, sender: str, helo: str) -> dict[str, str]:
    """What each macro letter stands for (section 7.2), but d and p, which change on the way."""
    local, _, origin = sender.rpartition("@")
    return {
        "s": sender,
        "l": local,
        "o": origin,
        "h": helo or "unknown",
        "i": _dotted(address),
        "v": "in-addr" if address.version == 4 else "ip6",
        "c": str(address),
        "r": "unknown",
        "t": "0",
    }


def _address(ip: str | None) -> Address | None:
    """The connecting address; IPv4 in an IPv6 coat is IPv4 (section 5)."""
    try:
        address = ip_address((ip or "").strip().strip("[]").removeprefix("IPv6:"))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _sender(mail_from: str | None, helo: str | None) -> str:
    """The identity as local@domain (sections 2.4 and 4.3), or "" where there is none."""
    if mail_from is None or (not mail_from and not helo):
        return ""
    sender = (mail_from or f"postmaster@{helo}")[-SENDER_CAP:]
    local, at, domain = sender.rpartition("@")
    if not at:
        return f"postmaster@{domain}"
    return f"{local or 'postmaster'}@{domain}"


def _is_domain(name: str) -> bool:
    """Section 4.3: several labels, each of 1 to 63 octets. What is not ASCII matches nothing (RFC 8616 4)."""
    if not name.isascii() or "\\" in name:
        return False
    labels = name.split(".")
    return len(name) <= 253 and len(labels) > 1 and all(0 < len(label) < 64 for label in labels)


class _Run:
    """One evaluation: the facts, what has been counted, and the answers about the connecting host's name."""

    def __init__(
        self, address: Address, values: dict[str, str], resolver: Resolver, limits: SpfLimits
    ) -> None:
        self._address = address
        self._values = values
        self._resolver = resolver
        self._limits = limits
        self._rdtype = "A" if address.version == 4 else "AAAA"
        self._host: str | None = None
        self._explanation: tuple[MacroString, str] | None = None
        self.lookups = 0
        self.voids = 0

    async def check(self, domain: str, identity: str) -> SpfResult:
        """check_host() with everything that may end it early."""
        node = SpfNode(domain)
        explanation = ""
        try:
            node.result, detail = await self._record(domain, node, top=True)
            if node.result == "fail":
                explanation = await self._explain()
        except _Stop as stop:
            node.result, detail = stop.result, stop.detail
        return SpfResult(
            result=node.result,
            domain=domain,
            detail=detail,
            identity=identity,
            ip=str(self._address),
            matched=node.matched,
            lookups=self.lookups,
            voids=self.voids,
            explanation=explanation,
            tree=node,
        )

    async def _record(self, domain: str, node: SpfNode, top: bool) -> tuple[str, str]:
        """Finds and evaluates the record of one domain; top: it may explain a fail (section 6.2)."""
        if not _is_domain(domain):
            return "none", f"not a domain with SPF: {domain[:80]!r}"
        text = await self._fetch(domain)
        if text is None:
            return "none", f"{domain} has no SPF record"
        node.record = text
        try:
            record = parse_record(text)
        except SpfSyntaxError as error:
            raise _Stop("permerror", f"{domain}: {error}") from None
        for mechanism in record.mechanisms:
            if await self._matches(mechanism, domain, node):
                node.matched = mechanism.text
                if top and record.explanation:
                    self._explanation = (record.explanation, domain)
                return mechanism.result, f"{domain}: {mechanism.text} matched {self._address}"
        if record.redirect and not any(one.name == "all" for one in record.mechanisms):
            return await self._redirect(record, domain, node, top)
        return "neutral", f"{domain}: nothing matched {self._address}"

    async def _fetch(self, domain: str) -> str | None:
        answer = await self._resolver.query(domain, "TXT")
        self._must_be_conclusive(answer)
        records = [text for text in answer.records if is_spf(text)]
        if len(records) > 1:
            raise _Stop("permerror", f"{domain} has {len(records)} SPF records")
        return records[0] if records else None

    async def _redirect(self, record: SpfRecord, domain: str, node: SpfNode, top: bool) -> tuple[str, str]:
        assert record.redirect is not None
        self._count_lookup()
        target = normal_domain(await self._name(record.redirect, domain))
        child = SpfNode(target)
        node.children.append(child)
        child.result, detail = await self._record(target, child, top)
        if child.result == "none":
            raise _Stop("permerror", f"{domain}: redirect={target} has no SPF record")
        node.matched = f"redirect={target}"
        return child.result, detail

    async def _matches(self, mechanism: Mechanism, domain: str, node: SpfNode) -> bool:
        if mechanism.network is not None:
            return self._address in mechanism.network
        if mechanism.name == "all":
            return True
        self._count_lookup()
        target = await self._name(mechanism.domain, domain) if mechanism.domain else domain
        match mechanism.name:
            case "include":
                return await self._include(target, domain, node)
            case "a":
                return self._within(await self._addresses(target), mechanism)
            case "mx":
                return await self._mx(target, mechanism)
            case "exists":
                return bool((await self._ask(target, "A")).records)
            case _:
                return await self._ptr(target)

    async def _include(self, target: str, domain: str, node: SpfNode) -> bool:
        """Section 5.2: only a pass matches; no record there is a permanent error here."""
        child = SpfNode(normal_domain(target))
        node.children.append(child)
        child.result, _ = await self._record(child.domain, child, top=False)
        if child.result == "none":
            raise _Stop("permerror", f"{domain}: include:{child.domain} has no SPF record")
        return child.result == "pass"

    async def _addresses(self, name: str, counted: bool = True) -> tuple[str, ...]:
        return (await self._ask(name, self._rdtype, counted)).records

    def _within(self, addresses: tuple[str, ...], mechanism: Mechanism) -> bool:
        bits = mechanism.prefix4 if self._address.version == 4 else mechanism.prefix6
        own = str(self._address)
        if own in addresses:
            return True
        for text in addresses:
            try:
                network = ip_network(f"{text}/{bits}", strict=False)
            except ValueError:
                continue
            if network.version == self._address.version and self._address in network:
                return True
        return False

    async def _mx(self, target: str, mechanism: Mechanism) -> bool:
        answer = await self._ask(target, "MX")
        names = [record.rpartition(" ")[2].rstrip(".") for record in answer.records]
        names = [name for name in names if name]  # "0 ." accepts no mail at all (RFC 7505)
        if len(names) > self._limits.names:
            raise _Stop("permerror", f"{target} has more than {self._limits.names} MX names")
        for name in names:
            # The limit counts terms: a mail host without an address is no second void (section 4.6.4).
            if self._within(await self._addresses(name, counted=False), mechanism):
                return True
        return False

    async def _ptr(self, target: str) -> bool:
        wanted = normal_domain(target)
        for name in await self._host_names():
            if (name == wanted or name.endswith("." + wanted)) and await self._points_here(name):
                return True
        return False

    async def _host_names(self) -> list[str]:
        """The reverse names of the address, at most ten; a failure here only means no name (section 5.5)."""
        answer = await self._resolver.query(self._address.reverse_pointer, "PTR")
        if answer.status.conclusive and not answer.records:
            self._count_void(answer.name)
        return [normal_domain(name) for name in answer.records[: self._limits.names]]

    async def _points_here(self, name: str) -> bool:
        if not _is_domain(name):
            return False
        answer = await self._resolver.query(name, self._rdtype)
        return str(self._address) in answer.records or any(
            _address(record) == self._address for record in answer.records
        )

    async def _ask(self, name: str, rdtype: str, counted: bool = True) -> DnsAnswer:
        """A question a mechanism depends on. A name DNS cannot carry finds nothing (section 4.8)."""
        if not _is_domain(name):
            return DnsAnswer(name, rdtype, DnsStatus.NXDOMAIN)
        answer = await self._resolver.query(name, rdtype)
        self._must_be_conclusive(answer)
        if not answer.records and counted:
            self._count_void(name)
        return answer

    def _must_be_conclusive(self, answer: DnsAnswer) -> None:
        if not answer.status.conclusive:
            detail = f"DNS {answer.status.value} for {answer.name} {answer.rdtype}"
            raise _Stop("temperror", f"{detail} ({answer.detail})" if answer.detail else detail)

    def _count_lookup(self) -> None:
        self.lookups += 1
        if self.lookups > self._limits.lookups:
            self._too_many(f"more than {self._limits.lookups} terms that ask DNS")

    def _count_void(self, name: str) -> None:
        self.voids += 1
        if self.voids > self._limits.voids:
            self._too_many(f"more than {self._limits.voids} lookups found nothing, last {name[:80]}")

    @staticmethod
    def _too_many(detail: str) -> NoReturn:
        raise _Stop("permerror", f"{detail} (RFC 7208 section 4.6.4)")

    async def _name(self, macro: MacroString, domain: str) -> str:
        if macro.plain is not None:
            return macro.plain.rstrip(".")
        return macro.expand_name(await self._macro_values(macro, domain))

    async def _macro_values(self, macro: MacroString, domain: str) -> dict[str, str]:
        values = {**self._values, "d": domain}
        if macro.wants_host:
            values["p"] = await self._validated_host(domain)
        return values

    async def _validated_host(self, domain: str) -> str:
        """%{p}: a reverse name that points back here, best the domain's own (section 7.3)."""
        if self._host is None:
            answer = await self._resolver.query(self._address.reverse_pointer, "PTR")
            names = [normal_domain(name) for name in answer.records[: self._limits.names]]
            names.sort(key=lambda name: (name != domain, not name.endswith("." + domain)))
            self._host = "unknown"
            for name in names:
                if await self._points_here(name):
                    self._host = name
                    break
        return self._host

    async def _explain(self) -> str:
        """The owner's explanation (section 6.2); every fault in it only means there is none."""
        if self._explanation is None:
            return ""
        macro, domain = self._explanation
        name = await self._name(macro, domain)
        if not _is_domain(name):
            return ""
        answer = await self._resolver.query(name, "TXT")
        if len(answer.records) != 1:
            return ""
        try:
            text = read_macro(answer.records[0][:EXPLANATION_CAP], explanation=True)
        except MacroError:
            return ""
        return text.expand(await self._macro_values(text, domain))[:EXPLANATION_CAP]


def _dotted(address: Address) -> str:
    """%{i}: IPv4 as it is, IPv6 as nibbles with dots (section 7.3)."""
    if address.version == 4:
        return str(address)
    return ".".join(address.exploded.replace(":", ""))
