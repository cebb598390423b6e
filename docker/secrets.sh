#!/usr/bin/env bash
# Makes the secrets that compose.yaml wants, once.
set -euo pipefail
folder="${1:?usage: secrets.sh FOLDER}"
umask 077
mkdir -p "$folder"
for name in influxdb_admin_password influxdb_token grafana_admin_password; do
  [ -s "$folder/$name" ] || head -c 32 /dev/urandom | base64 | tr -d '/+=\n' > "$folder/$name"
done
# Three users in three containers read these files, so the files are open, and the way to them is
# not: only root, who mounts them one by one, comes through the folder.
chmod 0700 "$folder" && chmod 0444 "$folder"/*
echo "secrets are in $folder, for root alone; keep them on this box"
