"""`mailcanary rules`: Prometheus rules that fit the config."""

from __future__ import annotations

import argparse
import sys

from agent.commands.common import config_path

NAME = "rules"
HELP = "Prometheus rules from the config's objective and intervals"
DESCRIPTION = """\
Prints a file of Prometheus rules: recording rules, burn-rate alerts of each provider, sender and route,
absent and stale data, and the agent's own health. Windows follow from how often canaries are sent, so that
one lost canary never pages.

  mailcanary --config mail.yaml rules > /etc/prometheus/rules/mailcanary.yml
  mailcanary rules --default                  for no config: one canary in 15 minutes, 99 % to arrive

Who pages? Where the config has receivers of its own (alerts.receivers) the agent pages, and the file has only
what the agent cannot tell itself: that it is down, absent, wrong about the time. --pager chooses otherwise:

  mailcanary rules --pager prometheus         everything; then leave alerts.receivers empty
  mailcanary rules --pager agent              only the agent's own health

Exit code 0; 2 where the config is wrong.
"""


TWICE = "mailcanary: these rules page, and so do alerts.receivers of the config: people are told twice"
NOBODY = "mailcanary: nobody tells of mail: these rules do not, and the config has no alerts.receivers"


def configure(parser: argparse.ArgumentParser) -> None:
    """Takes where links lead, and who pages."""
    told = "who tells people (default auto: the agent, where the config has receivers)"
    parser.add_argument("--pager", choices=("auto", "agent", "prometheus"), default="auto", help=told)
    parser.add_argument(
        "--grafana", metavar="URL", default="http://127.0.0.1:3000", help="for links to dashboards"
    )
    parser.add_argument("--default", action="store_true", help="without a config: the set that is shipped")


def run(args: argparse.Namespace) -> int:
    """Prints the rules. Exit code 0."""
    from agent.config.load import load
    from agent.prometheus.rules import rules_file
    from agent.prometheus.shape import Shape, shape_of

    if args.default:
        shape = Shape(grafana=args.grafana.rstrip("/"), only_agent=args.pager == "agent")
    else:
        only_agent = None if args.pager == "auto" else args.pager == "agent"
        config = load(config_path(args))
        shape = shape_of(config, grafana=args.grafana, only_agent=only_agent)
        if args.pager != "auto" and bool(config.alerts.receivers) != shape.only_agent:
            sys.stderr.write(f"{NOBODY if shape.only_agent else TWICE}\n")
    sys.stdout.write(rules_file(shape))
    return 0
