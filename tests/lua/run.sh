#!/bin/sh
# run.sh MODULES COMMAND...: runs COMMAND where `require` finds phi3 in the source tree, its C module in
# the directory MODULES (build/lua/5.4, say) and what the tests share.
root=$(cd "$(dirname "$0")/../.." && pwd)
LUA_PATH="$root/lua/?.lua;$root/tests/lua/?.lua;;" LUA_CPATH="$1/?.so;;"
export LUA_PATH LUA_CPATH
shift
exec "$@"
