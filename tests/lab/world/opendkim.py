"""The relay's signer."""

from collections.abc import Iterable

from .keys import DkimKey
from .layout import Daemon, Layout


def opendkim(layout: Layout, keys: Iterable[DkimKey]) -> Daemon:
    """Signs what is submitted, each From domain with its own key."""
    folder = layout.folder("opendkim")
    listed = list(keys)
    names = [(f"{k.selector}._domainkey.{k.domain}", k) for k in listed]
    (folder / "keys").write_text("".join(f"{n} {k.domain}:{k.selector}:{k.path}\n" for n, k in names))
    (folder / "signing").write_text("".join(f"*@{k.domain} {n}\n" for n, k in names))
    conf = folder / "opendkim.conf"
    socket = layout.run / "opendkim.sock"
    conf.write_text(
        f"Mode s\nSyslog yes\nUserID root\nUMask 000\nCanonicalization relaxed/relaxed\n"
        f"Socket local:{socket}\n"
        f"KeyTable file:{folder}/keys\nSigningTable refile:{folder}/signing\nRequireSafeKeys no\n"
        f"OversignHeaders From\n"
        "Background no\nAutoRestart no\nInternalHosts 127.0.0.0/8\n"
    )
    return Daemon("opendkim", ("opendkim", "-f", "-x", str(conf)), (str(socket),))
