"""Three Postfix instances: the submission relay (also MX of the sender domains) and the MX of each
provider."""

import grp
import os
import pwd
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .layout import MAIL_DOMAINS, MX_NAMES, NAMED_USERS, PLAIN_PORT, SENDERS, Daemon, Layout

if TYPE_CHECKING:
    from .namespace import Namespace
    from .policy import Policy

OWN_FOLDERS: Final = (
    "active",
    "bounce",
    "corrupt",
    "defer",
    "deferred",
    "flush",
    "hold",
    "incoming",
    "private",
    "saved",
    "trace",
)

SERVICES: Final = """\
pickup    unix  n  -  n  60   1  pickup
cleanup   unix  n  -  n  -    0  cleanup
qmgr      unix  n  -  n  300  1  qmgr
tlsmgr    unix  -  -  n  1000? 1 tlsmgr
rewrite   unix  -  -  n  -    -  trivial-rewrite
bounce    unix  -  -  n  -    0  bounce
defer     unix  -  -  n  -    0  bounce
trace     unix  -  -  n  -    0  bounce
verify    unix  -  -  n  -    1  verify
flush     unix  n  -  n  1000? 0 flush
proxymap  unix  -  -  n  -    -  proxymap
smtp      unix  -  -  n  -    -  smtp
showq     unix  n  -  n  -    -  showq
error     unix  -  -  n  -    -  error
retry     unix  -  -  n  -    -  error
discard   unix  -  -  n  -    -  discard
lmtp      unix  -  -  n  -    -  lmtp
anvil     unix  -  -  n  -    1  anvil
scache    unix  -  -  n  -    1  scache
"""


PORTS: Final = {"relay": (25, 587, 465, PLAIN_PORT), "a": (25,), "b": (25,)}


def _queue(layout: Layout, host: str) -> Path:
    """The queue directory with the owners and modes that `postfix check` would give it."""
    owner, drop = pwd.getpwnam("postfix"), "postdrop"
    queue = layout.folder(f"postfix-{host}/queue")
    for name in OWN_FOLDERS:
        layout.folder(f"postfix-{host}/queue/{name}", 0o700)
        os.chown(queue / name, owner.pw_uid, -1)
    gid = grp.getgrnam(drop).gr_gid
    for name, mode in (("maildrop", 0o1730), ("public", 0o2710)):
        path = layout.folder(f"postfix-{host}/queue/{name}")
        os.chown(path, owner.pw_uid, gid)
        path.chmod(mode)
    layout.folder(f"postfix-{host}/queue/pid")
    os.chown(layout.folder(f"postfix-{host}/data", 0o700), owner.pw_uid, -1)
    return queue


def _main_cf(layout: Layout, host: str, extra: Mapping[str, str]) -> None:
    folder = layout.folder(f"postfix-{host}")
    domains = " ".join(MAIL_DOMAINS[host])
    local = "|".join((*NAMED_USERS[host], r"u\d{4}"))
    (folder / "mailboxes.pcre").write_text(f"/^({local})@/ ok\n")
    (folder / "headers.pcre").write_text("/^X-Mailcanary-Token: / INFO token\n")
    settings = {
        "compatibility_level": "3.6",
        "queue_directory": str(_queue(layout, host)),
        "data_directory": str(folder / "data"),
        "command_directory": "/usr/sbin",
        "daemon_directory": "/usr/lib/postfix/sbin",
        "mail_owner": "postfix",
        "setgid_group": "postdrop",
        "syslog_name": f"postfix-{host}",
        "myhostname": MX_NAMES[host],
        "mydestination": "",
        # Naming a 127.x alias here ends master in silence; the listeners in master.cf name theirs.
        "inet_interfaces": "127.0.0.1",
        "inet_protocols": "ipv4",
        "mynetworks": "127.255.255.255/32",
        "smtp_bind_address": layout.mx_ip(host),
        "smtp_tls_security_level": "may",
        "smtp_tls_CAfile": str(layout.root / "tls" / "ca.pem"),
        "smtpd_tls_chain_files": str(layout.root / "tls" / f"mx-{host}.pem"),
        "smtpd_tls_security_level": "may",
        "smtpd_tls_received_header": "yes",
        "virtual_mailbox_domains": domains,
        "virtual_mailbox_maps": f"pcre:{folder}/mailboxes.pcre",
        "virtual_transport": f"lmtp:unix:{layout.run}/lmtp-{host}",
        "alias_maps": "",
        "local_recipient_maps": "",
        "recipient_delimiter": "+",
        "header_checks": f"pcre:{folder}/headers.pcre",
        "nested_header_checks": "",
        "mime_header_checks": "",
        "enable_long_queue_ids": "yes",
        "delay_logging_resolution_limit": "3",
        "queue_run_delay": "2s",
        "minimal_backoff_time": "2s",
        "maximal_backoff_time": "4s",
        "in_flow_delay": "0",
        "smtpd_error_sleep_time": "0",
        "smtpd_client_connection_count_limit": "0",
        "smtpd_hard_error_limit": "1000",
        "smtpd_recipient_restrictions": (
            f"reject_unlisted_recipient, check_policy_service {{ unix:{layout.run}/policy-{host}, "
            "default_action=DUNNO, timeout=600s }"
        ),
        "smtpd_end_of_data_restrictions": (
            f"check_policy_service {{ unix:{layout.run}/policy-{host}, default_action=DUNNO, timeout=600s }}"
        ),
        "smtpd_relay_restrictions": "permit_sasl_authenticated, reject_unauth_destination",
        "milter_default_action": "tempfail",
        "milter_protocol": "6",
        "notify_classes": "",
        **extra,
    }
    (folder / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))


