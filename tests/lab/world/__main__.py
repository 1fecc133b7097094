"""`python -m tests.lab.world` (`make lab`): starts the lab and leaves it running until Ctrl-C."""

import signal
import sys
import threading

from .agent_config import write_config
from .lab import Lab
from .layout import SENDERS
from .namespace import LabError


def describe(lab: Lab) -> None:
    """Prints addresses, credentials and what to try."""
    folder = lab.folder / "agent"
    config = write_config(lab, folder)
    print(
        f"The mail lab runs in {lab.folder} (started in {lab.started_in:.1f} s). Ctrl-C ends it and "
        f"removes all.\n"
    )
    print(f"resolver    {lab.resolver}")
    print(f"CA          {lab.ca_file}")
    relay = lab.relay()
    print(f"submission  {relay.ip}  465 TLS, 587 STARTTLS, {relay.plain_port} plain ({relay.host})")
    for sender in SENDERS.values():
        how = (
            f"user {sender.name}, password {lab.relay(sender.name).password}"
            if sender.relayed
            else "direct to MX"
        )
        print(f"  sender    {sender.domain:13} from {lab.source_ip(sender.name):12} {how}")
    for name in ("a", "b"):
        there, user = lab.provider(name), lab.user(f"seed@{lab.provider(name).domain}")
        print(
            f"provider {name}  MX {there.mx_ip}:25, IMAP {there.imap_ip} 993 TLS and 143, "
            f"authserv-ids {there.authserv_ids}"
        )
        print(f"  mailbox   {user.address}, password {user.password}; u0001..u1000 likewise (pw-u0001-...)")
    print("blocklists ", ", ".join(b.zone for b in lab.blocklists.zones.values()))
    print(f"logs        {lab.log.path}\n\nA configuration for it:\n  mailcanary --config {config} run")


def main() -> int:
    """Exit code 0 after Ctrl-C, 1 when the lab did not start."""
    try:
        lab = Lab.start()
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with lab:
        describe(lab)
        sys.stdout.flush()
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
