"""Whether this machine can hold the lab at all."""

import os
import shutil
from pathlib import Path
from typing import Final

PROGRAMS: Final = (
    "knotd", "unbound", "rbldnsd", "dovecot", "doveadm", "opendkim", "opendmarc", "rspamd", "spamd",
    "spamass-milter", "dkimpy-milter", "policyd-spf", "postsuper", "nsenter", "swaks", "dig",
)  # fmt: skip
INSTALL: Final = Path(__file__).parent.parent / "install.sh"
SEARCH: Final = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"


def program(name: str) -> str:
    """Full path of a program; daemons live in sbin, which is not on everyone's PATH."""
    found = shutil.which(name, path=SEARCH)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed: run {INSTALL}")
    return found


def why_not() -> str | None:
    """The reason why no lab can be started here, or None."""
    if os.geteuid() != 0:
        return "the mail lab needs root (namespaces, ports 25, 53, 143)"
    missing = [name for name in PROGRAMS if shutil.which(name, path=SEARCH) is None]
    return f"the mail lab lacks {', '.join(missing)}: run tests/lab/install.sh" if missing else None