def _daemon(layout: Layout, host: str, listeners: str) -> Daemon:
    folder = layout.root / f"postfix-{host}"
    (folder / "master.cf").write_text(listeners + SERVICES)
    return _master(layout, host)


def _master(layout: Layout, host: str) -> Daemon:
    """The daemon of a configuration that was written before."""
    folder = layout.root / f"postfix-{host}"
    where = tuple(f"{layout.mx_ip(host)}:{port}" for port in PORTS[host])
    return Daemon(f"postfix-{host}", ("/usr/lib/postfix/sbin/master", "-s", "-c", str(folder)), where)


def relay(layout: Layout) -> Daemon:
    """Submission on 587, 465 and PLAIN_PORT, MX on 25; each From domain leaves from its own address."""
    folder = layout.folder("postfix-relay")
    senders = [s for s in SENDERS.values() if s.relayed]
    lines = [rf"/@{s.domain.replace('.', '[.]')}$/ out-{s.name}:" for s in senders]
    (folder / "outlets.pcre").write_text("\n".join(lines) + "\n")
    others = "|".join(d.replace(".", "[.]") for d in MAIL_DOMAINS["relay"][1:])
    (folder / "aliases.pcre").write_text(f"/^bounce([+].*)?@({others})$/ bounce@{MAIL_DOMAINS['relay'][0]}\n")
    _main_cf(
        layout,
        "relay",
        {
            # One mailbox for the bounces of all senders.
            "virtual_alias_maps": f"pcre:{folder}/aliases.pcre",
            "smtpd_sasl_type": "dovecot",
            "smtpd_sasl_path": f"{layout.run}/auth-relay",
            "smtpd_sasl_security_options": "noanonymous",
            "sender_dependent_default_transport_maps": f"pcre:{folder}/outlets.pcre",
        },
    )
    ip = layout.mx_ip("relay")
    submission = (
        "  -o smtpd_sasl_auth_enable=yes -o smtpd_delay_reject=yes\n"
        "  -o smtpd_client_restrictions=permit_sasl_authenticated,reject\n"
        f"  -o smtpd_milters=unix:{layout.run}/opendkim.sock\n"
    )
    listeners = (
        f"{ip}:25 inet n - n - - smtpd\n"
        f"{ip}:587 inet n - n - - smtpd\n"
        f"  -o smtpd_tls_security_level=encrypt -o smtpd_tls_auth_only=yes\n{submission}"
        f"{ip}:465 inet n - n - - smtpd\n  -o smtpd_tls_wrappermode=yes\n{submission}"
        f"{ip}:{PLAIN_PORT} inet n - n - - smtpd\n  -o smtpd_tls_security_level=none\n{submission}"
    )
    outlets = "".join(
        f"out-{s.name} unix - - n - - smtp\n"
        f"  -o smtp_bind_address={layout.ip(s.name)} -o smtp_helo_name={s.helo}\n"
        f"  -o syslog_name=postfix-relay\n"
        for s in senders
    )
    return _daemon(layout, "relay", listeners + outlets)


