--- What the Lua tests share: models to test with, and the shared cases.
--
-- "tiny" is in the directory $PHI3_TEST_TINY (write_model.py writes it); "smollm2" is the embedded
-- default model. PHI3_TEST_ONLY_TINY leaves out what needs the latter: under valgrind it is too slow.
local phi3 = require "phi3"
local cjson = require "cjson"

local M = {}

M.only_tiny = os.getenv("PHI3_TEST_ONLY_TINY") ~= nil

M.names = {
  tiny = assert(os.getenv("PHI3_TEST_TINY"), "PHI3_TEST_TINY is the directory of the tiny model"),
  smollm2 = "smollm2-135m",
}

local pipes = {}

--- A pipeline of a model by its name in the cases; loaded once.
function M.pipe(name)
  if not pipes[name] then
    pipes[name] = assert(phi3.pipeline("text-generation", {model = M.names[name]}))
  end
  return pipes[name]
end

function M.tiny()
  local pipe = M.pipe "tiny"
  return pipe.model, pipe.tokenizer
end

--- The shared cases of a kind that this run can ask.
function M.cases(kind)
  local file = assert(io.open((os.getenv("PHI3_TEST_DATA") or "tests/data") .. "/cases.json"))
  local all = cjson.decode(file:read("*a"))[kind]
  file:close()
  local chosen = {}
  for i, case in ipairs(all) do
    if not (M.only_tiny and case.model == "smollm2") then
      case.number = i
      chosen[#chosen + 1] = case
    end
  end
  assert(#chosen > 0)
  return chosen
end

--- Whether two values are the same, numbers by value.
function M.equal(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then
    return a == b
  end
  for key, value in pairs(a) do
    if not M.equal(value, b[key]) then
      return false
    end
  end
  for key in pairs(b) do
    if a[key] == nil then
      return false
    end
  end
  return true
end

--- Bytes of memory that the process has in RAM.
function M.resident()
  local file = assert(io.open("/proc/self/statm"))
  local pages = file:read("*a"):match("%d+ (%d+)")
  file:close()
  return tonumber(pages) * 4096
end

M.greedy = {do_sample = false, max_new_tokens = 6}
M.user = {{role = "user", content = "Hi"}}

return M
