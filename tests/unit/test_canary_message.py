"""The message: what a canary looks like on the wire, from every kind of template, and what cannot be
smuggled into it."""

from __future__ import annotations

import re
import time
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.canary.message import MessageTemplate, message_date, new_message_id
from probes.canary.mime import Address, header_line, parse_address, quoted_printable
from probes.canary.token import TokenKeys, find_tokens, mint
from probes.errors import ConfigError, DataError

TOKEN = mint(TokenKeys(1, {1: b"k" * 32}), agent="a", route="app/s", at=1.8e9, nonce=bytes(range(16)))
AT = 1_800_000_000.0
TO = "seed@example.net"
MID = "<abc@acme.example>"


def compiled(**changes: Any) -> MessageTemplate:
    given: dict[str, Any] = {"from_address": "Acme <noreply@acme.example>", "sender": "app"}
    return MessageTemplate.compile(**(given | changes))


def built(template: MessageTemplate, to: str = TO) -> bytes:
    return template.build(TOKEN, to, MID, AT)


def parsed(raw: bytes) -> EmailMessage:
    message = message_from_bytes(raw, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def well_formed(raw: bytes) -> None:
    """CRLF only, no line over 998 octets, ends in CRLF."""
    bare = raw.replace(b"\r\n", b"")
    assert b"\r" not in bare
    assert b"\n" not in bare
    assert raw.endswith(b"\r\n")
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998
    assert b"Zq7x" not in raw


def written(tmp_path: Path, name: str, text: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_builtin_message() -> None:
    raw = built(compiled())
    well_formed(raw)
    message = parsed(raw)
    assert message["From"] == "Acme <noreply@acme.example>"
    assert message["To"] == TO
    assert message["Message-ID"] == MID
    assert message["Date"].datetime.timestamp() == AT
    assert message["Subject"] == f"Mail delivery canary from app [{TOKEN}]"
    assert message["X-Mailcanary-Token"] == TOKEN
    assert message["MIME-Version"] == "1.0"
    assert message["List-Unsubscribe"] is None
    assert message.get_content_type() == "multipart/alternative"
    kinds = [part.get_content_type() for part in message.iter_parts()]
    assert kinds == ["text/plain", "text/html"]
    for part in message.iter_parts():
        assert TOKEN in part.get_content()
    assert not message.defects
    assert raw.isascii()
    assert find_tokens(raw) == [TOKEN]


def test_list_unsubscribe_and_custom_headers() -> None:
    template = compiled(
        list_unsubscribe=["https://acme.example/u?t={{ token }}", "mailto:u@acme.example"],
        one_click=True,
        headers={
            "X-Env": "Größe {{ token }}",
            "Reply-To": "Jürgen <j@acme.example>",
            "Subject": "Hi {{token}}!",
        },
    )
    message = parsed(built(template))
    well_formed(built(template))
    assert message["List-Unsubscribe"] == f"<https://acme.example/u?t={TOKEN}>, <mailto:u@acme.example>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert message["X-Env"] == f"Größe {TOKEN}"
    assert message["Reply-To"].addresses[0].display_name == "Jürgen"
    assert message["Subject"] == f"Hi [{TOKEN}]!"


@pytest.mark.parametrize(
    "changes",
    [
        {"from_address": "noreply"},
        {"from_address": "A <a@b.example>\r\nBcc: x@y.example"},
        {"from_address": "A <a@b.example"},
        {"from_address": "a@b.example, c@d.example"},
        {"from_address": "a..b@c.example"},
        {"headers": {"X-A": "b\r\nBcc: x@y.example"}},
        {"headers": {"X-A": "b\nBcc: x"}},
        {"headers": {"X A": "b"}},
        {"headers": {"X-A:": "b"}},
        {"headers": {"X-A\r\nBcc": "b"}},
        {"headers": {"From": "x@y.example"}},
        {"headers": {"Content-Type": "text/plain"}},
        {"headers": {"Subject": "a\r\nb"}},
        {"headers": {"X-A": "x" * 2000}},
        {"headers": {"Reply-To": "nobody"}},
        {"list_unsubscribe": ["ftp://a.example"]},
        {"list_unsubscribe": ["https://a.example/>\r\nX: y"]},
        {"one_click": True},
        {"list_unsubscribe": ["mailto:a@b.example"], "one_click": True},
    ],
)
def test_bad_settings(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        compiled(**changes)


@pytest.mark.parametrize(
    ("token", "to", "mid"),
    [
        (TOKEN + "\r\n", TO, MID),
        (TOKEN.lower(), TO, MID),
        (TOKEN, "a@b.example\r\nBcc: c@d.example", MID),
        (TOKEN, "a b@c.example", MID),
        (TOKEN, "é@c.example", MID),
        (TOKEN, "<a@b.example>", MID),
        (TOKEN, TO, "abc@acme.example"),
        (TOKEN, TO, "<a@b>\r\nX: y"),
    ],
)
def test_bad_values(token: str, to: str, mid: str) -> None:
    with pytest.raises(DataError):
        compiled().build(token, to, mid, AT)


# Addresses and encodings


@pytest.mark.parametrize(
    ("text", "address", "name", "header"),
    [
        ("a@b.example", "a@b.example", "", "a@b.example"),
        ("<a@b.example>", "a@b.example", "", "a@b.example"),
        ("Acme Mail <a@b.example>", "a@b.example", "Acme Mail", "Acme Mail <a@b.example>"),
        ('"Acme, Inc." <a@b.example>', "a@b.example", "Acme, Inc.", '"Acme, Inc." <a@b.example>'),
        ('Say "x" <a@b.example>', "a@b.example", 'Say "x"', '"Say \\"x\\"" <a@b.example>'),
        ("Zoë <a@b.example>", "a@b.example", "Zoë", "=?utf-8?q?Zo=C3=AB?= <a@b.example>"),
        ("a@Bücher.example", "a@xn--bcher-kva.example", "", "a@xn--bcher-kva.example"),
    ],
)
def test_addresses(text: str, address: str, name: str, header: str) -> None:
    got = parse_address(text)
    assert (got.address, got.name, got.header()) == (address, name, header)
    assert got.domain == address.split("@")[1]


@given(st.text(max_size=300))
def test_any_display_name_survives_or_is_refused(name: str) -> None:
    header = Address("a@b.example", " ".join(name.split())).header() if name.isprintable() else ""
    assert "\n" not in header.replace("\r\n ", "")


@given(st.text(max_size=400))
def test_quoted_printable_round_trip(text: str) -> None:
    import quopri

    wanted = text.replace("\r\n", "\n").replace("\r", "\n")
    coded = quoted_printable(wanted.encode("utf-8", "ignore").decode(), is_html=False)
    assert all(len(line) <= 76 for line in coded.split("\r\n"))
    assert quopri.decodestring(coded.encode()).replace(b"\r\n", b"\n") == wanted.encode("utf-8", "ignore")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=200))
def test_header_text_round_trip(text: str) -> None:
    text = " ".join(text.split())
    line = header_line("X-Test", text)
    assert line.isascii()
    assert line.endswith("\r\n")
    from email.header import decode_header, make_header

    raw = line.removeprefix("X-Test:").replace("\r\n", "").strip()
    assert str(make_header(decode_header(raw))).split() == text.split()


# Jinja2 templates


def test_a_jinja_file_with_blocks(tmp_path: Path) -> None:
    text = (
        "{% block subject %}Grüße {{ token }}\n{% endblock %}"
        "{% block text %}Hallo {{ to }}, {{ shop }}\n.{{ token }}\n{% endblock %}"
        "{% block html %}<p title='{{ message_id }}'>{{ shop }} {{ to }} {{ date }}</p>{% endblock %}"
    )
    template = compiled(template=written(tmp_path, "order.j2", text), variables={"shop": "Müller & Söhne"})
    raw = built(template, to="a&b=c+" + "x" * 50 + "@example.net")
    well_formed(raw)
    message = parsed(raw)
    assert message["Subject"] == f"Grüße [{TOKEN}]"
    plain, page = message.iter_parts()
    assert "Müller & Söhne" in plain.get_content()
    assert "Hallo a&b=c+" + "x" * 50 + "@example.net," in plain.get_content()
    assert plain.get_content().splitlines()[-1] == f".{TOKEN}"
    shown = page.get_content()
    assert "Müller &amp; Söhne a&amp;b=c+" in shown
    assert "&lt;abc@acme.example&gt;" in shown
    assert message_date(AT) in shown
    assert f"[{TOKEN}]" in shown


def test_a_plain_and_an_html_file(tmp_path: Path) -> None:
    plain = parsed(built(compiled(template=written(tmp_path, "a.txt", "1 < 2\n"))))
    assert next(part.get_content().split()[:3] for part in plain.iter_parts()) == ["1", "<", "2"]
    assert "1 &lt; 2" in list(plain.iter_parts())[1].get_content()
    page = (
        "<html><head><title>t</title><style>x{}</style></head><body><h1>Hi</h1><p>you there</p></body></html>"
    )
    rich = parsed(built(compiled(template=written(tmp_path, "a.html", page))))
    parts = [part.get_content() for part in rich.iter_parts()]
    assert parts[0].split() == ["Hi", "you", "there", f"[{TOKEN}]"]
    assert parts[1].index(TOKEN) < parts[1].index("</body>")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.j2", "{% block text %}\n{{ unknown }}{% endblock %}", ":2: 'unknown' is undefined"),
        ("a.j2", "line\n{% block text %}{% if %}{% endblock %}", ":2: "),
        ("a.j2", "{% block text %}{{ ''.__class__.__mro__ }}{% endblock %}", "unsafe"),
        ("a.j2", "{% block text %}{{ token|lower }}{% endblock %}", "no filter"),
        ("a.j2", "{% block text %}{{ token[:10] }}{% endblock %}", "no filter"),
        ("a.j2", "{% block text %}{% include '../../etc/passwd' %}{% endblock %}", "no such template"),
        ("a.j2", "{% block text %}{{ 1/0 }}{% endblock %}", ":1: division by zero"),
        (
            "a.j2",
            "{% block text %}{% for x in range(99999) %}{{ 'x' * 999 }}{% endfor %}{% endblock %}",
            "more than",
        ),
        ("a.j2", "{% block subject %}x{% endblock %}", "neither"),
        ("a.txt", b"\xff\xfe", "decode"),
    ],
)
def test_bad_templates_name_file_and_line(tmp_path: Path, name: str, text: str | bytes, words: str) -> None:
    path = written(tmp_path, name, text)
    with pytest.raises(ConfigError) as caught:
        compiled(template=path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_template(tmp_path: Path) -> None:
    for name in ("none.j2", "none.eml"):
        with pytest.raises(ConfigError):
            compiled(template=tmp_path / name)


# Raw .eml

RAW = """Received: from x by y; date
From: Old <old@old.example>
To: someone@old.example
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=
Date: Mon, 1 Jan 2001 00:00:00 +0000
Message-ID: <old@old.example>
DKIM-Signature: v=1; a=rsa-sha256
X-Campaign: spring
 folded {{ token }}
List-Unsubscribe: <https://old.example/u>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=outer

--outer
Content-Type: multipart/alternative; boundary=inner

--inner
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

Sch=F6n {{ to }}
--inner
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: base64

PGh0bWw+PGJvZHk+PHA+U2Now7ZuIHt7IHRva2VuIH19PC9wPjwvYm9keT48L2h0bWw+
--inner--
--outer
Content-Type: application/pdf
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename=a.pdf

JVBERi0xLjQK
--outer--
"""


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_raw_eml(tmp_path: Path, ends: str) -> None:
    path = written(tmp_path, "mail.eml", RAW.replace("\n", ends))
    raw = built(compiled(template=path))
    well_formed(raw)
    message = parsed(raw)
    assert message["From"] == "Acme <noreply@acme.example>"
    assert message.get_all("To") == [TO]
    assert message.get_all("Date") == [message_date(AT)]
    assert message.get_all("Message-ID") == [MID]
    assert message["Subject"] == f"Grüße [{TOKEN}]"
    assert message["Received"] is None
    assert message["DKIM-Signature"] is None
    assert message["X-Campaign"] == f"spring folded {TOKEN}"
    assert message["List-Unsubscribe"] == "<https://old.example/u>"
    assert message.get_all("MIME-Version") == ["1.0"]
    kinds = [part.get_content_type() for part in message.walk()]
    assert kinds == ["multipart/mixed", "multipart/alternative", "text/plain", "text/html", "application/pdf"]
    parts = list(message.walk())
    assert parts[2].get_content().split() == ["Schön", TO, f"[{TOKEN}]"]
    assert parts[3].get_content().strip() == f"<html><body><p>Schön {TOKEN}</p></body></html>"
    assert parts[4].get_content() == b"%PDF-1.4\n"
    assert not message.defects


def test_the_senders_own_header_beats_the_raw_one(tmp_path: Path) -> None:
    path = written(tmp_path, "mail.eml", RAW)
    template = compiled(
        template=path, headers={"X-Campaign": "mine"}, list_unsubscribe=["https://acme.example/u"]
    )
    message = parsed(built(template))
    assert message.get_all("X-Campaign") == ["mine"]
    assert message.get_all("List-Unsubscribe") == ["<https://acme.example/u>"]


def test_a_raw_eml_of_one_part(tmp_path: Path) -> None:
    message = parsed(built(compiled(template=written(tmp_path, "a.eml", "Subject: x\n\nhello\n"))))
    assert message.get_content_type() == "text/plain"
    assert message.get_content().split() == ["hello", f"[{TOKEN}]"]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"Subject: x\r\n\r\na\rb\r\n", ":3: a bare CR"),
        (b"Subject: x\n\na\0b\n", ":3: a NUL"),
        (b"Subject: x\n\n" + b"y" * 999 + b"\n", ":3: 999 octets"),
        (b"\n\nhello\n", "no header"),
        (b"Content-Type: image/png\n\nhello\n", "no text"),
        (b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n\xff\n", "claims"),
        (b"Content-Type: text/plain; charset=klingon\n\nx\n", "klingon"),
    ],
)
def test_bad_raw_mail_names_file_and_line(tmp_path: Path, raw: bytes, words: str) -> None:
    path = written(tmp_path, "mail.eml", raw)
    with pytest.raises(DataError) as caught:
        compiled(template=path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


# The rest


def test_dates_have_one_width() -> None:
    assert message_date(AT) == "Fri, 15 Jan 2027 08:00:00 +0000"
    assert {len(message_date(float(at))) for at in range(0, 4_000_000_000, 99_999_999)} == {31}


def test_message_ids() -> None:
    assert re.fullmatch(r"<[0-9a-f]{32}@acme\.example>", new_message_id("acme.example", b"r" * 16))
    with pytest.raises(ValueError):
        new_message_id("acme.example", b"short")


def test_building_is_one_join_not_a_composition() -> None:
    """A canary costs less than a hundredth of composing its template."""
    start = time.process_time()
    template = compiled()
    composing = time.process_time() - start
    start = time.process_time()
    for _ in range(100):
        built(template)
    assert (time.process_time() - start) / 100 < composing / 5
