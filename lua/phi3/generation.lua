--- How to choose tokens and when to stop: the generation arguments of transformers.
--
-- `prepare` lays a call's arguments over the configuration that was passed, over the model's own, over
-- the global defaults, and refuses what this version does not do. The values themselves are checked
-- by the C library.
local core = require "phi3.core"
local calls = require "phi3.calls"

local M = {}

-- What holds when neither the call nor the model says anything.
local GLOBAL_DEFAULTS = {
  max_length = 20, min_length = 0, do_sample = false, use_cache = true, early_stopping = false,
  num_beams = 1, temperature = 1.0, top_k = 50, top_p = 1.0, typical_p = 1.0,
  repetition_penalty = 1.0, encoder_repetition_penalty = 1.0, length_penalty = 1.0,
  no_repeat_ngram_size = 0, encoder_no_repeat_ngram_size = 0, num_return_sequences = 1,
  output_scores = false, return_dict_in_generate = false, remove_invalid_values = false,
  epsilon_cutoff = 0.0, eta_cutoff = 0.0, num_assistant_tokens = 20,
  num_assistant_tokens_schedule = "constant", assistant_confidence_threshold = 0.4,
  assistant_lookbehind = 10, target_lookbehind = 10, num_beam_groups = 1, diversity_penalty = 0.0,
}

-- Arguments that act, or that can have no effect on what this version does.
local SUPPORTED = {
  "max_length", "max_new_tokens", "min_length", "min_new_tokens", "stop_strings", "do_sample",
  "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "use_cache",
  "num_return_sequences", "output_scores", "output_logits", "return_dict_in_generate",
  "pad_token_id", "bos_token_id", "eos_token_id", "prefill_chunk_size",
  "early_stopping", "length_penalty", -- of beams only
  "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold",
  "assistant_lookbehind", "target_lookbehind", "max_matching_ngram_size", -- of drafts only
}

-- Arguments of transformers that this version does not have; the sampling ones matter only then.
local SAMPLING_ONLY_UNSUPPORTED = {"top_h", "typical_p", "epsilon_cutoff", "eta_cutoff"}
local UNSUPPORTED = {
  "max_time", "num_beams", "bad_words_ids", "renormalize_logits", "forced_bos_token_id",
  "forced_eos_token_id", "exponential_decay_length_penalty", "suppress_tokens",
  "begin_suppress_tokens", "sequence_bias", "guidance_scale", "prompt_lookup_num_tokens",
  "encoder_repetition_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
  "remove_invalid_values",
}

-- Arguments of transformers that phi3 will not have.
local REFUSED = {
  "output_attentions", "output_hidden_states", "token_healing", "watermarking_config", "use_mtp",
  "assistant_early_exit", "assistant_ensemble_weight", "speculation_type", "is_assistant",
  "cache_implementation", "cache_config", "max_cache_len", "compile_config", "disable_compile",
  "continuous_batching_config", "decoder_start_token_id", "low_memory", "penalty_alpha",
  "dola_layers", "num_beam_groups", "diversity_penalty", "constraints", "force_words_ids",
}

M.FIELDS = calls.set_of(SUPPORTED, SAMPLING_ONLY_UNSUPPORTED, UNSUPPORTED, REFUSED)

-- Values at which a flag says nothing, so that greedy search, or one beam, need not mention it.
local SILENT_WHEN_GREEDY = {
  {"temperature", 1.0}, {"top_p", 1.0}, {"min_p"}, {"top_h"}, {"typical_p", 1.0}, {"top_k", 50},
  {"epsilon_cutoff", 0.0}, {"eta_cutoff", 0.0},
}
local SILENT_WITHOUT_BEAMS = {{"early_stopping", false}, {"length_penalty", 1.0}}

-- ---- Checks ----------------------------------------------------------------------------------------

local function check_early_stopping(config)
  local value = config.early_stopping
  if value ~= nil and type(value) ~= "boolean" and value ~= "never" then
    calls.fail("invalid argument", "`early_stopping` must be a boolean or 'never', but is %s",
      type(value) == "string" and ("'%s'"):format(value) or tostring(value))
  end
end

