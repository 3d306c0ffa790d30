#!/usr/bin/env bash
# Run one phase of the checks under a heading, and say how it ended and how long it took.
#
#   tools/phase.sh "unit tests" command arguments...
set -uo pipefail

title="$1"
shift
printf '\n=== %s ===\n' "$title"
SECONDS=0
"$@" </dev/null
code=$?
if [ $code = 0 ]; then
    printf -- '--- %s: passed in %d s\n' "$title" "$SECONDS"
else
    printf -- '--- %s: FAILED after %d s (exit %d)\n    %s\n' "$title" "$SECONDS" "$code" "$*" >&2
fi
exit $code
