#!/bin/bash
# Runs once, when InfluxDB sets itself up: lets InfluxQL (Grafana) read the bucket as a database.
set -euo pipefail
bucket="$(influx bucket list --name "$DOCKER_INFLUXDB_INIT_BUCKET" --hide-headers | cut -f1)"
influx v1 dbrp create --bucket-id "$bucket" --db forewarn --rp autogen --default
