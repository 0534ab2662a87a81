#!/usr/bin/env bash
# step.sh NAME COMMAND...: runs one step of a make target and says how long it took.
set -euo pipefail

name=$1
shift
echo "== $name"
SECONDS=0
"$@"
echo "== $name: $SECONDS s"
