--- What the worker that answers holds, as JSON: bytes allocated by malloc, bytes of Lua's own.
local ffi = require "ffi"

pcall(ffi.cdef, [[
  struct mallinfo2 {
    size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
  };
  struct mallinfo2 mallinfo2(void);
]]) -- a second time it is there already

collectgarbage()
collectgarbage()
local allocated = ffi.C.mallinfo2()
ngx.say(require("cjson").encode {
  pid = ngx.worker.pid(),
  allocated = tonumber(allocated.uordblks + allocated.hblkhd), -- in arenas and in mappings
  of_lua = collectgarbage "count" * 1024,
})
