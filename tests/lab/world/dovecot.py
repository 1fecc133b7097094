"""Three Dovecot instances: the relay's (SASL, and the mailboxes that bounces return to) and one for each
provider."""

import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .layout import IMAP_NAMES, SENDERS, Daemon, Layout, addresses, password

if TYPE_CHECKING:
    from .namespace import Namespace

FACILITY: Final = {"relay": "local1", "a": "local2", "b": "local3"}
FIRST_UID: Final = 20_000
UIDS: Final = 128
"""Mailboxes are spread over this many uids: the kernel allows only 128 inotify instances each."""

FORMAT: Final = {"relay": "sdbox", "a": "sdbox", "b": "maildir"}

SIEVE: Final = """\
require ["fileinto"];
if anyof (header :contains "X-Spam" "Yes",
          header :contains "X-Spam-Flag" "YES",
          header :contains "Authentication-Results" "dmarc=fail (p=quarantine") {
    fileinto "Junk";
    stop;
}
"""
"""What the filters in front have marked goes to Junk; OpenDMARC only writes its verdict, so that is read
too."""


def _passwd(layout: Layout, host: str, changed: Mapping[str, Mapping[str, str]]) -> str:
    """The mailboxes with their passwords, uids and extra fields; `changed` holds what tests set for a
    user."""
    lines = []
    for number, address in enumerate(addresses(host)):
        uid = FIRST_UID + number % UIDS
        home = layout.root / f"dovecot-{host}" / "mail" / address
        fields = {"quota_rule": "*:storage=8K"} if address.startswith("full@") else {}
        fields = {**fields, **changed.get(address, {})}
        secret = fields.pop("password", password(address))
        extra = " ".join(f"userdb_{name}={value}" for name, value in fields.items())
        lines.append(f"{address}:{{PLAIN}}{secret}:{uid}:{uid}::{home}::{extra}")
    return "\n".join(lines) + "\n"


def _submission_users() -> str:
    return "".join(f"{s.name}:{{PLAIN}}{password(s.name)}:::::\n" for s in SENDERS.values() if s.relayed)


def dovecot(layout: Layout, host: str) -> Daemon:
    """IMAP on 143 and 993 with PLAIN, LOGIN and XOAUTH2, LMTP and SASL on UNIX sockets."""
    folder = layout.folder(f"dovecot-{host}")
    layout.folder(f"dovecot-{host}/mail", 0o777)
    layout.folder(f"dovecot-{host}/base")
    (folder / "users").write_text(_passwd(layout, host, {}))
    (folder / "submission").write_text(_submission_users())
    layout.folder(f"dovecot-{host}/sieve", 0o777)
    script = folder / "sieve" / "junk.sieve"
    script.write_text(SIEVE)
    (folder / "oauth2.conf").write_text(
        f"introspection_mode = post\n"
        f"introspection_url = http://{layout.ip('oauth')}:8060/introspect\n"
        "username_attribute = username\nactive_attribute = active\nactive_value = true\n"
    )
    conf = folder / "dovecot.conf"
    conf.write_text(_conf(layout, host))
    return dovecot_daemon(layout, host)


