"""Header fields by which a mail says of itself that it passed, in more than two hundred ways."""

from __future__ import annotations

import base64
from collections.abc import Iterator

DOMAIN = "sender.test"
CLAIM = f"spf=pass smtp.mailfrom={DOMAIN}; dkim=pass header.d={DOMAIN}; dmarc=pass header.from={DOMAIN}"
NAME = "Authentication-Results"
DATE = "Sat, 21 Nov 2026 08:15:30 +0000"


def _word(text: str, how: str = "B") -> str:
    if how == "B":
        return f"=?utf-8?B?{base64.b64encode(text.encode()).decode()}?="
    return "=?us-ascii?Q?" + "".join(f"={byte:02X}" for byte in text.encode()) + "?="


def _ids(own: str, host: str, domain: str) -> dict[str, str]:
    """Ways to be taken for the provider."""
    return {
        "own": own, "upper": own.upper(), "title": own.title(), "dot": f"{own}.", "dots": f"{own}..",
        "quoted": f'"{own}"', "quoted pair": '"' + "\\" + own + '"', "version": f"{own} 1",
        "version 2": f"{own} 2", "slash": f"{own}/1", "tab": f"\t{own}", "comment before": f"(mx) {own}",
        "comment behind": f"{own} (mx)", "nested": f"((a)(b)) {own}", "below": f"{own}.bad.test",
        "above": f"x.{own}", "glued": f"bad{own}", "homoglyph": own.replace("o", "\u043e"),
        "wide": own.replace("m", "\uff4d"), "soft hyphen": own[:2] + "\u00ad" + own[2:],
        "zero width": own + "\u200b", "B word": _word(own), "Q word": _word(own, "Q"), "host": host,
        "domain": domain, "none": "", "star": "*", "localhost": "localhost", "address": "127.0.0.1",
        "NUL": f"{own}\x00", "bell": f"\x07{own}", "8 bit": f"{own}\xff", "brackets": f"<{own}>",
        "comma": f"x.test, {own}", "semicolons": f";;{own}", "port": f"{own}:25",
    }  # fmt: skip


def _claims() -> dict[str, str]:
    """Ways to claim it."""
    return {
        "plain": CLAIM,
        "upper": CLAIM.upper(),
        "reason": CLAIM.replace("=pass", '=pass reason="good; dmarc=pass"'),
        "versions": CLAIM.replace("=pass", "/1 = pass"),
        "comments": CLAIM.replace("=pass", " (a) = (b) pass (c)"),
        "behind fail": f"dmarc=fail; spf=fail; dkim=fail; {CLAIM}",
        "before fail": f"{CLAIM}; dmarc=fail; spf=fail; dkim=fail",
        "open comment": f"spf=fail (x; {CLAIM}",
        "closed too often": f"spf=fail )); {CLAIM}",
        "open quote": f'spf=fail reason="x; {CLAIM}',
        "trailing": CLAIM + ";;; ;",
        "word": _word(CLAIM),
    }


def _shapes(value: str) -> dict[str, str]:
    """Ways to write the field."""
    plain = f"{NAME}: {value}"
    return {
        "no blank": f"{NAME}:{value}",
        "lower": f"{NAME.lower()}: {value}",
        "upper": f"{NAME.upper()}: {value}",
        "blank before the colon": f"{NAME} : {value}",
        "tab before the colon": f"{NAME}\t: {value}",
        "folded first": f"{NAME}:\r\n {value}",
        "folded by blanks": plain.replace("; ", ";\r\n "),
        "folded by tabs": plain.replace("; ", ";\r\n\t"),
        "folded everywhere": plain.replace(" ", "\r\n "),
        "an empty fold": f"{NAME}: \r\n \r\n {value}",
        "bare CR": f"X-A: y\r{plain}",
        "CR in it": plain.replace("; ", ";\r "),
        "vertical tab": plain.replace("; ", ";\x0b"),
        "one word": f"{NAME}: {_word(value)}",
        "old": f"X-Original-{plain}\r\nOld-{plain}",
        "ARC": f"ARC-{NAME}: i=1; {value}",
        "ARC high": f"ARC-{NAME}: i=50; {value}\r\nARC-Seal: i=50; cv=pass; d={DOMAIN}; b=",
        "underscore": f"{NAME.replace('-', '_')}: {value}",
        "homoglyph": f"{NAME.replace('A', chr(0x410), 1)}: {value}",
    }


def _around(field: str, host: str) -> dict[str, str]:
    """Company in which the field comes."""
    nice = f"nice.{DOMAIN} (nice.{DOMAIN} [192.0.2.1])"
    border = f"Received: from {nice}\r\n\tby {host} with ESMTPS id 1;\r\n\t{DATE}"
    local = f"Received: from {host} (localhost [127.0.0.1])\r\n\tby {host} with LMTP id 2;\r\n\t{DATE}"
    spf = f"Received-SPF: pass ({host}: ok) client-ip=192.0.2.1; receiver={host}; identity=mailfrom"
    return {
        "twice": f"{field}\r\n{field}",
        "forty times": "\r\n".join([field] * 40),
        "above a border": f"{field}\r\n{border}",
        "below a border": f"{border}\r\n{field}",
        "between borders": f"{border}\r\n{field}\r\n{border}",
        "below LMTP": f"{local}\r\n{field}\r\n{border}",
        "above LMTP": f"{field}\r\n{local}\r\n{border}",
        "three houses": "\r\n".join([local, field, border] * 3),
        "below SPF": f"{spf}\r\n{field}",
        "above SPF": f"{field}\r\n{spf}",
        "Return-Path": f"Return-Path: <a@{DOMAIN}>\r\nDelivered-To: a\r\n{field}",
        "mbox": f"From a@{DOMAIN} Sat Nov 21 08:15:30 2026\r\n{field}",
        "quoted mbox": f">From a@{DOMAIN} Sat Nov 21 08:15:30 2026\r\n{field}",
        "no field": f"this is no field\r\n{field}",
        "colon alone": f": x\r\n{field}",
        "late": f"X-Pad: {'p' * 900}\r\n" * 20 + field,
        "X-Received": f"X-Received: by {host}; {DATE}\r\n{field}",
        "Resent": f"Resent-From: a@{DOMAIN}\r\n{field}",
        "X-Spamd": f"X-Spamd-Result: default: False [-9.00 / 15.00]; DMARC_POLICY_ALLOW(-1)[]\r\n{field}",
    }


def forgeries(own: str, host: str, domain: str) -> Iterator[tuple[str, bytes]]:
    """(what it is, fields without the last line end); own: the provider's authserv-id, host: its MX."""
    for name, one in _ids(own, host, domain).items():
        for how, claim in list(_claims().items())[:2]:
            yield f"id {name}, {how}", f"{NAME}: {one}{';' if one else ''} {claim}".encode()
    for name, claim in _claims().items():
        for shape, text in list(_shapes(f"{own}; {claim}").items())[::3]:
            yield f"claim {name}, {shape}", text.encode()
    for name, text in _shapes(f"{own}; {CLAIM}").items():
        yield f"shape {name}", text.encode()
    for claim in ("plain", "behind fail"):
        for name, text in _around(f"{NAME}: {own}; {_claims()[claim]}", host).items():
            yield f"company {name}, {claim}", text.encode()
