--- From the name of a model to its files on this machine. Nothing is downloaded.
local core = require "phi3.core"
local calls = require "phi3.calls"

local M = {}

M.DEFAULT_MODEL = "smollm2-135m"

--- Options of every from_pretrained that say where files are, and those that change nothing: no code
-- is run, files are always mapped and never downloaded.
M.OPTIONS = {"revision", "gguf_file"}
M.WITHOUT_EFFECT = {
  "trust_remote_code", "low_cpu_mem_usage", "use_safetensors", "attn_implementation",
  "local_files_only", "token", "use_fast",
}

--- The path of a model's directory or GGUF file.
-- `name`: a path, "smollm2-135m", "ollama://NAME[:TAG]", "ORGANISATION/NAME" of the Hugging Face cache
-- or "ORGANISATION/NAME/FILE.gguf".
function M.resolve(name, options)
  if type(name) ~= "string" then
    calls.misuse("a model's name must be a string, not %s", type(name))
  end
  if name:find("\0", 1, true) then
    calls.fail("invalid argument", "a model's name cannot hold a NUL character")
  end
  local path = calls.check(core.resolve(name, {revision = calls.optional(options.revision)}))
  local file = calls.optional(options.gguf_file)
  if not file then
    return path
  end
  -- A directory whose one GGUF file is all there is stands for that file.
  calls.check_type("from_pretrained()", "gguf_file", file, "string")
  return (path:find("%.gguf$") and path:match("^(.*)/[^/]*$") or path) .. "/" .. file
end

--- A JSON object beside a model's weights; {} when there is no such file.
function M.read_json(path, name)
  local content = calls.check(core.read_json(path .. "/" .. name))
  return type(content) == "table" and content or {}
end

return M
