--- The arguments of a pipeline's call: which exist, which step each is for, and the generation settings
-- that come of the call's, the model's and the pipeline's own.
--
-- In: a pipeline, the table that the caller gave. Out: a call, which pipeline.lua takes through its steps.
local core = require "phi3.core"
local calls = require "phi3.calls"
local decoding = require "phi3.decoding"
local generation = require "phi3.generation"
local tokenizers = require "phi3.tokenizer"

local M = {}

-- What holds for a pipeline where neither the call nor the model's files say anything.
local DEFAULTS = {max_new_tokens = 256, do_sample = true, temperature = 0.7}

-- Arguments for the first step and for the last; the rest is for generate().
M.ENCODING = {"truncation", "padding", "add_special_tokens", "max_length"}
local PREPROCESS = calls.set_of(M.ENCODING, {
  "continue_final_message", "tools", "documents", "prefix", "handle_long_generation",
  "tokenizer_encode_kwargs",
})
local POSTPROCESS = calls.set_of {
  "return_full_text", "return_tensors", "return_text", "skip_special_tokens",
  "clean_up_tokenization_spaces", "continue_final_message",
}
local RETURNING = calls.set_of {"return_tensors", "return_full_text"}

local ARGUMENTS = calls.set_of(calls.keys(PREPROCESS), calls.keys(POSTPROCESS),
  calls.keys(decoding.ARGUMENTS), {"batch_size", "num_workers", "stop_sequence"})

-- Refuses arguments that do not exist or that exclude each other.
function M.check(args)
  local unused = {}
  for name in pairs(args) do
    if not ARGUMENTS[name] then
      unused[#unused + 1] = tostring(name)
    end
  end
  calls.refuse_unused(unused, ARGUMENTS)
  for _, pair in ipairs {
    {"return_text", "return_full_text"}, {"return_tensors", "return_full_text"},
    {"return_text", "return_tensors"},
  } do
    if not calls.is_absent(args[pair[1]]) and not calls.is_absent(args[pair[2]]) then
      calls.fail("invalid argument", "`%s` is mutually exclusive with `%s`", pair[1], pair[2])
    end
  end
  local handling = calls.optional(args.handle_long_generation)
  if handling ~= nil and handling ~= "hole" then
    calls.fail("invalid argument", "`handle_long_generation` must be None or 'hole', but is '%s'",
      tostring(handling))
  end
end

-- The constructor's arguments that a call leaves in force: a generation_config replaces all generation
-- settings, and one way to say what to return replaces another.
local function without_overruled(defaults, args)
  local overruled = {}
  if not calls.is_absent(args.generation_config) then
    overruled = calls.copy(generation.FIELDS)
  end
  if not (calls.is_absent(args.return_tensors) and calls.is_absent(args.return_full_text)) then
    for name in pairs(RETURNING) do
      overruled[name] = true
    end
  end
  local kept = {}
  for name, value in pairs(defaults) do
    if not overruled[name] then
      kept[name] = value
    end
  end
  return kept
end

local function chosen(given, names)
  local result = {}
  for name in pairs(names) do
    result[name] = calls.optional(given[name])
  end
  return result
end

-- A total length does not count the prefix.
local function add_prefix_to_lengths(call, added)
  local prefix = call.first.prefix
  if not prefix or prefix == "" then
    return
  end
  local special = call.first.add_special_tokens or false
  local ids = tokenizers.encode(call.tokenizer, prefix, {add_special_tokens = special}).input_ids
  for total, new in pairs {max_length = "max_new_tokens", min_length = "min_new_tokens"} do
    if call.settings[total] ~= nil and call.settings[new] == nil then
      added[total] = call.settings[total] + #ids
    end
  end
end

-- Lays the pipeline's own defaults under what the caller and the model's files say.
local function settle_generation(call)
  local args = call.generation
  if args.max_length == core.null then
    args.max_length = nil
  end
  if not calls.is_absent(args.stop_sequence) then
    args.stop_strings = args.stop_sequence
    args.tokenizer = call.tokenizer
  end
  args.stop_sequence = nil
  local passed = calls.optional(args.generation_config)
  call.settings = calls.copy(call.model.generation_config)
  for _, layer in ipairs {passed or {}, args} do
    for name, value in pairs(layer) do
      call.settings[name] = value
    end
  end
  local added = {
    pad_token_id = call.tokenizer.pad_token_id, bos_token_id = call.tokenizer.bos_token_id,
  }
  for name, value in pairs(DEFAULTS) do
    added[name] = value
  end
  for name in pairs(calls.copy(added)) do
    if call.settings[name] ~= nil then
      added[name] = nil
    end
  end
  if call.settings.max_length ~= nil then
    added.max_new_tokens = nil
  end
  if calls.first(call.settings.do_sample, added.do_sample) ~= true then
    added.temperature = nil
  end
  for name, value in pairs(added) do
    call.settings[name] = value
  end
  add_prefix_to_lengths(call, added)
  if passed then
    local merged = calls.copy(passed)
    for name, value in pairs(added) do
      merged[name] = value
    end
    args.generation_config = generation.from_dict(merged)
  else
    for name, value in pairs(added) do
      args[name] = value
    end
  end
end

-- One call of a pipeline: its arguments, sorted by the step that they are for: `first` (text to ids),
-- `generation`, `last` (ids to records); `settings` is what generation comes to.
function M.begin(pipe, args)
  if args ~= nil and type(args) ~= "table" then
    calls.misuse("pipeline(): arguments must be a table, not %s", type(args))
  end
  args = args or {}
  M.check(args)
  local given = without_overruled(pipe.defaults, args)
  for name, value in pairs(args) do
    given[name] = value
  end
  local call = {pipe = pipe, model = pipe.model, tokenizer = pipe.tokenizer, generation = {}}
  call.first = chosen(given, PREPROCESS)
  call.last = chosen(given, POSTPROCESS)
  if args.max_length == nil then -- in the constructor it is no limit for the tokenizer
    call.first.max_length = nil
  end
  for name, value in pairs(given) do
    local is_elsewhere = (PREPROCESS[name] or POSTPROCESS[name]) and name ~= "max_length"
    if not is_elsewhere and name ~= "batch_size" and name ~= "num_workers" then
      call.generation[name] = value
    end
  end
  settle_generation(call)
  return call
end

return M
