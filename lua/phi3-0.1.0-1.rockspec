-- luarocks make lua/phi3-0.1.0-1.rockspec, in the top directory; for LuaJIT with --lua-version=5.1.
-- oneDNN 3.2 or newer comes from the system or from PyPI packages of the python3 that is first on the
-- PATH: python3 -m venv .venv && . .venv/bin/activate && pip install onednn-cpu-gomp onednn-devel-cpu-gomp
rockspec_format = "3.0"
package = "phi3"
version = "0.1.0-1"
source = {
  url = ".", -- it is built where it lies
}
description = {
  summary = "Phi-3.5-mini and its family inside a program",
  detailed = "The transformers pipeline in Lua 5.4, LuaJIT and OpenResty: chats in, answers out, streamed.",
  license = "MIT",
}
supported_platforms = {"linux"}
dependencies = {
  "lua >= 5.1",
}
external_dependencies = {
  PCRE2 = {header = "pcre2.h"},
  CJSON = {header = "cjson/cJSON.h"},
}
build = {
  type = "cmake",
  variables = {
    CMAKE_BUILD_TYPE = "Release",
    CMAKE_INSTALL_PREFIX = "$(PREFIX)",
    PHI3_TESTS = "OFF",
    PHI3_LIBRARY = "OFF",
    PHI3_LUA = "ON",
    PHI3_LUA_INCLUDE_DIR = "$(LUA_INCDIR)",
    PHI3_LUA_SHARE_DIR = "$(LUADIR)",
    PHI3_LUA_LIB_DIR = "$(LIBDIR)",
  },
}