local function set_flags(config, silent, mode, given, idle)
  for _, entry in ipairs(silent) do
    local flag, quiet = entry[1], entry[2]
    local value = config[flag]
    if value ~= nil and value ~= quiet and (given[flag] ~= nil or given[mode] == nil) then
      idle[#idle + 1] = flag
    end
  end
end

-- Logs flags without effect: sampling flags when greedy, beam flags without beams. One that the
-- model's files brought along is not held against a call that only asks for greedy.
local function warn_of_idle_flags(config, given)
  local idle = {}
  if type(config.pad_token_id) == "number" and config.pad_token_id < 0 then
    idle[1] = "pad_token_id"
  end
  if config.do_sample ~= true then
    set_flags(config, SILENT_WHEN_GREEDY, "do_sample", given, idle)
  end
  set_flags(config, SILENT_WITHOUT_BEAMS, "num_beams", given, idle)
  if config.return_dict_in_generate ~= true then
    for _, flag in ipairs {"output_scores", "output_logits"} do
      if config[flag] == true then
        idle[#idle + 1] = flag
      end
    end
  end
  if #idle > 0 then
    calls.warn_once("The following generation flags are not valid and may be ignored: %s.",
      calls.show_list(idle))
  end
end

local function asks_for_something(config, name)
  local value = config[name]
  local quiet = value == nil or value == GLOBAL_DEFAULTS[name]
    or (type(value) == "table" and next(value) == nil)
    or (name == "guidance_scale" and value == 1)
    or (name == "low_memory" and value == false)
  return not quiet
end

local function refuse(config, names, format)
  for _, name in ipairs(names) do
    if asks_for_something(config, name) then
      calls.fail("unsupported", format, name)
    end
  end
end

local function refuse_unsupported(config)
  refuse(config, REFUSED, "`%s` is not supported by phi3")
  local later = "`%s` is not supported by this version of phi3"
  refuse(config, UNSUPPORTED, later)
  if config.do_sample then
    refuse(config, SAMPLING_ONLY_UNSUPPORTED, later)
  end
end

-- ---- From a call's arguments to a plan --------------------------------------------------------------

--- The value of one setting: the call's, the passed configuration's, the model's, the default.
local function choose(name, arguments, passed, own)
  if arguments[name] ~= nil then
    return calls.optional(arguments[name]) -- null turns the setting off
  end
  return calls.first(calls.optional(passed[name]), own[name], GLOBAL_DEFAULTS[name])
end

--- The settings of one call. `own`: the model's; `passed`: a GenerationConfig or nil; `arguments`: the
-- call's, where null says "off".
function M.prepare(own, passed, arguments)
  local config, used = {}, {}
  for name in pairs(M.FIELDS) do
    config[name] = choose(name, arguments, passed or {}, own)
    if arguments[name] ~= nil then
      used[name] = true
    end
  end
  if passed and next(used) then
    calls.warn_once("Passing `generation_config` together with generation arguments %s is deprecated: "
      .. "pass either the one or the others.", calls.show_list(calls.keys(used)))
  end
  config.is_default_max_length = calls.optional(arguments.max_length) == nil
    and calls.optional((passed or {}).max_length) == nil and own.max_length == nil
  check_early_stopping(config)
  warn_of_idle_flags(config, arguments)
  refuse_unsupported(config)
  return config
end

local function id_list(value)
  if type(value) == "number" then
    return {value}
  end
  return value
end

--- The settings as phi3.core.generation takes them. `padding`: how much longer the rows of the batch
-- are than the ids in the longest of them, which a total length counts.
function M.core_arguments(config, padding)
  local most = not config.is_default_max_length and config.max_length or nil
  local least = config.min_length
  return {
    max_new_tokens = config.max_new_tokens,
    max_length = type(most) == "number" and most - padding or most,
    min_new_tokens = config.min_new_tokens,
    min_length = type(least) == "number" and least > 0 and least - padding or least,
    do_sample = config.do_sample or false,
    repetition_penalty = config.repetition_penalty or 1.0,
    temperature = config.temperature or 1.0,
    top_k = config.top_k or 0,
    top_p = config.top_p or 1.0,
    min_p = config.min_p or 0.0,
    eos_token_id = id_list(config.eos_token_id),
    pad_token_id = config.pad_token_id or -1,
    stop_strings = config.stop_strings,
    num_return_sequences = config.num_return_sequences or 1,
    output_logits = (config.return_dict_in_generate and
                     (config.output_logits or config.output_scores)) or false,
  }
end

-- ---- GenerationConfig ---------------------------------------------------------------------------------

local GenerationConfig = {__name = "phi3.GenerationConfig"}
GenerationConfig.__index = GenerationConfig

--- Whether a value is a GenerationConfig.
function M.is_config(value)
  return getmetatable(value) == GenerationConfig
end

--- A configuration of a table, as a file of the model's has it: what phi3 does not know is left out.
function M.from_dict(values)
  local config = setmetatable({}, GenerationConfig)
  for name, value in pairs(values) do
    if M.FIELDS[name] and value ~= core.null then
      config[name] = value
    end
  end
  return config
end

--- What has been set, as a plain table.
function GenerationConfig:to_dict()
  return calls.copy(self)
end

function GenerationConfig:__tostring()
  local lines = {}
  for i, name in ipairs(calls.keys(self)) do
    lines[i] = ("  %s = %s"):format(name, tostring(self[name]))
  end
  return "GenerationConfig {\n" .. table.concat(lines, "\n") .. "\n}"
end

--- phi3.GenerationConfig{max_new_tokens = 20, ...}: settings by name.
M.GenerationConfig = calls.protect(function(values)
  return M.from_dict(calls.check_options("GenerationConfig", values, M.FIELDS))
end)

return M
