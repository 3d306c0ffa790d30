#!/usr/bin/env bash
# Print the path of a Chromium for the browser tests; install Debian's where that is allowed.
#
# $CHROMIUM, if it is set, is taken as it is.
set -euo pipefail

find_chromium() { command -v chromium || command -v chromium-browser || command -v google-chrome; }

install_chromium() {
    local as_root=()
    if [ "$(id -u)" != 0 ]; then as_root=(sudo -n); fi
    if ! command -v apt-get >/dev/null || ! "${as_root[@]}" true 2>/dev/null; then return 1; fi
    echo "Installing Debian's chromium for the browser tests"
    "${as_root[@]}" apt-get update -q </dev/null
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium </dev/null
}

if [ -n "${CHROMIUM:-}" ]; then
    if [ ! -x "$CHROMIUM" ]; then
        echo "sae_lab: CHROMIUM=$CHROMIUM is not a program" >&2
        exit 1
    fi
    printf '%s\n' "$CHROMIUM"
    exit
fi

find_chromium >/dev/null || install_chromium >&2 || true
if ! find_chromium; then
    cat >&2 <<'MESSAGE'

sae_lab: the browser tests need Chromium, and it could not be installed from here. Do one of these:
  Debian:  sudo apt-get install chromium
  Ubuntu:  sudo apt-get install chromium-browser
  others:  install Chromium or Chrome, then  make test CHROMIUM=/path/to/it
Everything but the browser tests:  make lint docs unit notebooks
MESSAGE
    exit 1
fi
