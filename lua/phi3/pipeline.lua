--- pipeline("text-generation", ...): texts and chats in, records with the new text out.
--
-- A call goes through three steps: `preprocess` makes ids of a prompt, `forward` lets the model
-- continue a batch of them, `record` makes what the caller gets of the result.
local core = require "phi3.core"
local call_arguments = require "phi3.call_arguments"
local calls = require "phi3.calls"
local decoding = require "phi3.decoding"
local hub = require "phi3.hub"
local inputs_of = require "phi3.inputs"
local models = require "phi3.model"
local random = require "phi3.random"
local stream = require "phi3.stream"
local tokenizers = require "phi3.tokenizer"

local M = {}

local TASK = "text-generation"

local Pipeline = {__name = "phi3.TextGenerationPipeline"}
Pipeline.__index = Pipeline
Pipeline.task = TASK

-- ---- First step ----------------------------------------------------------------------------------------

-- The end of a prompt that leaves room for what is to come.
local function leave_hole(call, ids)
  local new = calls.optional(call.settings.max_new_tokens)
  if not new then
    new = call.settings.max_length - #ids
    if new < 0 then
      calls.fail("invalid argument", "We cannot infer how many new tokens are expected")
    end
  end
  local room = call.tokenizer.model_max_length - new
  if #ids <= room then
    return ids
  end
  if room <= 0 then
    calls.fail("invalid argument",
      "`hole` cannot help: the number of new tokens exceeds the model's maximum length")
  end
  local rest = {}
  for i = #ids - room + 1, #ids do
    rest[#rest + 1] = ids[i]
  end
  return rest
end

local function chat_ids(call, chat, options)
  options.add_special_tokens = nil
  local continues = inputs_of.continues(chat, call.first.continue_final_message)
  local arguments = calls.copy(options)
  arguments.add_generation_prompt = not continues
  arguments.continue_final_message = continues
  arguments.return_dict = false
  return tokenizers.apply_chat_template(call.tokenizer, chat.messages, arguments)
end

-- A prompt on its way: the ids that the model gets, and what the caller gave.
local function preprocess(call, given)
  local options = {}
  for _, name in ipairs(call_arguments.ENCODING) do
    options[name] = call.first[name]
  end
  for name, value in pairs(call.first.tokenizer_encode_kwargs or {}) do
    options[name] = value
  end
  local ids
  if inputs_of.is_chat(given) then
    ids = chat_ids(call, given, options)
  elseif type(given) == "string" then
    ids = tokenizers.encode(call.tokenizer, (call.first.prefix or "") .. given, options).input_ids
  else
    calls.fail("wrong type", "a prompt must be a string or a chat (a list of tables with 'role' and "
      .. "'content'), not a %s", type(given))
  end
  if call.first.handle_long_generation == "hole" then
    ids = leave_hole(call, ids)
  end
  return {ids = ids, given = given}
end

-- ---- The middle ------------------------------------------------------------------------------------

local function filled(length, value)
  local list = {}
  for i = 1, length do
    list[i] = value
  end
  return list
end

local function forward_padded(call, batch)
  local pad = call.tokenizer.pad_token_id
  if not pad then
    calls.fail("invalid argument", "Pipeline with tokenizer without pad_token cannot do batching: set "
      .. "`pipe.tokenizer.pad_token_id`")
  end
  local width, narrowest = 0, math.huge
  for _, prompt in ipairs(batch) do
    width, narrowest = math.max(width, #prompt.ids), math.min(narrowest, #prompt.ids)
  end
  if width > 0 and narrowest == 0 then
    calls.fail("invalid argument", "an empty prompt cannot be in a batch with others")
  end
  local args = calls.copy(call.generation)
  if width == 0 then
    return decoding.generate(call.model, nil, args)
  end
  local rows, mask = {}, {}
  for i, prompt in ipairs(batch) do
    local gap = width - #prompt.ids
    rows[i], mask[i] = filled(gap, pad), filled(gap, 0)
    for j, id in ipairs(prompt.ids) do
      rows[i][gap + j], mask[i][gap + j] = id, 1
    end
  end
  args.attention_mask = mask
  return decoding.generate(call.model, rows, args)
end

-- The arguments of generate() for one prompt, which gets the pipeline's cache where it keeps one, and
-- what gives the cache back.
local function arguments_of(call, prompt)
  local args = calls.copy(call.generation)
  if #prompt.ids > 0 then
    args.input_ids = {prompt.ids}
    args.attention_mask = {filled(#prompt.ids, 1)}
  end
  if args.past_key_values ~= nil or call.settings.use_cache == false then
    return args, function() end
  end
  local cache = call.pipe:take_cache()
  args.past_key_values = cache
  return args, function()
    call.pipe:put_cache(cache)
  end
end

local function forward(call, batch, padded)
  if #batch > 1 or padded then
    return forward_padded(call, batch)
  end
  local args, give_back = arguments_of(call, batch[1])
  local ok, output = pcall(decoding.generate, call.model, nil, args)
  give_back()
  if not ok then
    error(output, 0)
  end
  return output
end

-- ---- Last step -------------------------------------------------------------------------------------

-- What the caller gets for one sequence, whose first `width` ids are the prompt.
local function record(call, given, sequence, width)
  if call.last.return_tensors ~= nil then
    return {generated_token_ids = sequence}
  end
  local new = {}
  for i = width + 1, #sequence do
    new[i - width] = sequence[i]
  end
  local text = tokenizers.decode(call.tokenizer, new, {
    skip_special_tokens = calls.first(call.last.skip_special_tokens, true),
    clean_up_tokenization_spaces = call.last.clean_up_tokenization_spaces,
  })
  if call.last.return_full_text == false then
    return {generated_text = text}
  end
  if type(given) == "string" then
    return {generated_text = given .. text}
  end
  local messages = {}
  for i, message in ipairs(given.messages) do
    messages[i] = message
  end
  if inputs_of.continues(given, call.last.continue_final_message) then
    local last = table.remove(messages)
    messages[#messages + 1] = {role = last.role, content = last.content .. text}
  else
    messages[#messages + 1] = {role = "assistant", content = text}
  end
  return {generated_text = messages}
end

-- The recorded steps of one sequence, as tables.
local function rows_of(steps, index)
  local rows = {}
  for i, step in ipairs(steps) do
    rows[i] = step[index]:tolist()
  end
  return rows
end

-- Records for each prompt of a batch.
local function run(call, batch, padded)
  local output = forward(call, batch, padded)
  local sequences = output.sequences or output
  local repeats, width = #sequences / #batch, 0
  for _, prompt in ipairs(batch) do
    width = math.max(width, #prompt.ids)
  end
  local results = {}
  for i, sequence in ipairs(sequences) do
    local place = math.floor((i - 1) / repeats) + 1
    local made = record(call, batch[place].given, sequence, width)
    for _, name in ipairs {"scores", "logits"} do
      if output.sequences and output[name] then
        made[name] = rows_of(output[name], i)
      end
    end
    made.timings = output.sequences and output.timings
    results[place] = results[place] or {}
    table.insert(results[place], made)
  end
  return results
end

-- An iterator over the records for each prompt that `next_input` gives, one batch at a time.
local function run_each(call, next_input, batch_size)
  random.default_generator:next() -- torch's DataLoader draws a seed here: seeded runs agree
  local ready, place = {}, 0
  return function()
    place = place + 1
    if ready[place] == nil then
      local batch = {}
      while #batch < batch_size do
        local input = next_input()
        if input == nil then
          break
        end
        batch[#batch + 1] = preprocess(call, input)
      end
      if #batch == 0 then
        return nil
      end
      ready, place = run(call, batch, batch_size > 1), 1
    end
    return ready[place]
  end
end

-- ---- The pipeline -------------------------------------------------------------------------------------

--- pipe(inputs, args): continues a string, a chat (a list of {role = , content = }), a list of either,
-- or a function that gives one after the other, which makes an iterator.
--
-- return_full_text: true, prompt and new text, or the chat with the answer appended; false, the new
-- text alone. return_tensors: `generated_token_ids` in place of the text. continue_final_message: go
-- on with the chat's last message; nil, if it is the assistant's. prefix: goes before prompts that are
-- strings. stop_sequence: one or more strings that end the text. skip_special_tokens (true): how ids
-- become text. truncation, padding, max_length, add_special_tokens, tokenizer_encode_kwargs: how text
-- becomes ids. handle_long_generation = "hole": keep what fits of the prompt's end. batch_size: how
-- many prompts run at once. The rest are generation settings and arguments of generate().
--
-- A string or chat gives a list of num_return_sequences records, anything else a list of such lists.
Pipeline.__call = calls.protect(function(self, inputs, args)
  local call = call_arguments.begin(self, args)
  local batch_size = calls.optional((args or {}).batch_size) or self.batch_size or 1
  if not calls.is_integer(batch_size) or batch_size < 1 then
    calls.fail("invalid argument", "batch_size must be at least 1, but is %s", tostring(batch_size))
  end
  local kind, value = inputs_of.recognise(inputs)
  if kind == "one" then
    return run(call, {preprocess(call, value)})[1]
  end
  local each = run_each(call, value, batch_size)
  if kind == "iterator" then
    return calls.raise(each)
  end
  local results = {}
  for records in each do
    results[#results + 1] = records
  end
  return results
end)

--- for piece in pipe:stream(inputs, args) do ... end: the new text of a string or chat, piece by piece.
--
-- It computes only when it is asked for the next piece. Where it is left, the rest is never computed;
-- stream:close() (Lua 5.4 calls it at the loop's end) gives its memory back at once. Failures are
-- raised, as by io.lines, since a loop has no place to return them to.
Pipeline.stream = calls.raise(function(self, inputs, args)
  local call = call_arguments.begin(self, args)
  local kind, value = inputs_of.recognise(inputs)
  if kind ~= "one" then
    calls.fail("invalid argument", "a stream is of one string or one chat, not of a list")
  end
  if not calls.is_absent(call.generation.streamer) then
    calls.fail("invalid argument", "a stream gives the text itself: leave `streamer` out")
  end
  local arguments, give_back = arguments_of(call, preprocess(call, value))
  local ok, made = pcall(function()
    local skip = calls.first(call.last.skip_special_tokens, true)
    local decoder = calls.check(core.stream_decoder(self.tokenizer.core, skip))
    return stream.new(decoding.begin(call.model, nil, arguments), decoder, give_back)
  end)
  if not ok then
    give_back()
    error(made, 0)
  end
  return made, nil, nil, made
end)

--- The keys and values of the last conversation; none while they are in use.
function Pipeline:take_cache()
  local cache = self.cache
  self.cache = nil
  return cache or (calls.check(core.cache(self.model.core)))
end

--- Keeps a conversation for the next call; nil forgets the last one.
function Pipeline:put_cache(cache)
  if self.cache and self.cache ~= cache then
    self.cache:close()
  end
  self.cache = cache
end

--- Forgets the last conversation and gives its memory back.
function Pipeline:reset()
  self:put_cache(nil)
end

Pipeline.close = Pipeline.reset
Pipeline.__close = Pipeline.reset

function Pipeline:__tostring()
  return ("TextGenerationPipeline(model=%s)"):format(tostring(self.model))
end

-- ---- The factory --------------------------------------------------------------------------------------

local PARTS = calls.set_of {
  "model", "config", "tokenizer", "revision", "token", "use_fast", "device", "device_map", "dtype",
  "torch_dtype", "trust_remote_code", "model_kwargs", "local_files_only",
}

local function check_parts(task, model, tokenizer)
  if task == nil and model == nil then
    calls.fail("invalid argument",
      "Impossible to instantiate a pipeline without a task or a model.")
  end
  if model == nil and tokenizer ~= nil then
    calls.fail("invalid argument",
      "A tokenizer without a model does not make a pipeline: pass `model`.")
  end
  if task == nil and type(model) ~= "string" then
    calls.fail("invalid argument",
      "Inferring the task automatically needs the name of a model: pass 'text-generation'.")
  end
  if task ~= nil and task ~= TASK then
    calls.fail("not found", "Unknown task %s, available tasks are ['%s']", tostring(task), TASK)
  end
  if model ~= nil and type(model) ~= "string" and not models.is_model(model) then
    calls.misuse("pipeline(): `model` must be a name or a model, not %s", type(model))
  end
  if tokenizer ~= nil and type(tokenizer) ~= "string" and not tokenizers.is_tokenizer(tokenizer) then
    calls.misuse("pipeline(): `tokenizer` must be a name or a tokenizer, not %s", type(tokenizer))
  end
end

-- The device asked for, or the CPU where there is no GPU to be device 0, as in transformers.
local function available_device(device)
  if not calls.is_integer(device) or device < 0 then
    return device
  end
  for _, backend in ipairs(core.backends()) do
    if backend.available and backend.name:find("^cuda") then
      return device
    end
  end
  return "cpu"
end

local function load_model(name, options)
  local settings = calls.copy(calls.optional(options.model_kwargs) or {})
  settings.revision = settings.revision or options.revision
  settings.device_map = calls.first(settings.device_map, available_device(options.device),
    options.device_map)
  settings.dtype = calls.first(settings.dtype, options.dtype, options.torch_dtype)
  return models.load(name, settings)
end

--- pipeline(task, options): a pipeline for a task; there is one, "text-generation".
--
-- model, tokenizer: objects or names. model_kwargs go to from_pretrained; any argument of a call is a
-- default for calls. config, use_fast and trust_remote_code have no effect.
M.pipeline = calls.protect(function(task, options)
  if options ~= nil and type(options) ~= "table" then
    calls.misuse("pipeline(): options must be a table, not %s", type(options))
  end
  options = options or {}
  local model, tokenizer = calls.optional(options.model), calls.optional(options.tokenizer)
  check_parts(task, model, tokenizer)
  local defaults = {}
  for name, value in pairs(options) do
    if not PARTS[name] then
      defaults[name] = value
    end
  end
  call_arguments.check(defaults)
  if tokenizer == nil and model ~= nil and type(model) ~= "string" then
    calls.fail("invalid argument", "Impossible to guess which tokenizer to use: pass `tokenizer`, an "
      .. "object or a name.")
  end
  local name = model or hub.DEFAULT_MODEL
  local loaded = type(name) == "string" and load_model(name, options) or name
  local words = tokenizer or name
  if type(words) == "string" then
    words = tokenizers.load(words, {revision = options.revision})
  end
  words.padding_side = "left"
  defaults.num_workers = nil
  local batch_size = calls.optional(defaults.batch_size)
  defaults.batch_size = nil
  return setmetatable(
    {model = loaded, tokenizer = words, defaults = defaults, batch_size = batch_size,
      device = loaded.device, dtype = loaded.dtype}, Pipeline)
end)

return M
