--- Models to files: phi3.quantize(name, "out.gguf", "q4_k_m"), model:save_pretrained(path).
local core = require "phi3.core"
local calls = require "phi3.calls"
local hub = require "phi3.hub"

local M = {}

-- What stands beside the weights of a Hugging Face checkpoint. phi3 finds all that it needs in the GGUF
-- file; other programs look for these.
local COMPANIONS = {
  "config.json", "generation_config.json", "tokenizer.json", "tokenizer.model",
  "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
}

local QUANTIZE_OPTIONS = calls.set_of(hub.OPTIONS, hub.WITHOUT_EFFECT,
  {"overwrite", "n_threads", "progress"})

--- quantize(name, path, type, options): writes a model as a GGUF file that llama.cpp loads, too.
-- type: "q4_k_m" when nil, "q4_0", "q8_0", "f16", ...; phi3.null: as the weights are stored. options:
-- overwrite, n_threads, progress, revision, gguf_file.
M.quantize = calls.protect(function(name, path, type_name, options)
  options = calls.check_options("quantize()", options, QUANTIZE_OPTIONS)
  calls.check_type("quantize()", "path", path, "string")
  local source = hub.resolve(name, options)
  return (calls.check(core.quantize(source, calls.first(type_name, "q4_k_m"), path, {
    overwrite = options.overwrite, n_threads = options.n_threads, progress = options.progress,
  })))
end)

local function copy_file(from, to)
  local source = io.open(from, "rb")
  if not source then
    return -- it has none
  end
  local content = source:read("*a")
  source:close()
  local target, reason = io.open(to, "wb")
  if not target then
    calls.fail("input/output error", "%s", reason)
  end
  local written, message = target:write(content)
  target:close()
  if not written then
    calls.fail("input/output error", "%s: %s", to, message)
  end
end

--- Inside: writes a loaded model to a file whose name ends in .gguf, or into a directory.
function M.save(model, source, path, options)
  options = calls.check_options("save_pretrained()", options, {progress = true})
  calls.check_type("save_pretrained()", "path", path, "string")
  local settings = {overwrite = true, progress = options.progress}
  if path:find("%.gguf$") then
    return (calls.check(model:save(path, settings)))
  end
  calls.check(core.make_directory(path))
  calls.check(model:save(path .. "/model.gguf", settings))
  for _, name in ipairs(source ~= path and COMPANIONS or {}) do
    copy_file(source .. "/" .. name, path .. "/" .. name)
  end
  return true
end

return M
