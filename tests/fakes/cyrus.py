"""Debian's Cyrus IMAP on loopback, unpacked into a private root: its package conflicts with Dovecot's."""

from __future__ import annotations

import imaplib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.dovecot import GID, UID, free_port, make_certificate

CACHE = Path(__file__).parents[2] / ".cache" / "cyrus"
PACKAGES = (
    "cyrus-imapd cyrus-common libical3 libjansson4 libpcre3 libpq5 libwrap0 libxapian30 libzephyr4"
).split()
LIBRARIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib")
IMAPD = """
configdirectory: {root}/conf
partition-default: {root}/spool
defaultpartition: default
cyrus_user: nobody
cyrus_group: nogroup
admins: admin
sasl_pwcheck_method: alwaystrue
sasl_mech_list: PLAIN LOGIN
allowplaintext: yes
autocreate_quota: 0
autocreate_inbox_folders: Spam|Archive
specialusealways: yes
xlist-junk: Spam
altnamespace: yes
unixhierarchysep: yes
servername: localhost
tls_server_cert: {root}/cert.pem
tls_server_key: {root}/key.pem
idlesocket: {root}/conf/socket/idle
syslog_prefix: cyrustest
virtdomains: off
"""
CYRUS = """
START {{
}}
SERVICES {{
  imap  cmd="{bin}/imapd -C {root}/imapd.conf" listen="127.0.0.1:{port}" prefork=0
  imaps cmd="{bin}/imapd -s -C {root}/imapd.conf" listen="127.0.0.1:{tls_port}" prefork=0
}}
EVENTS {{
}}
DAEMON {{
  idled cmd="{bin}/idled -C {root}/imapd.conf"
}}
"""


@dataclass
class Cyrus:
    """A running server. Any name and password log in; folders INBOX, Spam (flagged) and Archive."""

    root: Path
    port: int
    tls_port: int

    def append(self, user: str, message: bytes, folder: str = "INBOX") -> None:
        client = imaplib.IMAP4("127.0.0.1", self.port, timeout=10)
        try:
            client.login(user, "x")
            status, told = client.append(folder, "", "", message)
            assert status == "OK", told
        finally:
            client.shutdown()


def unpacked() -> Path | None:
    """The private root with the packages in it, made once; None where they cannot be fetched."""
    if (CACHE / "usr/sbin/cyrmaster").exists():
        return CACHE
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        return None
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(
            ["apt-get", "download", *PACKAGES], cwd=CACHE, check=True, capture_output=True, timeout=120
        )
        for package in sorted(CACHE.glob("*.deb")):
            subprocess.run(
                ["dpkg", "-x", str(package), str(CACHE)], check=True, capture_output=True, timeout=60
            )
            package.unlink()
    except (subprocess.SubprocessError, OSError):
        return None
    return CACHE if (CACHE / "usr/sbin/cyrmaster").exists() else None


@contextmanager
def running(packages: Path, root: Path) -> Iterator[Cyrus]:
    """Starts Cyrus below `root`, which has to be reachable for `nobody`, and stops it at the end."""
    server = Cyrus(root, free_port(), free_port())
    for part in ("conf/socket", "conf/proc", "conf/db", "conf/log", "conf/msg", "conf/ptclient", "spool"):
        (root / part).mkdir(parents=True, exist_ok=True)
    make_certificate(root)
    where = {
        "root": root,
        "bin": packages / "usr/lib/cyrus/bin",
        "port": server.port,
        "tls_port": server.tls_port,
    }
    (root / "imapd.conf").write_text(IMAPD.format(**where))
    (root / "cyrus.conf").write_text(CYRUS.format(**where))
    (root / "key.pem").chmod(0o644)
    for path in (root, *root.rglob("*")):
        os.chown(path, UID, GID)
    environment = os.environ | {"LD_LIBRARY_PATH": ":".join(str(packages / path) for path in LIBRARIES)}
    master = [
        str(packages / "usr/sbin/cyrmaster"),
        "-C",
        str(root / "imapd.conf"),
        "-M",
        str(root / "cyrus.conf"),
    ]
    process = subprocess.Popen(
        [*master, "-p", str(root / "pid")],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(server.port, process)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 15
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"cyrmaster ended with {process.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as probe:
                if probe.recv(5).startswith(b"* OK"):
                    return
        except OSError:
            pass
        time.sleep(0.1)
    raise RuntimeError("cyrus did not start")
