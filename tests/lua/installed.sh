#!/bin/sh
# installed.sh INTERPRETER VERSION PREFIX: whether `require "phi3"` works from an installation alone, and
# computes: with no path to the sources or the build.
set -e
interpreter=$1 version=$2 prefix=$3
cd "$prefix"
env -i HOME="$HOME" PATH="$PATH" LUA_PATH="$prefix/share/lua/$version/?.lua" \
    LUA_CPATH="$prefix/lib/lua/$version/?.so" "$interpreter" - "$PHI3_TEST_TINY" <<'LUA'
local phi3 = require "phi3"
local pipe = assert(phi3.pipeline("text-generation", {model = arg[1]}))
assert(#pipe("Hello", {do_sample = false, max_new_tokens = 3, return_tensors = true}) == 1)
print(phi3._VERSION, phi3.info().lua)
LUA
