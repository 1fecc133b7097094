"""Which folders count: flags, names in many languages, config; and what the presets know."""

from __future__ import annotations

import pytest

from probes.errors import ConfigError
from probes.mailbox.folders import find_folders, is_junk_name, junk_names
from probes.mailbox.model import Role
from probes.mailbox.mutf7 import encode
from probes.mailbox.parse import ListEntry
from probes.mailbox.presets import preset, presets

LANGUAGES = {
    "en": "Junk Email",
    "de": "Spamverdacht",
    "fr": "Courrier indésirable",
    "es": "Correo no deseado",
    "pt": "Lixo Eletrônico",
    "it": "Posta indesiderata",
    "nl": "Ongewenste e-mail",
    "sv": "Skräppost",
    "pl": "Wiadomości-śmieci",
    "cs": "Nevyžádaná pošta",
    "ru": "Нежелательная почта",
    "tr": "Önemsiz",
    "ja": "迷惑メール",
    "ko": "정크 메일",
    "zh": "垃圾邮件",
    "el": "Ανεπιθύμητη αλληλογραφία",
    "ar": "البريد العشوائي",
    "he": "דואר זבל",
}


def folder(name: str, *flags: str, delimiter: str | None = "/") -> ListEntry:
    return ListEntry(encode(name), frozenset(flags), delimiter)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("parent", ["", "INBOX/"])
def test_localised_names(language: str, parent: str) -> None:
    entry = folder(parent + LANGUAGES[language].upper())
    found = find_folders([folder("INBOX"), entry, folder("Sent", "\\sent")])
    assert [one.name for one in found.junk] == [entry.name]
    assert found.others == ()


def test_flags_beat_names_and_need_no_capability() -> None:
    found = find_folders([folder("INBOX"), folder("Weird", "\\junk"), folder("Spam")])
    assert [(one.name, one.flagged) for one in found.junk] == [("Weird", True)]
    assert found.others == ("Spam",)


def test_every_folder_that_the_provider_uses_counts() -> None:
    found = find_folders(
        [folder("INBOX"), folder("Spam"), folder("Spamverdacht")], preset_junk=preset("gmx").junk
    )
    assert {one.name for one in found.junk} == {"Spam", "Spamverdacht"}


def test_config_beats_all() -> None:
    entries = [folder("INBOX"), folder("Junk", "\\junk"), folder("Müll"), folder("Liste")]
    found = find_folders(entries, {"Müll": Role.JUNK, "liste": Role.INBOX, "Weg": Role.OTHER})
    assert [one.name for one in found.junk] == [encode("Müll")]
    assert ("Liste", Role.INBOX) in [(one.name, one.role) for one in found.counting]
    assert found.missing == ("Weg",)


def test_views_and_own_mail_are_never_looked_at() -> None:
    flags = ("\\all", "\\flagged", "\\important", "\\drafts", "\\sent", "\\noselect", "\\nonexistent")
    found = find_folders(
        [folder("INBOX"), *(folder(f"F{flag[1:]}", flag) for flag in flags), folder("Archive")]
    )
    assert found.others == ("Archive",)


def test_an_all_folder_called_spam_is_no_junk() -> None:
    assert find_folders([folder("INBOX"), folder("Spam", "\\all")]).junk == ()


def test_names_are_data_with_a_source() -> None:
    assert len(junk_names()) > 80
    assert not is_junk_name("Work")


def test_presets_have_what_the_issue_names() -> None:
    named = "gmail outlook microsoft365 yahoo aol icloud gmx webde fastmail zoho proton"
    named += " dovecot cyrus stalwart generic"
    assert set(named.split()) <= set(presets())
    for one in presets().values():
        assert one.source
        assert one.date
        assert one.limits.connections >= 1
        assert one.host or one.name in ("dovecot", "cyrus", "stalwart", "generic")
        public = one.host is not None
        assert not (public and one.noop_bursts)
        assert one.junk_required is public


def test_the_login_name_of_icloud_is_the_local_part() -> None:
    assert preset("icloud").login_name("seed@icloud.com") == "seed"
    assert preset("gmail").login_name("seed@gmail.com") == "seed@gmail.com"


def test_an_unknown_preset_is_told_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="gmail"):
        preset("gmial")
