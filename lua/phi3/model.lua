--- Models: loaded by name, model:generate(ids, args), model(ids).logits.
local core = require "phi3.core"
local calls = require "phi3.calls"
local decoding = require "phi3.decoding"
local devices = require "phi3.devices"
local generation = require "phi3.generation"
local hub = require "phi3.hub"
local saving = require "phi3.saving"

local M = {}

local Model = {__name = "phi3.Phi3ForCausalLM"}
Model.__index = Model

function M.is_model(value)
  return getmetatable(value) == Model
end

-- ---- Forward ---------------------------------------------------------------------------------------

local FORWARD_OPTIONS = calls.set_of {
  "attention_mask", "past_key_values", "use_cache", "logits_to_keep", "interrupt",
}

-- A row from its first visible id on. Nothing looks ahead, so padding at the right may stay.
local function without_left_padding(row, mask)
  local n_left, n_seen = 0, 0
  for i = #mask, 1, -1 do
    if mask[i] ~= 0 then
      n_left = i - 1
      n_seen = n_seen + 1
    end
  end
  local rest = {}
  for i = n_left + 1, #row do
    if i <= n_left + n_seen and mask[i] == 0 then
      calls.fail("unsupported", "attention_mask may only hide padding at the ends of a row")
    end
    rest[#rest + 1] = row[i]
  end
  return rest
end

local function forward(self, input_ids, options)
  options = calls.check_options("model()", options, FORWARD_OPTIONS)
  local mask = options.attention_mask
  input_ids, mask = decoding.parts_of(input_ids, mask)
  local rows = decoding.to_rows(input_ids)
  local masks = decoding.masks_of(rows, mask)
  local given = calls.optional(options.past_key_values)
  local caches = {}
  for i, row in ipairs(rows) do
    rows[i] = without_left_padding(row, masks[i])
    if not given then
      caches[i] = calls.check(core.cache(self.core))
    end
  end
  if given then
    caches = decoding.cache_list(given, #rows)
  end
  local logits = calls.check(self.core:forward(rows, caches, {
    keep = calls.optional(options.logits_to_keep),
    interrupt = calls.optional(options.interrupt),
  }))
  local kept = given
  if not given and options.use_cache == true then
    kept = #rows == 1 and caches[1] or caches
  elseif not given then
    for _, cache in ipairs(caches) do
      cache:close()
    end
  end
  return {logits = logits, past_key_values = kept}
end

--- model(ids, options): {logits = }, float32, [batch][n_tokens][vocab], after every id or after the
-- last `logits_to_keep`. logits[row][token][id + 1] is a number; logits:tolist(), logits:shape().
--
-- past_key_values holds what came before the ids and is extended. With use_cache = true and none
-- given, a new one is returned.
Model.__call = calls.protect(forward)
Model.forward = Model.__call

--- Continues ids: see phi3.decoding.
Model.generate = calls.protect(decoding.generate)

-- ---- Attributes ------------------------------------------------------------------------------------

function Model:num_parameters()
  return self.config.n_parameters
end

--- A new, empty KV cache for generate() and model(): what it has in common with the ids is not
-- computed again.
Model.new_cache = calls.protect(function(self)
  return (calls.check(core.cache(self.core)))
end)

--- Writes the model, quantised as it was loaded, as a GGUF file that llama.cpp loads, too.
-- A path that ends in .gguf is the file; any other is a directory, which gets model.gguf and copies of
-- the small files beside a checkpoint's weights. from_pretrained takes either. options: progress.
Model.save_pretrained = calls.protect(function(self, path, options)
  return saving.save(self.core, self.name_or_path, path, options)
end)

--- Frees the model now rather than when it is collected; caches and streams that use it live on.
function Model:close()
  self.core:close()
end

Model.__close = Model.close

function Model:__tostring()
  return ("Phi3ForCausalLM('%s', device='%s')"):format(self.name_or_path, self.device)
end

-- ---- Loading -----------------------------------------------------------------------------------------

local LOAD_OPTIONS = calls.set_of(hub.OPTIONS, hub.WITHOUT_EFFECT, {
  "device_map", "max_memory", "dtype", "torch_dtype", "compute_dtype", "kv_cache_dtype", "quantization",
  "packed_dir", "n_threads", "progress",
})

--- Half precision is a matter of how weights are stored; only float32 asks for more.
local function compute_dtype(dtype, torch_dtype)
  local wanted = calls.first(calls.optional(dtype), calls.optional(torch_dtype), "auto")
  if not calls.is_absent(torch_dtype) and torch_dtype ~= "auto" then
    calls.warn_once("`torch_dtype` is deprecated! Use `dtype` instead!")
  end
  local name = tostring(wanted):match("[^.]*$")
  if name ~= "auto" and name ~= "float32" and name ~= "bfloat16" and name ~= "float16" then
    calls.fail("invalid argument", "dtype must be 'auto', float32, bfloat16 or float16, not '%s'",
      tostring(wanted))
  end
  return name == "float32" and "float32" or "auto"
end

-- What the model's files say: generation_config.json, else the ids that they name elsewhere.
local function own_generation_config(handle, path)
  local written = hub.read_json(path, "generation_config.json")
  if next(written) == nil then
    written = handle:generation_config()
    written.bos_token_id = hub.read_json(path, "config.json").bos_token_id
  end
  return generation.from_dict(written)
end

-- What config.json says, and what the model runs with where that is silent.
local function config_of(handle, path)
  local config = handle:config()
  if config.sliding_window == 0 then
    config.sliding_window = nil
  end
  for name, value in pairs(hub.read_json(path, "config.json")) do
    config[name] = value
  end
  return config
end

--- Inside: loads a model.
function M.load(name, options)
  options = calls.check_options("AutoModelForCausalLM.from_pretrained()", options, LOAD_OPTIONS)
  local path = hub.resolve(name, options)
  local handle = calls.check(core.model(path, {
    device = devices.device_words(options.device_map),
    max_memory = devices.memory_words(options.max_memory),
    compute_dtype = calls.optional(options.compute_dtype)
      or compute_dtype(options.dtype, options.torch_dtype),
    kv_cache_dtype = calls.optional(options.kv_cache_dtype),
    quantization = calls.optional(options.quantization),
    packed_dir = calls.optional(options.packed_dir),
    n_threads = calls.optional(options.n_threads),
    progress = calls.optional(options.progress),
  }))
  local config = config_of(handle, path)
  return setmetatable({
    core = handle,
    name_or_path = path,
    config = config,
    generation_config = own_generation_config(handle, path),
    device = handle:device(),
    hf_device_map = devices.hf_device_map(handle:device_map()),
    compute_dtype = handle:compute_dtype(),
    kv_cache_dtype = handle:kv_cache_dtype(),
    dtype = config.dtype,
  }, Model)
end

--- AutoModelForCausalLM.from_pretrained(name, options).
--
-- device_map: "auto" (nil): as much as fits on the CUDA devices, the rest on the CPU; "cpu",
-- "reference", "cuda", "cuda:N", N: all of it there, but for what max_memory leaves to the CPU; a
-- table: a place for every module of transformers' model, as hf_device_map gives them. max_memory:
-- what a device may hold, a number of bytes or "6GiB", or a table {[0] = "6GiB", cpu = "30GiB"}; nil:
-- what is free, but for a margin. dtype (or torch_dtype): "auto"; "float32" asks for float32
-- arithmetic throughout. compute_dtype: "float32", "mixed", "auto". kv_cache_dtype: "auto",
-- "float32", "float16", "bfloat16", "int8". quantization: rounds weights while loading: "q4_0",
-- "q4_k_m", ... packed_dir: a directory for packed weights, so that the next load is instant.
-- n_threads: 0 for one per physical core. progress: a function that is told how much is done, 0 to 1;
-- when it returns true the load stops.
M.AutoModelForCausalLM = {from_pretrained = calls.protect(M.load)}

return M
