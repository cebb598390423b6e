"""The dashboards, one module a page, and what Grafana makes of them."""
