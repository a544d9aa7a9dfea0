#!/bin/sh
# tests/fault/kill_train.sh COUNT [SEED] [BUILD] [SELECT]: kills a training process with SIGKILL
# COUNT times at random moments and looks whether each resume has lost a saved step or a bit. A
# second run that is never killed says what the bits must be. SELECT: the router's way of choosing
# by its number (0), -1: adapters on experts. The last line is "N passed, M failed".
set -eu
count=${1:-1000}
seed=${2:-1}
build=${3:-build/release}
make -s BUILD="$build" "$build/tests/test_resume"
exec "$build/tests/test_resume" --kills "$count" "$seed" "${4:-0}"
