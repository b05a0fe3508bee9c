--- model:generate(ids, args): prompts in, the same with what the model adds to them out.
--
-- The C library chooses the tokens; here the arguments of transformers are sorted out, and padding is
-- taken off before and put back after.
local core = require "phi3.core"
local calls = require "phi3.calls"
local generation = require "phi3.generation"
local random = require "phi3.random"

local M = {}

-- Arguments of generate() that are no generation settings.
local OWN = {
  "generation_config", "input_ids", "attention_mask", "past_key_values", "streamer", "tokenizer",
  "trust_remote_code", "interrupt", "n_threads", "output_timings",
}

-- Those of transformers that this version does not have, and those that phi3 will not have.
local UNSUPPORTED = {
  "logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn", "assistant_model",
  "assistant_tokenizer", "negative_prompt_ids", "negative_prompt_attention_mask",
}
local REFUSED = {"custom_generate", "synced_gpus", "inputs_embeds", "position_ids"}

M.ARGUMENTS = calls.set_of(OWN, UNSUPPORTED, REFUSED, calls.keys(generation.FIELDS))

-- ---- Arguments -------------------------------------------------------------------------------------

local function refuse_unsupported(args)
  for i, names in ipairs {UNSUPPORTED, REFUSED} do
    for _, name in ipairs(names) do
      local value = args[name]
      local empty = type(value) == "table" and next(value) == nil
      if not calls.is_absent(value) and value ~= false and not empty then
        calls.fail("unsupported", "`%s` is not supported by %sphi3", name,
          i == 1 and "this version of " or "")
      end
    end
  end
end