def provider_a(layout: Layout) -> Daemon:
    """MX whose only filter is rspamd."""
    _main_cf(layout, "a", {"smtpd_milters": f"unix:{layout.run}/rspamd.sock"})
    return _daemon(layout, "a", f"{layout.mx_ip('a')}:25 inet n - n - - smtpd\n")


def provider_b(layout: Layout) -> Daemon:
    """MX with policyd-spf, then dkimpy-milter, OpenDMARC and SpamAssassin."""
    restrictions = (
        f"reject_unlisted_recipient, check_policy_service {{ unix:{layout.run}/policy-b, "
        f"default_action=DUNNO, "
        "timeout=600s }, check_policy_service unix:private/policyd-spf"
    )
    sockets = ",".join(f"unix:{layout.run}/{name}.sock" for name in ("dkimpy", "opendmarc", "spamass"))
    _main_cf(
        layout,
        "b",
        {
            "smtpd_milters": sockets,
            "smtpd_recipient_restrictions": restrictions,
            "milter_connect_macros": "j {daemon_name} v {if_name} _",
        },
    )
    spf = (
        "policyd-spf unix - n n - 0 spawn\n"
        f"  user=policyd-spf argv=/usr/bin/policyd-spf {layout.root}/policyd-spf.conf\n"
    )
    return _daemon(layout, "b", f"{layout.mx_ip('b')}:25 inet n - n - - smtpd\n{spf}")


class Postfix:
    """What a test does to one instance's queue."""

    def __init__(self, layout: Layout, host: str, namespace: "Namespace", policy: "Policy") -> None:
        self._conf = str(layout.root / f"postfix-{host}")
        self._daemon = _master(layout, host)
        self._ip = layout.mx_ip(host)
        self._namespace = namespace
        self._policy = policy
        self._held = False
        self._written: dict[Path, str] = {}

    def hold(self, recipient: str = "*") -> None:
        """Everything accepted from now on, for one recipient or all, stays in the hold queue."""
        self._policy.rule(recipient, "HOLD")
        self._held = True

    def release(self, recipient: str = "*") -> None:
        """Ends `hold` and sends all that was held on its way."""
        self._policy.clear(recipient)
        self._namespace.run("postsuper", "-c", self._conf, "-H", "ALL", "hold")
        self.flush()
        self._held = False

    def flush(self) -> None:
        """Tries all deferred mail now."""
        self._namespace.run("postqueue", "-c", self._conf, "-f")

    def queue(self) -> list[str]:
        """What waits, one JSON text a message (queue name, id, sender, recipients, reason)."""
        return self._namespace.run("postqueue", "-c", self._conf, "-j").splitlines()

    def drop_queue(self) -> None:
        """Deletes everything that waits."""
        self._namespace.run("postsuper", "-c", self._conf, "-d", "ALL")

    def wait_empty(self, timeout: float = 10) -> bool:
        """Whether the queue became empty in time."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if not self.queue():
                return True
            time.sleep(0.05)
        return False

    def configure(self, **settings: str) -> None:
        """Settings of main.cf as they become; they hold until `reset`."""
        self._edit("-e", *(f"{name}={value}" for name, value in settings.items()))

    def configure_port(self, port: int, **settings: str) -> None:
        """The same for one listener alone."""
        service = f"{self._ip}:{port}/inet"
        self._edit("-P", *(f"{service}/{name}={value}" for name, value in settings.items()))

    def _edit(self, *arguments: str) -> None:
        for path in (Path(self._conf) / "main.cf", Path(self._conf) / "master.cf"):
            self._written.setdefault(path, path.read_text())
        self._namespace.run("postconf", "-c", self._conf, *arguments)
        self._restart()

    def _restart(self) -> None:
        """Not a reload, after which processes of before still take connections."""
        self._namespace.stop(self._daemon.name)
        self._namespace.start(self._daemon)
        self._namespace.wait([self._daemon])

    def reset(self) -> None:
        """No hold, an empty queue when there was one, and the configuration as at the start."""
        if self._held:
            self.drop_queue()
            self._held = False
        if self._written:
            for path, text in self._written.items():
                path.write_text(text)
            self._written.clear()
            self._restart()