def _conf(layout: Layout, host: str) -> str:
    folder = layout.root / f"dovecot-{host}"
    submission = (
        f"passdb {{\n  driver = passwd-file\n  args = username_format=%u {folder}/submission\n}}\n"
        if host == "relay"
        else ""
    )
    return f"""base_dir = {folder}/base
state_dir = {folder}/base
instance_name = dovecot-{host}
log_path = syslog
syslog_facility = {FACILITY[host]}
protocols = imap lmtp
listen = {layout.ip(f"imap-{host}")}, {layout.ip(f"limited-{host}")}
local {layout.ip(f"limited-{host}")} {{
  mail_max_userip_connections = 1
}}
hostname = {IMAP_NAMES[host]}
postmaster_address = postmaster@{IMAP_NAMES[host]}
ssl = yes
ssl_cert = <{layout.root}/tls/imap-{host}.pem
ssl_key = <{layout.root}/tls/imap-{host}.pem
ssl_dh =
disable_plaintext_auth = no
auth_mechanisms = plain login xoauth2 oauthbearer
auth_failure_delay = 0
auth_verbose = yes
login_trusted_networks =
mail_location = {FORMAT[host]}:~/mail
mail_home = {folder}/mail/%u
mail_fsync = never
mail_max_userip_connections = 100
mail_plugins = quota
mailbox_list_index = yes
first_valid_uid = {FIRST_UID}
first_valid_gid = {FIRST_UID}
recipient_delimiter = +
lda_mailbox_autocreate = yes
default_process_limit = 600
default_client_limit = 2000
{submission}passdb {{
  driver = passwd-file
  args = username_format=%u {folder}/users
}}
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {folder}/oauth2.conf
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {folder}/users
}}
namespace inbox {{
  inbox = yes
  separator = /
  mailbox Junk {{
    auto = subscribe
    special_use = \\Junk
  }}
  mailbox Trash {{
    auto = subscribe
    special_use = \\Trash
  }}
  mailbox Promotions {{
    auto = subscribe
  }}
}}
service imap-login {{
  service_count = 0
  process_min_avail = 1
  process_limit = 4
}}
service imap {{
  process_limit = 1000
}}
service anvil {{
  client_limit = 3000
  # No penalty: a test's wrong password must not slow the next test down.
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  client_limit = 4000
  unix_listener {layout.run}/auth-{host} {{
    mode = 0666
  }}
}}
service lmtp {{
  process_min_avail = 1
  unix_listener {layout.run}/lmtp-{host} {{
    mode = 0666
  }}
}}
service stats {{
  client_limit = 4000
}}
protocol imap {{
  mail_plugins = quota imap_quota
}}
protocol lmtp {{
  mail_plugins = quota sieve
}}
plugin {{
  quota = count:User quota
  quota_vsizes = yes
  quota_grace = 0
  sieve = file:~/sieve;active=~/.sieve
  sieve_before = {folder}/sieve/junk.sieve
}}
"""


@dataclass(frozen=True)
class StoredMessage:
    """A message as it lies in a mailbox."""

    uid: int
    folder: str
    text: bytes