-- Names that are neither a setting nor an argument. They are misuse, in transformers' words.
local function refuse_unknown(args)
  local unused = {}
  for name, value in pairs(args) do
    if not M.ARGUMENTS[name] and not calls.is_absent(value) then
      unused[#unused + 1] = tostring(name)
    end
  end
  calls.refuse_unused(unused, M.ARGUMENTS)
end

local function refuse_streaming_beams(args, passed)
  local beams = calls.optional(args.num_beams) or (passed or {}).num_beams or 1
  if not calls.is_absent(args.streamer) and beams ~= 1 then
    calls.fail("invalid argument", "`streamer` cannot be used with beam search: set `num_beams` to 1")
  end
end

-- ---- Prompts ---------------------------------------------------------------------------------------

--- Ids and mask of what a tokenizer returned, or of plain ids.
function M.parts_of(inputs, mask)
  if type(inputs) == "table" and inputs.input_ids then
    return inputs.input_ids, calls.first(calls.optional(mask), inputs.attention_mask)
  end
  return inputs, calls.optional(mask)
end

--- A batch of ids, or the ids of one sequence, as a list of rows.
function M.to_rows(value, name)
  name = name or "input_ids"
  if type(value) ~= "table" then
    calls.misuse("%s must be a list of integers or a list of such lists, not %s", name, type(value))
  end
  local rows = type(value[1]) == "table" and value or {value}
  local result = {}
  for i, row in ipairs(rows) do
    if type(row) ~= "table" then
      calls.misuse("%s must be a list of integers or a list of such lists", name)
    end
    for _, item in ipairs(row) do
      if not calls.is_integer(item) then
        calls.misuse("%s must hold integers, not %s", name, type(item))
      end
    end
    result[i] = row
  end
  return result
end

--- An attention mask as rows of 0 and 1 that fit the ids; all ones when there is none.
function M.masks_of(rows, mask)
  local masks = mask and M.to_rows(mask, "attention_mask") or {}
  for i, row in ipairs(rows) do
    if not mask then
      masks[i] = {}
      for j = 1, #row do
        masks[i][j] = 1
      end
    end
    local seen = #row == 0 and not mask
    for _, value in ipairs(masks[i] or {}) do
      seen = seen or value ~= 0
    end
    if #masks ~= #rows and mask or #masks[i] ~= #row then
      calls.fail("invalid argument", "attention_mask and input_ids must have the same shape")
    end
    if not seen then
      calls.fail("invalid argument", "attention_mask hides a whole row")
    end
  end
  return masks
end

local function contains(list, value)
  for _, item in ipairs(list) do
    if item == value then
      return true
    end
  end
  return false
end

-- 1 where an id is not padding; nil when padding cannot be told from the text's end.
local function mask_of_padding(rows, config)
  local pad, ends = config.pad_token_id, config.eos_token_id
  if type(ends) ~= "table" then
    ends = {ends}
  end
  if not pad or contains(ends, pad) then
    return nil
  end
  local masks, found = {}, false
  for i, row in ipairs(rows) do
    masks[i] = {}
    for j, id in ipairs(row) do
      masks[i][j] = id == pad and 0 or 1
      found = found or id == pad
    end
  end
  return found and masks or nil
end

-- The prompts of a call: as they came (`padded`), without their padding (`rows`), and how much longer
-- than the longest of these the former are (`padding`).
local function read_prompt(inputs, args, config)
  local given = calls.optional(args.input_ids)
  if inputs ~= nil and given ~= nil then
    calls.fail("invalid argument", "`inputs` and `input_ids` are the same: pass one of them")
  end
  local ids, mask = M.parts_of(calls.first(calls.optional(inputs), given), args.attention_mask)
  if ids == nil then
    if not config.bos_token_id then
      calls.fail("invalid argument",
        "`bos_token_id` has to be defined when no `input_ids` are provided.")
    end
    ids = {{config.bos_token_id}}
  end
  local prompt = {padded = M.to_rows(ids), rows = {}}
  prompt.width = prompt.padded[1] and #prompt.padded[1] or 0
  for _, row in ipairs(prompt.padded) do
    if #row ~= prompt.width then
      calls.fail("invalid argument",
        "the rows of a batch must be of one length: pad them on the left (padding=true)")
    end
  end
  local masks = M.masks_of(prompt.padded, mask or mask_of_padding(prompt.padded, config))
  local longest = 0
  for i, row in ipairs(prompt.padded) do
    -- Positions count what is seen, so hidden tokens might as well not be there.
    local seen = {}
    for j, id in ipairs(row) do
      if masks[i][j] ~= 0 then
        seen[#seen + 1] = id
      end
    end
    prompt.rows[i] = seen
    longest = math.max(longest, #seen)
    if masks[i][#row] == 0 then
      calls.warn_once("A decoder-only model is given right padding: set `padding_side = 'left'` in "
        .. "the tokenizer.")
    end
  end
  prompt.padding = prompt.width - longest
  return prompt
end

--- One cache for each row, of a cache or a list of them.
function M.cache_list(given, n_rows)
  local caches = type(given) == "userdata" and {given} or given
  if type(caches) ~= "table" or #caches ~= n_rows then
    calls.misuse("past_key_values must be a phi3.Cache, or one for each row")
  end
  return caches
end

-- ---- Generating ------------------------------------------------------------------------------------

--- Begins a generation: {run = phi3.Generation, prompt = , config = , cache = , streamer = }.
function M.begin(model, inputs, args)
  if args ~= nil and type(args) ~= "table" then
    calls.misuse("generate(): arguments must be a table, not %s", type(args))
  end
  args = args or {}
  local passed = calls.optional(args.generation_config)
  if passed ~= nil and type(passed) ~= "table" then
    calls.misuse("`generation_config` must be a phi3.GenerationConfig, not %s", type(passed))
  end
  refuse_unsupported(args)
  refuse_streaming_beams(args, passed)
  local config = generation.prepare(model.generation_config, passed, args)
  refuse_unknown(args)
  local wants_timings = calls.optional(args.output_timings)
  config.return_dict_in_generate = config.return_dict_in_generate or wants_timings
  local prompt = read_prompt(inputs, args, config)
  local tokenizer = calls.optional(args.tokenizer)
  local caches = calls.optional(args.past_key_values)
  if caches then
    caches = M.cache_list(caches, #prompt.rows)
  elseif config.return_dict_in_generate and #prompt.rows == 1 then
    caches = {calls.check(core.cache(model.core))}
  end
  local run = calls.check(core.generation(model.core, prompt.rows,
    generation.core_arguments(config, prompt.padding), {
      caches = caches,
      tokenizer = tokenizer and tokenizer.core,
      random = random.default_generator,
      n_threads = calls.optional(args.n_threads),
    }))
  return {
    run = run, prompt = prompt, config = config, wants_timings = wants_timings,
    interrupt = calls.optional(args.interrupt),
    cache = calls.optional(args.past_key_values) or (caches and caches[1]),
    streamer = calls.optional(args.streamer),
  }
end

-- The new tokens of every row, and what was to be recorded of every step.
local function run_to_end(g)
  local record = g.config.return_dict_in_generate
  local scores = record and g.config.output_scores and {} or nil
  local logits = record and g.config.output_logits and {} or nil
  local streamer = g.streamer
  if not scores and not logits and not streamer then
    return calls.check(g.run:run(g.interrupt))
  end
  local rows, done = {}, false
  while not done do
    local tokens
    tokens, done = calls.check(g.run:step(g.interrupt))
    for i, token in ipairs(tokens) do
      rows[i] = rows[i] or {}
      rows[i][#rows[i] + 1] = token
    end
    if scores then
      scores[#scores + 1] = g.run:scores()
    end
    if logits then
      logits[#logits + 1] = g.run:logits()
    end
    if streamer then
      streamer:put(tokens)
    end
  end
  if streamer then
    streamer:finish()
  end
  return rows, scores, logits
end

local function joined(prompt, new_tokens)
  local repeats = #new_tokens / #prompt.padded
  local rows = {}
  for i, new in ipairs(new_tokens) do
    local row = {}
    for j, id in ipairs(prompt.padded[math.floor((i - 1) / repeats) + 1]) do
      row[j] = id
    end
    for _, id in ipairs(new) do
      row[#row + 1] = id
    end
    rows[i] = row
  end
  return rows
end

local function stream_prompt(g)
  local batch = {}
  for i, row in ipairs(g.prompt.padded) do
    batch[i] = row
  end
  g.streamer:put(#batch == 1 and (g.config.num_return_sequences or 1) == 1 and batch[1] or batch)
end

--- Continues one sequence of ids or a batch of them.
--
-- inputs: ids, a list of rows of ids, or what tokenizer(text) returned; nil: BOS alone. args:
-- attention_mask: 0 where a row is padded. past_key_values: a cache (one for each row): what it has in
-- common with the row is not computed again, and it holds the result afterwards. streamer: its
-- put(tokens) gets the prompt, then every token; then finish(). tokenizer: needed for stop_strings.
-- interrupt: a function that is asked at once and every 20 ms whether to stop. output_timings: how many
-- tokens were computed, reused and chosen, in how many seconds. The rest are generation settings.
--
-- Returns the rows with their prompts and new tokens, or {sequences = , scores = , logits = ,
-- past_key_values = , timings = } when return_dict_in_generate or output_timings is set.
function M.generate(model, inputs, args)
  local g = M.begin(model, inputs, args)
  if g.streamer then
    stream_prompt(g)
  end
  local new_tokens, scores, logits = run_to_end(g)
  local timings = g.wants_timings and g.run:timings() or nil
  g.run:close()
  local sequences = joined(g.prompt, new_tokens)
  if not g.config.return_dict_in_generate then
    return sequences
  end
  return {
    sequences = sequences, scores = scores, logits = logits, past_key_values = g.cache,
    timings = timings,
  }
end

return M
