--- phi3: Phi-3.5-mini and its family, with the interface of the transformers pipeline.
--
--     local phi3 = require "phi3"
--     local pipe = assert(phi3.pipeline("text-generation", {model = "smollm2-135m"}))
--     local output = assert(pipe {{role = "user", content = "Hello!"}})
--     print(output[1].generated_text[2].content)
--
-- Names, arguments and defaults are those of the Python package and so of transformers; what is None
-- there is nil here, or phi3.null where a table cannot hold nil. What can happen (no such model, an
-- argument out of range) returns nil, a message and a code; misuse (a wrong type, an argument that
-- does not exist) raises an error.
--
-- @module phi3

local ok, core = pcall(require, "phi3.core")
if not ok then
  error("phi3: its C module phi3.core cannot be loaded. `make lua` in a source tree, `cmake --install`"
    .. " and `luarocks make` build it for the Lua that they are told of; this is "
    .. (rawget(_G, "jit") and rawget(_G, "jit").version or _VERSION) .. ".\n" .. tostring(core)
    .. "\npackage.cpath is " .. package.cpath, 0)
end

local calls = require "phi3.calls"
local engines = require "phi3.engine"
local generation = require "phi3.generation"
local models = require "phi3.model"
local pipelines = require "phi3.pipeline"
local random = require "phi3.random"
local saving = require "phi3.saving"
local streamers = require "phi3.streamers"
local tokenizers = require "phi3.tokenizer"

local phi3 = {
  _VERSION = core.version,
  null = core.null, -- cjson.null and ngx.null are the same value
  AutoModelForCausalLM = models.AutoModelForCausalLM,
  AutoTokenizer = tokenizers.AutoTokenizer,
  Engine = engines.Engine,
  GenerationConfig = generation.GenerationConfig,
  TextStreamer = streamers.TextStreamer,
  pipeline = pipelines.pipeline,
  quantize = saving.quantize,
  random = random,
  manual_seed = random.manual_seed,
  set_seed = random.set_seed,
  set_verbosity = calls.set_verbosity,
  set_log_callback = calls.set_log_callback,
}

--- Cache(model): the keys and values of one sequence, for past_key_values.
phi3.Cache = calls.protect(function(model)
  if not models.is_model(model) then
    calls.misuse("Cache(): a model expected, got %s", type(model))
  end
  return (calls.check(core.cache(model.core)))
end)

--- What the CPU can do at best, all threads together: GB/s read, GFLOP/s by element type. Takes some 1.5
-- seconds. options: n_threads.
phi3.measure_peaks = calls.protect(function(options)
  return (calls.check(core.measure_peaks(options)))
end)

--- What this installation is and what it runs on: version, Lua, backends (and why one is not
-- available), instruction set and threads.
function phi3.info()
  local jit = rawget(_G, "jit")
  return {
    version = core.version,
    lua = jit and jit.version or _VERSION,
    backends = core.backends(),
    cpu_isa = core.cpu_isa(),
    n_threads = core.default_threads(),
  }
end

return phi3
