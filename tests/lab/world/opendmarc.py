"""Provider B's authentication: policyd-spf, then dkimpy-milter, then OpenDMARC on what both have found."""

from typing import Final

from .layout import MX_NAMES, Daemon, Layout

AUTHSERV: Final = MX_NAMES["b"]
SPF_AUTHSERV: Final = "spf.provider-b.test"
"""Another id for SPF: dkimpy-milter strips every Authentication-Results that carries its own."""


def policyd_spf(layout: Layout) -> None:
    """Configuration of the SPF policy service, which Postfix starts itself."""
    (layout.root / "policyd-spf.conf").write_text(
        f"debugLevel = 1\nTestOnly = 0\nHELO_reject = False\nMail_From_reject = False\n"
        f"PermError_reject = False\n"
        f"TempError_Defer = False\nskip_addresses = 127.0.0.1/32\nHeader_Type = AR\n"
        f"Authserv_Id = {SPF_AUTHSERV}\n"
    )


def dkimpy(layout: Layout) -> Daemon:
    """Verifies DKIM, RSA and Ed25519. (Debian's OpenDKIM cannot: its resolver refuses to ask 127/8.)"""
    conf = layout.root / "dkimpy.conf"
    socket = layout.run / "dkimpy.sock"
    conf.write_text(
        f"Syslog yes\nUMask 000\nMode v\nSocket local:{socket}\nPidFile {layout.run}/dkimpy.pid\n"
        f"UserID root\nAuthservID {AUTHSERV}\nInternalHosts 127.255.255.255\n"
    )
    return Daemon("dkimpy", ("dkimpy-milter", str(conf)), (str(socket),))


def opendmarc(layout: Layout) -> Daemon:
    """Evaluates DMARC; rejects for p=reject, writes its verdict otherwise."""
    conf = layout.root / "opendmarc.conf"
    socket = layout.run / "opendmarc.sock"
    conf.write_text(
        f"AuthservID {AUTHSERV}\nTrustedAuthservIDs {AUTHSERV},{SPF_AUTHSERV}\n"
        f"Socket local:{socket}\nUMask 000\n"
        "Syslog true\nBackground false\nRejectFailures true\nHoldQuarantinedMessages false\n"
        "RequiredHeaders false\n"
        f"SPFIgnoreResults false\nSPFSelfValidate false\nIgnoreHosts {layout.root}/opendmarc.ignore\n"
        f"PidFile {layout.run}/opendmarc.pid\nUserID opendmarc\n"
    )
    (layout.root / "opendmarc.ignore").write_text("127.255.255.255\n")
    return Daemon("opendmarc", ("opendmarc", "-f", "-c", str(conf)), (str(socket),))
