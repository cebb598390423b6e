#!/usr/bin/env bash
# Installs what tests need beside the lock: tools, and the real servers that they talk to, where it
# can: as root on Debian. Elsewhere says so.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=build/tools
if ! cmp -s tests/tools.txt "$tools/installed.txt"; then
  echo "make test: installing $(grep -v '^#' tests/tools.txt | paste -sd ' ') in $tools"
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check --requirement tests/tools.txt
  cp tests/tools.txt "$tools/installed.txt"
fi
declare -A program=(
  [influxdb]=influxd [chromium]=chromium [mosquitto]=mosquitto [iptables]=iptables [iproute2]=ip
  [faketime]=faketime [victoria-metrics]=victoria-metrics [socat]=socat [ser2net]=ser2net [stunnel4]=stunnel
  [buildah]=buildah [podman]=podman [runc]=runc [debootstrap]=debootstrap
)
missing=()
# A library, which no command tells of: OpenVINO's driver of the Neural Compute Stick 2 loads it.
PATH="$PATH:/usr/sbin:/sbin" ldconfig -p 2>/dev/null | grep 'libusb-1\.0\.so\.0' >/dev/null || missing+=(libusb-1.0-0)
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
