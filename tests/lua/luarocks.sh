#!/bin/sh
# luarocks.sh INTERPRETER VERSION INCLUDE SOURCE TREE: `luarocks make` into a fresh tree, and the module
# from there. The python3 whose oneDNN is used is the first on the PATH.
set -e
interpreter=$1 version=$2 include=$3 source=$4 tree=$5
rm -rf "$tree" "$source/build.luarocks"
cd "$source"
CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) luarocks --lua-version="$version" --tree="$tree" \
    make lua/phi3-*.rockspec LUA_INCDIR="$include"
rm -rf "$source/build.luarocks"
exec "$source/tests/lua/installed.sh" "$interpreter" "$version" "$tree"
