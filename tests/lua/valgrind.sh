#!/bin/sh
# valgrind.sh VALGRIND INTERPRETER LOG: the suite on the tiny model under memcheck, in one process.
# Fails on an invalid access, on a decision by uninitialised memory, and on memory of ours that is lost.
valgrind=$1 interpreter=$2 log=$3
here=$(dirname "$0")
set --
for spec in conventions objects stream tokenizer pipeline log hostile leaks; do
    set -- "$@" "$here/${spec}_spec.lua"
done
"$valgrind" --quiet --log-file="$log" --error-exitcode=99 --child-silent-after-fork=yes \
    --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite \
    "$interpreter" "$(command -v busted)" -o TAP "$@"
status=$?
[ "$status" = 0 ] || cat "$log"
exit "$status"
