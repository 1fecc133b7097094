"""What Microsoft's anti-spam codes mean.

Source: Microsoft's documentation of anti-spam message headers (CC BY 4.0), as of 2025-07-07.
"""

from __future__ import annotations

SFV = {
    "NSPM": "not spam",
    "SPM": "spam, by the filter",
    "SKS": "marked as spam before filtering, by a mail flow rule",
    "SKB": "spam: the sender is on the tenant's block list",
    "BLK": "blocked: the sender is on the user's block list",
    "SFE": "filtering skipped: the sender is on the user's safe list",
    "SKA": "filtering skipped: the sender is on the tenant's allow list",
    "SKN": "marked as not spam before filtering, by a rule",
    "SKQ": "released from quarantine",
    "SKI": "within one tenant, not filtered",
}

CAT = {
    "AMP": "anti-malware",
    "BIMP": "brand impersonation",
    "BULK": "bulk mail",
    "DIMP": "domain impersonation",
    "FTBP": "forbidden attachment type",
    "GIMP": "impersonation, by mailbox intelligence",
    "HPHSH": "high-confidence phishing",
    "HPHISH": "high-confidence phishing",
    "HSPM": "high-confidence spam",
    "INTOS": "spoofing inside the organisation",
    "MALW": "malware",
    "OSPM": "outbound spam",
    "PHSH": "phishing",
    "SAP": "safe attachments",
    "SPM": "spam",
    "SPOOF": "spoofing",
    "UIMP": "user impersonation",
}

IPV = {
    "CAL": "the IP is on the tenant's allow list, filtering skipped",
    "NLI": "the IP is on no reputation list",
}

DESTINATION = {
    "I": ("inbox", "delivered to the inbox"),
    "J": ("spam", "delivered to the junk folder"),
    "C": ("other", "delivered to another folder by a rule"),
    "D": ("other", "deleted"),
}

COMPAUTH = {
    "000": "explicit failure",
    "001": "implicit failure: no records, or weak policy",
    "002": "the tenant forbids this sender to be spoofed",
    "010": "DMARC failure with reject or quarantine, domain of the tenant itself",
    "130": "passed: ARC overrode a DMARC failure",
    "1xx": "passed",
    "2xx": "passed softly",
    "3xx": "not checked",
    "4xx": "bypassed",
    "6xx": "implicit failure, domain of the tenant itself",
    "7xx": "passed",
    "9xx": "bypassed",
}
