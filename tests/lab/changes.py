"""Changes that a team makes for real, each with what an honest probe has to say of it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.lab.acts import (
    DOMAIN,
    Act,
    allow_everywhere,
    both,
    bounced,
    dns,
    edited,
    eleven_includes,
    expired_certificate,
    greylisted,
    imap_down,
    included,
    listed,
    new_ip,
    new_ip_with_ptr,
    nothing,
    other_path,
    paused,
    policy_of_another,
    policy_served,
    postfix,
    relay_login,
    resolver_silent,
    rotated,
    rule,
    seed_password,
    slow_queue,
    spam_content,
    submission_without_tls,
    unaligned,
    unsigned,
    without_ptr,
    wrong_helo,
)


@dataclass(frozen=True)
class Change:
    """outcome, cause: what the probe has to say (all causes that it names, in order); words: what its report
    has to name; before: how the world was prepared; deadline: of the probe after it."""

    name: str
    make: Act
    outcome: str
    cause: str = ""
    words: str = ""
    before: Act = nothing
    sender: str = "direct"
    deadline: float = 12.0


RIGHT = "pass"
CHANGES = (
    Change("nothing", nothing, RIGHT),
    Change("nothing, by the relay", nothing, RIGHT, sender="app"),
    Change(
        "dkim: another key published",
        dns(f"mail._domainkey.{DOMAIN}", "TXT", "v=DKIM1; p=AAAA"),
        "fail",
        "dkim",
    ),
    Change("dkim: key withdrawn", dns(f"mail._domainkey.{DOMAIN}", "TXT"), "fail", "dkim", "no key"),
    Change("dkim: rotated right", rotated(True), RIGHT, words="dkim pass (mail) -> pass (s2)"),
    Change("dkim: rotated, not published", rotated(False), "fail", "dkim", "(s2: no key)"),
    Change("dkim: signing switched off", edited(unsigned), "fail", "dkim", "no DKIM-Signature"),
    Change("spf: include dropped", dns(DOMAIN, "TXT", "v=spf1 -all"), "fail", "spf", "spf pass", included),
    Change("spf: more than ten look-ups", eleven_includes, "fail", "spf"),
    Change(
        "return path of another domain", edited(other_path), RIGHT, words="aligned", before=allow_everywhere
    ),
    Change("dmarc: record withdrawn", dns(f"_dmarc.{DOMAIN}", "TXT"), "fail", "dmarc", "dmarc pass"),
    Change(
        "dmarc: none to reject, unaligned",
        dns(f"_dmarc.{DOMAIN}", "TXT", "v=DMARC1; p=reject"),
        "fail",
        "content_rejected, dmarc_rejected",  # rspamd calls all that it refuses spam
        "inbox -> rejected",
        unaligned,
    ),
    Change("ip listed", listed, "fail", "listing", "listed:"),
    Change("new ip without ptr", new_ip, "fail", "ptr", "has no name"),
    Change("new ip, all in order", new_ip_with_ptr, RIGHT, words="sending IP"),
    Change("ptr removed", without_ptr, "fail", "ptr", "has no name"),
    Change("helo wrong", edited(wrong_helo), "fail", "helo", "mta9.direct.test"),
    Change("content that scores", spam_content, "fail", "placement, score", "score"),
    Change(
        "throttled at one provider",
        rule("421 4.7.28 rate limited, try later"),
        "fail",
        "rate_limited",
        "4.7.28",
        deadline=4.0,
    ),
    Change("greylisting only", greylisted, RIGHT),
    Change(
        "greylisting past the deadline",
        rule("451 4.7.1 greylisted, come back"),
        "unknown",
        "greylisted",
        deadline=4.0,
    ),
    Change(
        "refused for want of authentication", rule("550 5.7.26 unauthenticated"), "fail", "unauthenticated"
    ),
    Change("dropped in silence", rule("DISCARD"), "fail", "placement", "missing", deadline=4.0),
    Change("taken and bounced", bounced("5.7.1 we do not want it"), "fail", "policy", "5.7.1", sender="app"),
    Change(
        "taken and bounced, seed full",
        bounced("5.2.2 mailbox full"),
        "unknown",
        "seed-fault",
        "the seed's own fault",
        sender="app",
    ),
    Change(
        "tls: the relay hands on in clear",
        postfix("relay", smtp_tls_security_level="none"),
        "fail",
        "tls",
        "in clear",
        sender="app",
    ),
    Change(
        "tls: the relay offers no starttls",
        submission_without_tls,
        "fail",
        "tls",
        "does not offer STARTTLS",
        sender="app",
    ),
    Change(
        "tls: an mx offers none", postfix("a", smtpd_tls_security_level="none"), "fail", "tls", "in clear"
    ),
    Change(
        "tls: 1.2 instead of 1.3",
        postfix("relay", smtp_tls_protocols="<=TLSv1.2"),
        RIGHT,
        words="tls TLS1.3 -> TLS1.2",
        sender="app",
    ),
    Change(
        "tls: the obsolete 1.0",
        postfix("relay", smtp_tls_protocols="<=TLSv1", tls_medium_cipherlist="ALL:@SECLEVEL=0"),
        "fail",
        "tls",
        "tls TLS1.3 -> TLS1.0",
        both(
            postfix("a", smtpd_tls_protocols=">=TLSv1", tls_medium_cipherlist="ALL:@SECLEVEL=0"),
            postfix("b", smtpd_tls_protocols=">=TLSv1", tls_medium_cipherlist="ALL:@SECLEVEL=0"),
        ),
        sender="app",
    ),
    Change(
        "certificate expired on the relay",
        expired_certificate,
        "fail",
        "certificate",
        "certificate has expired",
        sender="app",
    ),
    Change(
        "mta-sts: policy names another mx",
        policy_of_another,
        "fail",
        "mta-sts",
        "is not in the policy",
        policy_served,
    ),
    Change("slow queue", slow_queue, RIGHT, words="latency"),
    Change("one seed full", rule("552 5.2.2 mailbox full"), "unknown", "seed-fault", "the seed's own fault"),
    Change("imap down at one seed", imap_down, "unknown", "seed-unreadable", "could not look", deadline=4.0),
    Change(
        "seed's password changed", seed_password, "unknown", "seed-unreadable", "could not look", deadline=4.0
    ),
    Change("relay refuses the login", edited(relay_login), "unknown", "sender-unreachable", sender="app"),
    Change(
        "one provider cannot be resolved",
        resolver_silent,
        "unknown",
        "sender-unreachable",
        "could not be submitted",
        deadline=4.0,
    ),
    Change("sending is paused", paused, "unknown", "held", "paused"),
)