class Mailboxes:
    """What a test does to one Dovecot: looking behind its back, and every fault a reader must survive."""

    def __init__(self, layout: Layout, host: str, namespace: "Namespace") -> None:
        self.layout = layout
        self.host = host
        self.ip = layout.ip(f"imap-{host}")
        self.limited_ip = layout.ip(f"limited-{host}")
        """The same mailboxes, but one session each: while another is open, a login here gets NO [LIMIT]."""
        self._namespace = namespace
        self._daemon = dovecot_daemon(layout, host)
        self._frozen: dict[str, tuple[str, ...]] = {}
        self._changed: dict[str, dict[str, str]] = {}
        self._running = True

    def _doveadm(self, *argv: str, stdin: bytes = b"", check: bool = True) -> str:
        conf = str(self.layout.root / f"dovecot-{self.host}" / "dovecot.conf")
        return self._namespace.run("doveadm", "-c", conf, *argv, stdin=stdin, check=check)

    def messages(self, user: str, folder: str = "INBOX") -> list[StoredMessage]:
        """Every message in a folder, without any IMAP session; [] where the folder does not exist."""
        output = self._doveadm(
            "-f", "json", "fetch", "-u", user, "uid mailbox text", "mailbox", folder, check=False
        )
        found = json.loads(output or "[]")
        return [StoredMessage(int(m["uid"]), m["mailbox"], m["text"].encode()) for m in found]

    def wait_for(self, user: str, needle: str, timeout: float = 10) -> StoredMessage | None:
        """The first message of a user, in any folder, whose text holds `needle`; None when there is none
        in time."""
        deadline = time.monotonic() + timeout
        while True:
            for message in self.messages(user, "*"):
                if needle.encode() in message.text:
                    return message
            if time.monotonic() > deadline:
                return None
            time.sleep(0.05)

    def deliver(self, user: str, folder: str, message: bytes) -> None:
        """Saves a message into a folder, as often as it is called."""
        self._doveadm("save", "-u", user, "-m", folder, stdin=message)

    def folders(self, user: str) -> list[str]:
        """Names of all folders."""
        return self._doveadm("mailbox", "list", "-u", user).splitlines()

    def create(self, user: str, folder: str) -> None:
        """Makes a folder."""
        self._doveadm("mailbox", "create", "-u", user, "-s", folder)

    def rename(self, user: str, old: str, new: str) -> None:
        """Renames a folder; Dovecot makes a new Junk when the next spam comes."""
        # A folder that is made on first use may not be there yet.
        self._doveadm("mailbox", "create", "-u", user, old, check=False)
        self._doveadm("mailbox", "rename", "-u", user, "-s", old, new)

    def remove(self, user: str, folder: str) -> None:
        """Deletes a folder with all in it."""
        self._doveadm("mailbox", "delete", "-u", user, "-s", folder)

    def move(self, user: str, source: str, target: str) -> None:
        """Moves every message, as a user's own rule or a late filter does."""
        self._doveadm("move", "-u", user, target, "mailbox", source, "all")

    def expunge(self, user: str, folder: str = "INBOX") -> None:
        """Deletes every message of a folder."""
        self._doveadm("expunge", "-u", user, "mailbox", folder, "all")

    def bump_uidvalidity(self, user: str, folder: str = "INBOX") -> int:
        """Gives a folder another UIDVALIDITY and returns it."""
        status = self._doveadm("-f", "json", "mailbox", "status", "-u", user, "uidvalidity", folder)
        value = int(json.loads(status)[0]["uidvalidity"]) + 1
        self._doveadm("mailbox", "update", "-u", user, "--uid-validity", str(value), folder)
        return value

    def kick(self, user: str) -> None:
        """Ends all sessions of a user with BYE."""
        self._doveadm("kick", user, check=False)

    def sessions(self, user: str) -> tuple[str, ...]:
        """Process ids, inside the namespace, of a user's IMAP sessions."""
        rows = json.loads(self._doveadm("-f", "json", "who", "-1", user, check=False) or "[]")
        return tuple(row["pid"] for row in rows)

    def freeze(self, user: str) -> int:
        """Stops a user's IMAP processes (SIGSTOP): the connection stays and says nothing. Returns how
        many."""
        pids = self.sessions(user)
        if pids:
            self._namespace.run("kill", "-STOP", *pids)
            self._frozen[user] = (*self._frozen.get(user, ()), *pids)
        return len(pids)

    def thaw(self, user: str) -> None:
        """Lets frozen processes run again."""
        if pids := self._frozen.pop(user, ()):
            self._namespace.run("kill", "-CONT", *pids, check=False)

    def _change(self, user: str, field: str, value: str | None) -> None:
        fields = self._changed.setdefault(user, {})
        if value is None:
            fields.pop(field, None)
        else:
            fields[field] = value
        self._publish()
        # Dovecot looks at the file once in each second of the clock.
        time.sleep(1.05 - time.time() % 1)

    def _publish(self) -> None:
        path = self.layout.root / f"dovecot-{self.host}" / "users"
        scratch = path.with_suffix(".new")
        scratch.write_text(_passwd(self.layout, self.host, self._changed))
        # Dovecot compares whole seconds and sizes only: each version gets a second of its own.
        version = int(path.stat().st_mtime) + 1
        os.utime(scratch, (version, version))
        scratch.replace(path)

    def set_password(self, user: str, secret: str | None) -> None:
        """Changes a password; None puts back the first one."""
        self._change(user, "password", secret)

    def set_quota(self, user: str, rule: str | None) -> None:
        """Limits a mailbox, such as "*:storage=8K": LMTP answers 552 5.2.2, APPEND
        [OVERQUOTA]; None lifts it."""
        self._change(user, "quota_rule", rule)

    def stop(self) -> None:
        """Stops Dovecot: connections end, new ones are refused, LMTP defers."""
        self._namespace.stop(self._daemon.name, signal.SIGTERM)
        self._running = False

    def start(self) -> None:
        """Starts Dovecot after `stop`; returns when it accepts."""
        if not self._running:
            self._namespace.start(self._daemon)
            self._namespace.wait([self._daemon])
            self._running = True

    def reset(self) -> None:
        """Running, nobody frozen, every password and limit as at the start."""
        if any(self._changed.values()):
            self._changed.clear()
            self._publish()
        for user in list(self._frozen):
            self.thaw(user)
        self.start()


def dovecot_daemon(layout: Layout, host: str) -> Daemon:
    """The daemon of a configuration that was written before."""
    conf = layout.root / f"dovecot-{host}" / "dovecot.conf"
    ip = layout.ip(f"imap-{host}")
    listens = (f"{ip}:143", f"{ip}:993", f"{layout.run}/lmtp-{host}", f"{layout.run}/auth-{host}")
    return Daemon(f"dovecot-{host}", ("dovecot", "-F", "-c", str(conf)), listens)
