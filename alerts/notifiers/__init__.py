"""What delivers: Slack, PagerDuty, Alertmanager and signed webhooks natively, the rest through apprise."""
