#!/usr/bin/env bash
# Make the virtual environment $VENV if it is not there, and install sae_lab and what is named into it.
#
#   tools/install.sh ".[test]" more-packages...
#
# The first argument is the editable install, the rest are further requirements. Versions come from
# constraints.txt. torch goes in first and on its own: a torch that is in $VENV already is kept, whatever
# its build; otherwise $TORCH, or the version in constraints.txt, is asked for. Everything after that is
# installed with torch held at exactly what is there, so no requirement can swap a CPU build for a CUDA one.
set -euo pipefail
cd "$(dirname "$0")/.."

VENV="${VENV:-.venv}"
TORCH="${TORCH:-}"
python="$VENV/bin/python"
quiet=(--quiet)
if [ -t 1 ]; then quiet=(); fi # on a terminal, show pip's own progress

fail() {
    printf '\nsae_lab: %s\n' "$1" >&2
    exit 1
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_new_enough "$PYTHON" || fail "PYTHON=$PYTHON is not a working Python 3.11 or newer"
        printf '%s' "$PYTHON"
        return
    fi
    # 3.11 first: it is the one that CI proves.
    for candidate in python3.11 python3.12 python3.13 python3 python; do
        if is_new_enough "$candidate"; then
            printf '%s' "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer is needed and none was found. Install it, or name it: make demo PYTHON=/path/to/python3.11"
}

if ! "$python" -m pip --version >/dev/null 2>&1; then
    base="$(find_python)"
    echo "Making $VENV with $("$base" --version)"
    "$base" -m venv "$VENV" || fail "the virtual environment could not be made. On Debian and Ubuntu, install python3-venv first"
fi
is_new_enough "$python" || fail "$VENV holds $("$python" --version), and Python 3.11 or newer is needed. Remove $VENV and run this again"

installed_torch() { "$python" -c 'import importlib.metadata as m; print(m.version("torch"))' 2>/dev/null; }
pip() { "$python" -m pip install --disable-pip-version-check --no-input "${quiet[@]}" "$@"; }

held="$VENV/constraints.txt" # constraints.txt, with torch (and what it brings) held at what is there
grep -v -e '^torch==' -e '^triton==' constraints.txt >"$held"

if [ -n "$TORCH" ]; then
    echo "Installing $TORCH into $VENV"
    # shellcheck disable=SC2086  # TORCH may carry options, such as --index-url
    pip -c "$held" $TORCH
elif ! installed_torch >/dev/null; then
    torch="$(grep '^torch==' constraints.txt)"
    echo "Installing $torch into $VENV (200 MB for a CPU build)"
    pip -c "$held" "$torch"
fi
echo "torch==$(installed_torch)" >>"$held"
# a CUDA build of torch asks for the triton that it was made with; beside another, constraints.txt decides
brings_triton() {
    "$python" -c 'import importlib.metadata as m; exit(not any(r.startswith("triton") for r in m.requires("torch") or []))'
}
brings_triton || grep '^triton==' constraints.txt >>"$held"

echo "Installing sae_lab and what it needs into $VENV (some minutes the first time)"
pip -c "$held" "hatchling>=1.27" editables # what builds sae_lab itself
pip -c "$held" --no-build-isolation -e "$@"
