"""The short ways of reading what most mail servers write say what the long ones, which read anything, say."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probes.headers import authres, received
from probes.headers.authres import parse_authentication_results, parse_received_spf
from probes.headers.received import parse_received
from probes.headers.scan import Field, scan
from tests.examples import examples

MANY = settings(max_examples=examples(400), deadline=None, suppress_health_check=[HealthCheck.too_slow])
GAP = st.sampled_from([" ", " ", " ", "  ", "\r\n\t", "\r\n        ", "\t"])
NAME = st.sampled_from(["mail.a.example", "out1-7.b.example.", "mx_2.example"])
ODD_NAME = st.sampled_from(
    "localhost 192.0.2.7 [192.0.2.7] [IPv6:2001:db8::1] 2002:a05:7010:: unknown UNKNOWN tls1.2 tls1.2.example"
    " mail.tls1.2 SSLv3 cipher a.cipher cipher.example envelope-from x-envelope-from a.envelope-from"
    " envelope-sender ident a.ident identical.example angelo.example Exim.example HTTP.example a.HTTP helo"
    " Microsoft.example verified.example not.verified X.509 encrypted from by with a x=y cipher=z TLS/a"
    " a@b.example é.example CIPHER Ident IDENT Envelope-From X-ENVELOPE-SENDER TLSv1.2 ssl3.x".split()
)
ANY_NAME = st.one_of(NAME, NAME, NAME, ODD_NAME)
ADDRESS = st.sampled_from(["192.0.2.7", "198.51.100.99", "2001:db8::7", "IPv6:2001:db8::7"])
ODD_ADDRESS = st.sampled_from("IPv6:::ffff:192.0.2.7 999.1.1.1 ::1 127.0.0.1 1.2 ABCD::1".split())
ANY_ADDRESS = st.one_of(ADDRESS, ADDRESS, ODD_ADDRESS)
PEER = st.one_of(
    st.just(""),
    st.builds("({} [{}])".format, ANY_NAME, ANY_ADDRESS),
    st.builds("({} [{}])".format, ANY_NAME, ANY_ADDRESS),
    st.builds("([{}])".format, ANY_ADDRESS),
)
ODD_PEER = st.one_of(
    st.builds("({})".format, ADDRESS),
    st.builds("(HELO {})".format, ANY_NAME),
    st.builds("(helo {} [{}])".format, ANY_NAME, ADDRESS),
    st.builds("({} [{}:25])".format, ANY_NAME, ADDRESS),
)
TLS_NOTE = st.sampled_from(
    [
        "",
        "(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits))",
        "(using TLSv1.2 with cipher ECDHE-RSA-AES256-GCM-SHA384 (256/256 bits) key-exchange ECDHE (P-256)"
        " server-signature RSA-PSS (2048 bits) server-digest SHA256)",
    ]
)
NOTE = st.sampled_from(
    [
        "(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits))",
        "(using TLSv1.2 with cipher ECDHE-RSA-AES256-GCM-SHA384 (256/256 bits) key-exchange ECDHE (P-256)"
        " server-signature RSA-PSS (2048 bits) server-digest SHA256)",
        "(using TLSv1.3 with cipher A (1/1 bits) key-exchange HELO (abc))",
        "(using TLSv1.3 with cipher A (1/1 bits) x-ident ABC)",
        "(version=TLS1_3 cipher=TLS_AES_128_GCM_SHA256 bits=128/128)",
        "(version=TLS1_2, cipher=TLS_X_Y)",
        "(No client certificate requested)",
        "(Client did not present a certificate)",
        '(Client CN "a", Issuer "b" (not verified))',
        "(envelope-from <u@a.example>)",
        "(envelope-from <>)",
        "(Authenticated sender: u@a.example)",
        "(u@192.0.2.9)",
        "(helo=a.example)",
        "(Postfix)",
        "(8.17.1/8.17.1)",
        "(8.17.1.2/8.17.1.2)",
        "(Exim 4.96)",
        "(10.0.0.1)",
    ]
)
SELDOM = st.integers(0, 11).map(lambda number: number == 0)
CLOCK = st.sampled_from(["12:00:00", "24:59:60", "00:00:01"])
ODD_CLOCK = st.sampled_from(["25:00:00", "23:60:00", "23:59:61", "2:00:00", "٠١:00:00"])
DAY = st.sampled_from(["Sat, 21 Nov 2026", "1 Feb 2024"])
ODD_DAY = st.sampled_from(
    ["31 Feb 2026", "Sat, 21 Nov 0000", "Sat,  1 Jan 2000", "Sat, 21 Foo 2026", "21-Nov-2026"]
)
ZONE = st.sampled_from(["+0000 (UTC)", "-0800", "+0530"])
ODD_ZONE = st.sampled_from(["+9999 (X)", "-0000", "GMT", "+0000 (a b)", "+0000 from by with id for x"])
WORD = st.sampled_from(["4XyZ0kTz", "w14csp1", "OCTnIG8+C2sq", "d2e1a72fcca58-7a1.12"])
ODD_WORD = st.sampled_from(
    "AAA/B tls1.2 a.tls1.2 ciphers xcipher envelope-from 1a from <4X@a.example> a.envelope-sender TLS1_2:A"
    " 12cipher encrypted é12345".split()
)
RECIPIENT = st.sampled_from(["<u@a.example>", "<b+x=y.example@a.example>", "<>"])
ODD_RECIPIENT = st.sampled_from(
    "u@a.example <envelope-from=x@a.example> <a+envelope-from=x@b> <TLS/a@b.example> <b-cipher=c@d.example>"
    " <tls1.2@a.example> <cipher=c@d.example> by <by> <u@a.example>,<v@a.example>".split()
)
PROTOCOL = st.sampled_from(["SMTP", "ESMTP", "ESMTPS", "LMTP", "ESMTPSA", "UTF8SMTPS"])
ODD_PROTOCOL = st.sampled_from(["HTTP", "esmtps", "with", "ESMTP/TLS/AES256-SHA", "Microsoft SMTP Server"])


@st.composite
def received_values(draw: st.DrawFn) -> str:
    """Mostly what is read the short way, each piece seldom one that is not, or that says something else."""

    def one(usual: st.SearchStrategy[str], odd: st.SearchStrategy[str]) -> str:
        return draw(odd if draw(SELDOM) else usual)

    def note() -> list[str]:
        return [draw(NOTE)] if draw(SELDOM) else []

    words: list[str] = []
    if draw(st.booleans()):
        words += ["from", one(NAME, ODD_NAME), one(PEER, ODD_PEER), draw(TLS_NOTE), *note(), *note()]
    words += ["by", one(NAME, ODD_NAME), draw(st.sampled_from(["", "(Postfix)"])), *note()]
    if draw(st.booleans()):
        words += ["with", one(PROTOCOL, ODD_PROTOCOL), *note()]
    if draw(st.booleans()):
        words += ["id", one(WORD, ODD_WORD)]
    words += [draw(st.sampled_from(["", "", "(envelope-from <u@a.example>)"])), *note()]
    if draw(st.booleans()):
        words += ["for", one(RECIPIENT, ODD_RECIPIENT)]
    if draw(SELDOM):
        words += ["(version=TLS1_3 cipher=TLS_AES_128_GCM_SHA256 bits=128/128)"]
    words += note()
    text = "".join(draw(GAP) + word for word in words if word)
    time = f"{one(DAY, ODD_DAY)} {one(CLOCK, ODD_CLOCK)} {one(ZONE, ODD_ZONE)}"
    return text + draw(st.sampled_from([";", ";\r\n\t", " ;"])) + draw(GAP) + time


@settings(MANY, max_examples=examples(2_000))
@given(received_values())
def test_a_hop_read_the_short_way(value: str) -> None:
    found = received._USUAL.match(value)
    if found is not None:
        short = received._usual(value, found)
        assert short is None or short == received._any(value)


@pytest.mark.parametrize(
    "value",
    [
        "from mx.example.net by imap.example.net with LMTP id OCTnIG8+C2sqAAAA0J78UA"
        " (envelope-from <b@example.com>) for <u@example.net>; Sat, 28 Nov 2026 20:49:51 +0000",
        "from [127.0.0.1] (localhost [127.0.0.1]) (using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384"
        " (256/256 bits) key-exchange X25519) (No client certificate requested) by smtp.example.com"
        " (Postfix) with ESMTPSA id 4jcMq20T for <u@example.net>; Sat, 28 Nov 2026 20:49:50 +0000 (UTC)",
        "from out.example.com (out.example.com [192.0.2.7])\r\n\tby mx.example.net (Postfix) with ESMTP"
        " id 4jcMq2\r\n\t(envelope-from <b@example.com>) for <u@example.net>;\r\n\tSat, 28 Nov 2026 20:49:50"
        " +0000",
        "by 2002:a05:7010:e90e:b0:3c5:1d6a:2f30 with SMTP id w14csp1; Sat, 21 Nov 2026 08:15:31 -0800 (PST)",
        "from mail.example.com (mail.example.com. [192.0.2.7]) by mx.google.com with ESMTPS id d2e1a72f-7a1"
        " for <seed@gmail.example> (version=TLS1_3 cipher=TLS_AES_256_GCM_SHA384 bits=256/256);"
        " Sat, 21 Nov 2026 08:15:30 -0800 (PST)",
    ],
)
def test_hops_that_are_read_the_short_way(value: str) -> None:
    found = received._USUAL.match(value)
    assert found is not None
    assert received._usual(value, found) == received._any(value) == parse_received(value.encode())


KEY = st.sampled_from(["header.d", "header.i", "header.from", "smtp.mailfrom", "policy.x.y", "Header.D"])
ODD_KEY = st.sampled_from("reason action x. .x x é.y a_b.c-d".split())
VALUE = st.sampled_from(["a.example", "@a.example", '"a/b+c="', '""', "a=b", "b+c/d=="])
ODD_VALUE = st.one_of(
    st.sampled_from(['"a b"', '"a;b"', '"a(b"', '"', '"a"b"', '"a"@b.example', "header.d=x", "a\\b", "\xa0"]),
    st.sampled_from(["", "=?utf-8?q?a?=", "é", "a)", "a(", '"(', ')"', "smtp.x=", "\x1c"]),
)
RESULT = st.sampled_from(["spf=pass", "dkim=pass", "dkim=neutral", "dmarc=fail", "auth=pass", "compauth=x-1"])
ODD_RESULT = st.sampled_from(
    "spf=foo SPF=Pass dkim=hardfail none x=1.0 dkim/1=pass spf= =pass é=pass".split()
)
COMMENT = st.sampled_from(["(p=REJECT sp=REJECT dis=NONE)", "(a; b)", "()", '(a "quoted" word)', '("half)'])
ODD_COMMENT = st.sampled_from(["(a (nested) b)", "(a \\) b)", "(open", "close)", "(é)", "(", ")"])
SERVER = st.sampled_from(["mx.example", "mx.example 1", " mx.example "])
ODD_SERVER = st.sampled_from(["mx.example (c)", '"mx"', "é", "", "spf=pass", "mx/1", "mx.example 1234567"])


@st.composite
def results_values(draw: st.DrawFn) -> str:
    """Mostly what is read the short way."""

    def one(usual: st.SearchStrategy[str], odd: st.SearchStrategy[str]) -> str:
        return draw(odd if draw(SELDOM) and draw(st.booleans()) else usual)

    text = one(SERVER, ODD_SERVER)
    for _ in range(draw(st.integers(0, 4))):
        text += draw(st.sampled_from(["; ", "; ", ";", " ; "])) + one(RESULT, ODD_RESULT)
        for _ in range(draw(st.integers(0, 3))):
            gap = one(st.just(" "), st.sampled_from(["", "  "]))
            comment = draw(st.sampled_from([False, False, True]))
            value = one(COMMENT, ODD_COMMENT) if comment else f"{one(KEY, ODD_KEY)}={one(VALUE, ODD_VALUE)}"
            text += gap + value
    return text + one(st.sampled_from(["", "", ";"]), st.sampled_from(["; ", ";;", " (c)"]))


@settings(MANY, max_examples=examples(2_000))
@given(results_values(), st.sampled_from(["", "i=1; ", " i = 12 ;", "i=; "]))
def test_results_read_the_short_way(text: str, instance: str) -> None:
    for value, arc in ((text, False), (instance + text, True)):
        short = authres._usual(value, arc)
        assert short is None or short == authres._Reader(value, arc).read()


def test_results_that_are_read_the_short_way() -> None:
    text = (
        'mx.example; dkim=pass (2048-bit key; unprotected) header.d=a.example header.b="Ab/+c="; spf=pass'
        " (mx.example: domain of b@a.example) smtp.mailfrom=b@a.example; dmarc=pass (p=NONE) header.from=a.b;"
    )
    short = authres._usual(text, False)
    assert short is not None
    assert short == authres._Reader(text, False).read() == parse_authentication_results(text)
    copy = parse_authentication_results("i=2; " + text, arc=True)
    assert copy == short._replace(instance=2)


@MANY
@given(
    st.sampled_from(["pass", "Fail", " none"]),
    st.lists(COMMENT, max_size=2).map(" ".join),
    st.lists(st.builds("{}={}".format, st.sampled_from(["client-ip", "Helo", "x.y"]), VALUE), max_size=3),
    st.sampled_from([" ", "; ", ""]),
)
def test_received_spf_reads_a_flat_comment_as_any_other(
    word: str, comment: str, pairs: list[str], gap: str
) -> None:
    text = f"{word} {comment}{gap}{gap.join(pairs)}"
    long = authres._Reader(text, False)
    long.at = len(text) - len(text.lstrip()) + len(word.strip())
    long.skip()
    found = parse_received_spf(text)
    assert found is not None
    assert found.comments == tuple(long.comments)


LINES = st.lists(
    st.sampled_from(
        [
            b"A: b\n",
            b"Long-Name \t: x\r\n",
            b" fold\n",
            b"\tfold\r\n",
            b"no field\n",
            b": x\n",
            b"\xc3\xa9: x\n",
        ]
        + [b"a" * count + b": y\n" for count in (200, 201)]
        + [b"A b: c\n", b"A:\n", b"\r\n", b"\n", b"Z: end", b"A\n"]
    ),
    max_size=12,
).map(b"".join)


@MANY
@given(LINES)
def test_fields_are_those_of_a_walk_line_by_line(raw: bytes) -> None:
    raw = b"First: x\n" + raw
    fields: list[Field] = []
    whole: list[bytes] = []
    for line in [*raw.splitlines(keepends=True), b"\n"]:
        if line.strip(b"\r\n") == b"" or line[:1] not in (b" ", b"\t"):
            if whole:
                name, colon, value = b"".join(whole).removesuffix(b"\n").partition(b":")
                name = name.rstrip(b" \t")
                if colon and 0 < len(name) <= 200 and all(33 <= octet <= 126 for octet in name):
                    fields.append(Field(name.decode().lower(), value))
            whole = []
        if line in (b"\n", b"\r\n"):
            break
        whole.append(line)
    assert scan(raw).fields == fields
