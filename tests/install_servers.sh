#!/usr/bin/env bash
# Installs the real servers that tests talk to, where it can: as root on Debian. Elsewhere says so.
set -euo pipefail
declare -A program=(
  [influxdb]=influxd [chromium]=chromium [mosquitto]=mosquitto [iptables]=iptables [iproute2]=ip
  [faketime]=faketime [victoria-metrics]=victoria-metrics [socat]=socat [ser2net]=ser2net
  [buildah]=buildah [podman]=podman [runc]=runc [debootstrap]=debootstrap
)
missing=()
for package in "${!program[@]}"; do
  PATH="$PATH:/usr/sbin:/sbin" command -v "${program[$package]}" >/dev/null || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "make test: not root on Debian, so these are not installed and their tests are skipped: ${missing[*]}"
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
echo "make test: installing ${missing[*]}"
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
