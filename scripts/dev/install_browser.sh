#!/usr/bin/env bash
# Installs Debian's chromium and its driver, with which the gallery's tests open pages. Does nothing if both are there,
# needs root or passwordless sudo, and never fails: without a browser those tests are skipped with a message.
set -uo pipefail
installed() { command -v chromium >/dev/null && command -v chromedriver >/dev/null; }
skipped() {
    echo "no chromium: $1; the browser tests will be skipped"
    exit 0
}
installed && exit 0
command -v apt-get >/dev/null || skipped "this system has no apt-get"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || skipped "installing it needs root"
    as_root=(sudo -n)
fi
install() {
    timeout 300 "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends chromium chromium-driver fonts-dejavu-core </dev/null >/dev/null 2>&1
}
install || { timeout 120 "${as_root[@]}" apt-get update -qq </dev/null >/dev/null 2>&1 && install; }
installed || skipped "apt-get could not install it"
echo "$(chromium --version 2>/dev/null) installed for the browser tests"
