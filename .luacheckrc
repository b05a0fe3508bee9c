-- For `luacheck .`: what Lua 5.1 and 5.4 have in common, nginx's names where they are there, and
-- busted's words in the tests.
std = "min"
max_line_length = 110
exclude_files = {"build*", ".venv"}
files["lua/resty"] = {std = "min+ngx_lua"}
files["tests/openresty"] = {std = "min+ngx_lua"}
files["tests/lua"] = {std = "min+busted", ignore = {"512"}} -- loops that are left at once
files["lua/phi3/meta.lua"] = {ignore = {"212", "241"}, max_line_length = false} -- for editors only
