-- For `luacheck .`: what Lua 5.1 and 5.4 have in common; tests may use busted's words.
std = "min"
max_line_length = 110
files["tests/lua"] = {std = "min+busted"}
