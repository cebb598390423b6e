#!/usr/bin/env bash
# Makes the secrets that compose.yaml wants, once, readable by the containers' users only.
set -euo pipefail
folder="${1:?usage: secrets.sh FOLDER}"
umask 077
mkdir -p "$folder"
for name in influxdb_admin_password influxdb_token grafana_admin_password; do
  [ -s "$folder/$name" ] || head -c 32 /dev/urandom | base64 | tr -d '/+=\n' > "$folder/$name"
done
# Compose hands a file secret over with the owner that it has on the box.
chmod 0755 "$folder" && chmod 0444 "$folder"/*
echo "secrets are in $folder; keep it on this box, readable by root's services only"
