"""Provider B's content filter: spamd behind spamass-milter."""

from typing import Final

from .layout import Daemon, Layout

GTUBE: Final = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
"""The classic test pattern: spam for certain."""

PLUGINS: Final = (
    "Check",
    "BodyEval",
    "HTMLEval",
    "HeaderEval",
    "MIMEEval",
    "MIMEHeader",
    "ReplaceTags",
    "URIEval",
    "URIDetail",
    "RelayEval",
)


def spamassassin(layout: Layout) -> tuple[Daemon, Daemon]:
    """spamd with a small set of Debian's rules (those that a test needs to start in a second), and its
    milter."""
    site = layout.folder("spamassassin/site")
    rules = layout.folder("spamassassin/rules")
    home = layout.folder("spamassassin/home", 0o777)
    (site / "lab.pre").write_text("".join(f"loadplugin Mail::SpamAssassin::Plugin::{p}\n" for p in PLUGINS))
    (site / "local.cf").write_text(
        "use_bayes 0\nskip_rbl_checks 1\ndns_available no\nrequired_score 5\n"
        "report_safe 0\nclear_headers\nadd_header all Flag _YESNOCAPS_\n"
        'add_header all Status "_YESNO_, score=_SCORE_ required=_REQD_ tests=_TESTS_"\n'
    )
    (rules / "10_lab.cf").write_text(
        r"body GTUBE /XJS\*C4JDBQADN1\.NSBN3\*2IDNEN\*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL\*C\.34X/"
        "\n"
        "describe GTUBE Generic test for unsolicited bulk mail\nscore GTUBE 1000\n"
        "tflags GTUBE userconf noautolearn\n"
    )
    spamd, milter = layout.run / "spamd.sock", layout.run / "spamass.sock"
    daemon = Daemon(
        "spamd",
        (
            "spamd",
            "-L",
            "-x",
            "--max-children=2",
            "--min-children=2",
            "--min-spare=1",
            "--max-spare=2",
            f"--siteconfigpath={site}",
            f"--configpath={rules}",
            f"--helper-home-dir={home}",
            f"--socketpath={spamd}",
            "--socketmode=0666",
            "--username=debian-spamd",
        ),
        (str(spamd),),
    )
    # It gives its socket the mode of its umask. -m keeps body and subject as they are.
    command = f"umask 0; exec spamass-milter -m -p {milter} -- -U {spamd}"
    return daemon, Daemon("spamass-milter", ("sh", "-c", command), (str(milter),))
