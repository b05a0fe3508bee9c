#!/bin/sh
# serve.sh - starts nginx, in the foreground, with nginx.conf of this directory.
#
# In: environment variables. Out: a server at http://127.0.0.1:PORT until SIGTERM or SIGINT.
#   PREFIX     a directory for nginx's own files, which is made (required)
#   MODEL      the model's name or path (smollm2-135m)
#   PORT       (8080)
#   WORKERS    processes (2)
#   OPTIONS    more options of phi3.init_worker, in Lua: "n_slots = 8, queue = 100"
#   LUA_DIR    where phi3.lua is (beside this directory)
#   LUA_CDIR   where phi3/core.so for LuaJIT is (PREFIX/../lua/5.1)
#   PHI3_CACHE_DIR  packed weights, by way of which the workers share memory (PREFIX/packed)
#   NGINX      the program (nginx or openresty)
#   TEMPLATE   another configuration with the same placeholders (nginx.conf beside this file)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${PREFIX:?a directory for the files of nginx}/temp"
prefix=$(cd "$PREFIX" && pwd)
model=${MODEL:-smollm2-135m}
port=${PORT:-8080}
lua_dir=${LUA_DIR:-$(dirname "$here")}
lua_cdir=${LUA_CDIR:-$(dirname "$prefix")/lua/5.1}
nginx=${NGINX:-$(command -v nginx || command -v openresty || command -v /usr/sbin/nginx)} || {
    echo "serve.sh: neither nginx nor openresty was found (Debian: apt-get install nginx" \
        "libnginx-mod-http-lua lua-resty-core lua-cjson)" >&2
    exit 1
}

unset NGINX # to nginx itself it means sockets to inherit

# Debian's nginx loads its Lua module; OpenResty has it inside.
modules=
for module in ndk_http_module ngx_http_lua_module; do
    file=/usr/lib/nginx/modules/$module.so
    case $nginx in *openresty*) continue ;; esac
    [ -f "$file" ] && modules="${modules}load_module $file; "
done
# Workers of root would lose the right to read root's files.
user=
[ "$(id -u)" != 0 ] || user="user root;"

options="model = [==[$model]==]${OPTIONS:+, $OPTIONS}"
escape() { printf '%s' "$1" | sed 's/[\\&|]/\\&/g'; }
sed -e "s|@MODULES@|$(escape "$modules")|" -e "s|@USER@|$user|" \
    -e "s|@WORKERS@|${WORKERS:-2}|" -e "s|@PORT@|$port|" \
    -e "s|@LUA_PATH@|$(escape "$lua_dir/?.lua")|" -e "s|@LUA_CPATH@|$(escape "$lua_cdir/?.so")|" \
    -e "s|@OPTIONS@|$(escape "$options")|" -e "s|@PAGES@|$(escape "$here")|" \
    "${TEMPLATE:-$here/nginx.conf}" >"$prefix/nginx.conf"

export PHI3_CACHE_DIR="${PHI3_CACHE_DIR:-$prefix/packed}"
echo "phi3 serves $model at http://127.0.0.1:$port"
exec "$nginx" -p "$prefix" -c "$prefix/nginx.conf" -e stderr -g "daemon off;"
