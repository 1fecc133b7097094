"""Provider A's filter: rspamd as a milter, with Debian's rules and modules but for those that need a
network."""

from typing import Final

from .layout import MX_NAMES, Daemon, Layout

OFF: Final = (
    "antivirus",
    "arc",
    "asn",
    "aws_s3",
    "bimi",
    "clickhouse",
    "dcc",
    "dkim_signing",
    "elastic",
    "emails",
    "external_relay",
    "external_services",
    "fuzzy_check",
    "greylist",
    "hfilter",
    "history_redis",
    "http_headers",
    "maillist",
    "metadata_exporter",
    "metric_exporter",
    "mx_check",
    "neural",
    "p0f",
    "phishing",
    "ratelimit",
    "rbl",
    "redis",
    "replies",
    "reputation",
    "rspamd_update",
    "spamassassin",
    "spamtrap",
    "surbl",
    "url_redirector",
    "whitelist",
)

GTUBE: Final = "YJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
"""rspamd's test pattern for "mark as spam". It rejects the classic one (XJS...), and that cannot be
configured."""

MAIN: Final = """\
lua = "$RULESDIR/rspamd.lua"
.include "$CONFDIR/metrics.conf"
.include "$CONFDIR/groups.conf"
.include "$CONFDIR/composites.conf"
.include "$CONFDIR/modules.conf"
actions {{ reject = 1000; add_header = 6; greylist = null; }}
modules {{ path = "${{PLUGINSDIR}}"; }}
options {{
    filters = "chartable,dkim,regexp";
    cache_file = "{data}/symbols.cache";
    dynamic_conf = "{data}/dynamic";
    history_file = "{data}/history";
    pidfile = "{data}/rspamd.pid";
    control_socket = "{data}/control.sock mode=0600";
    tempdir = "{data}";
    hs_cache_dir = "{data}";
    url_tld = "{folder}/tld.dat";
    disable_hyperscan = true;
    enable_test_patterns = true;
    explicit_modules = ["settings"];
    allow_raw_input = true;
    # 127/8 is where everyone is, so nobody is local.
    local_addrs = [];
    check_local = true;
    dns {{ nameserver = ["{resolver}"]; timeout = 2s; retransmits = 2; }}
    task_timeout = 8s;
}}
logging {{ type = "console"; level = "notice"; }}
worker "rspamd_proxy" {{
    bind_socket = "{socket} mode=0666";
    milter = yes;
    timeout = 60s;
    upstream "local" {{ default = yes; self_scan = yes; }}
    count = 1;
    spam_header = "X-Spam";
}}
"""

LOCAL: Final = {
    "spf": "spf_cache_size = 0;\nmin_cache_ttl = 1s;\ncheck_local = true;\ncheck_authed = true;\n",
    "dkim": "dkim_cache_size = 0;\ncheck_local = true;\ncheck_authed = true;\n",
    "dmarc": 'check_local = true;\nactions = { quarantine = "add_header"; reject = "reject"; }\n',
    "milter_headers": (
        'use = ["authentication-results", "x-spam-status", "x-spamd-result"];\n'
        "skip_local = false;\nskip_authenticated = false;\n"
    ),
}


def rspamd(layout: Layout) -> Daemon:
    """Writes the configuration and says how to start it."""
    folder = layout.folder("rspamd")
    data = layout.folder("rspamd/data", 0o777)
    layout.folder("rspamd/local.d")
    layout.folder("rspamd/override.d")
    (folder / "tld.dat").write_text("test\n")
    for name in OFF:
        (folder / "override.d" / f"{name}.conf").write_text("enabled = false;\n")
    for name, text in LOCAL.items():
        (folder / "local.d" / f"{name}.conf").write_text(text)
    with (folder / "local.d" / "milter_headers.conf").open("a") as out:
        out.write(f'routines {{ authentication-results {{ hostname = "{MX_NAMES["a"]}"; }} }}\n')
    conf = folder / "rspamd.conf"
    socket = layout.run / "rspamd.sock"
    values = {"data": data, "folder": folder, "resolver": layout.ip("resolver"), "socket": socket}
    conf.write_text(MAIN.format(**values))
    variables = tuple(
        f"--var={k}={v}" for k, v in (("LOCAL_CONFDIR", folder), ("DBDIR", data), ("RUNDIR", data))
    )
    argv = ("rspamd", "-f", "-u", "_rspamd", "-g", "_rspamd", "-c", str(conf), *variables)
    return Daemon("rspamd", argv, (str(socket),))
