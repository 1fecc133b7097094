"""Debian's Dovecot on loopback, unprivileged as far as it goes, one instance a test session."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

CONFIG = """
protocols = imap
base_dir = {root}/run
state_dir = {root}/state
instance_name = mailbox-test-{port}
log_path = {root}/dovecot.log
listen = 127.0.0.1
default_internal_user = nobody
default_internal_group = nogroup
default_login_user = nobody
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:~/mail
mail_fsync = never
auth_failure_delay = 0
auth_mechanisms = plain login xoauth2 oauthbearer
disable_plaintext_auth = yes
mail_max_userip_connections = 50
remote 127.0.0.9 {{
  disable_plaintext_auth = no
}}
remote 127.0.0.10 {{
  disable_plaintext_auth = no
  protocol imap {{
    mail_max_userip_connections = 1
  }}
}}
imap_idle_notify_interval = 2 mins
ssl = yes
ssl_cert = <{root}/cert.pem
ssl_key = <{root}/key.pem
default_client_limit = 8000
service imap-login {{
  chroot =
  service_count = 0
  process_limit = 4
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
  }}
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service imap {{
  process_limit = 2000
  client_limit = 1
}}
service stats {{
  chroot =
}}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {root}/users
}}
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {root}/oauth2.conf
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {root}/users
}}
namespace inbox {{
  inbox = yes
  mailbox Junk {{
    special_use = \\Junk
    auto = create
  }}
  mailbox Trash {{
    special_use = \\Trash
    auto = create
  }}
  mailbox Archive {{
    auto = create
  }}
}}
"""
OAUTH2 = """
introspection_mode = post
introspection_url = http://127.0.0.1:{port}/introspect
username_attribute = username
active_attribute = active
active_value = true
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Dovecot:
    """A running server. Users: from `add_user`, password "secret"; OAuth2 tokens: `tokens` by user."""

    root: Path
    port: int
    tls_port: int
    tokens: dict[str, str] = field(default_factory=dict)
    users: list[str] = field(default_factory=list)

    def client_tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.root / "cert.pem"))

    def add_user(self) -> str:
        """A user nobody has used yet; all are in the file from the start: Dovecot may miss a change of it
        within the same second."""
        return self.users.pop()

    def doveadm(self, *args: str, data: bytes = b"") -> str:
        done = subprocess.run(
            ["doveadm", "-c", str(self.root / "dovecot.conf"), *args],
            input=data,
            capture_output=True,
            timeout=20,
            check=False,
        )
        return (done.stdout + done.stderr).decode()

    def deliver(self, user: str, message: bytes, folder: str = "INBOX") -> None:
        out = self.doveadm("save", "-u", user, "-m", folder, data=message)
        assert not out.strip(), out

    def processes(self, user: str) -> list[int]:
        """Process ids of the imap processes that serve the user."""
        out = self.doveadm("who", "-1", user)
        lines = [line.split() for line in out.splitlines() if line.startswith(user + " ")]
        return [int(words[2].strip("()")) for words in lines]


UID, GID = (65534, 65534) if os.getuid() == 0 else (os.getuid(), os.getgid())


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that daemons of other users can reach. Not one of pytest: each new run shuts their parent."""
    with tempfile.TemporaryDirectory(prefix="mailcanary-mail-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def owner_of(name: str) -> int:
    """The uid of a user: spread, because inotify allows 128 instances a uid, and IDLE needs one each."""
    return 61_000 + int(name.removeprefix("user")) % 60 if os.getuid() == 0 else UID


def make_certificate(root: Path) -> None:
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes".split()
    subject = f"-days 30 -subj /CN=localhost -addext {names}".split()
    where = f"-keyout {root}/key.pem -out {root}/cert.pem".split()
    command = ["openssl", "req", "-x509", *key, *subject, *where]
    subprocess.run(command, check=True, capture_output=True, timeout=30)


@contextmanager
def running(root: Path, users: int = 60) -> Iterator[Dovecot]:
    """Starts Dovecot below `root` with so many users, and stops it at the end."""
    assert shutil.which("dovecot"), "Debian's dovecot-imapd is needed"
    server = Dovecot(root, free_port(), free_port(), users=[f"user{number}" for number in range(users)])
    for part in ("run", "state", "home"):
        (root / part).mkdir()
    os.chown(root / "home", UID, GID)
    lines = []
    for name in server.users:
        home, uid = root / "home" / name, owner_of(name)
        home.mkdir()
        os.chown(home, uid, GID)
        lines.append(f"{name}:secret:{uid}:{GID}::{home}::\n")
    (root / "users").write_text("".join(lines))
    make_certificate(root)
    introspection = _introspection(server.tokens)
    (root / "oauth2.conf").write_text(OAUTH2.format(port=introspection.server_address[1]))
    (root / "dovecot.conf").write_text(CONFIG.format(root=root, port=server.port, tls_port=server.tls_port))
    process = subprocess.Popen(
        ["dovecot", "-F", "-c", str(root / "dovecot.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        wait_for_port(server.tls_port, process)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        introspection.shutdown()
        introspection.server_close()


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 15
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError((process.stderr.read() if process.stderr else b"").decode())
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("dovecot did not start")


def _introspection(tokens: dict[str, str]) -> http.server.ThreadingHTTPServer:
    """RFC 7662, as much as Dovecot's oauth2 passdb asks."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            token = urllib.parse.parse_qs(body).get("token", [""])[0]
            user = next((name for name, value in tokens.items() if value == token), None)
            answer = json.dumps({"active": user is not None, "username": user or ""}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
