-- luarocks make lua/phi3-0.1.0-1.rockspec, in the top directory; for LuaJIT with --lua-version=5.1 and,
-- where the header of another 5.1 would be found first, LUA_INCDIR=/usr/include/luajit-2.1.
-- oneDNN, by which phi3.measure_peaks measures, is taken along where the system or the python3 on the
-- PATH has it (pip install onednn-cpu-gomp onednn-devel-cpu-gomp); nothing else needs it.
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
