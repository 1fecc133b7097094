"""The ground floor: what can be observed, and what it means. Knows no database, no web, no Prometheus."""
