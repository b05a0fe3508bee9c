--- phi3.Engine: many callers, one model. A thread of the library generates for all of them together.
--
--     local engine = assert(phi3.Engine {model = "smollm2-135m", n_slots = 8})
--     local first = assert(engine:submit({{role = "user", content = "Hello!"}}, {seed = 1}))
--     local second = assert(engine:submit("Once upon a time", {max_new_tokens = 50}))
--     for piece in first do io.write(piece) end
--     print(assert(second:text()))
--
-- What a request gets does not depend on its company: it is what it would get alone for its seed. But
-- on CUDA, whose tensor cores take many rows another way than few.
-- resty.phi3 is the same for nginx, where a request sleeps without blocking its worker.
local core = require "phi3.core"
local calls = require "phi3.calls"
local generation = require "phi3.generation"
local models = require "phi3.model"
local random = require "phi3.random"
local tokenizers = require "phi3.tokenizer"

local M = {}

-- ---- Requests --------------------------------------------------------------------------------------------

local Request = {__name = "phi3.Request"}
Request.__index = Request

--- Ends a request: one that still runs is cancelled. What came of it, `info`, stays.
function Request:close()
  if not self.core then
    return
  end
  self.info = self.core:info()
  self.core:close()
  self.core = nil
  if self.on_close then
    self:on_close()
  end
end

Request.__close = Request.close

-- Sleeps until there is news, or a signal has come.
local function wait(self)
  return self.core:wait()
end

--- The next piece of text, nil at the end, or nil, message, code. Waits until there is one.
function Request:next()
  while self.core do
    local text, reason, ids = self.core:take()
    if not text then
      self:close()
      return nil, reason, ids
    end
    if reason then
      self.finish_reason = reason
      self:close()
    end
    if text ~= "" then
      return text
    end
    if self.core then
      local ok, message, code = self:wait()
      if not ok then
        self:close()
        return nil, message, code
      end
    end
  end
  return nil
end

--- for piece in request: a failure is raised, as io.lines does.
function Request:__call()
  local piece, message = self:next()
  if message then
    error(message, 2)
  end
  return piece
end

--- The rest of the text at once, or nil, message, code.
function Request:text()
  local pieces, piece, message, code = {}
  repeat
    piece, message, code = self:next()
    pieces[#pieces + 1] = piece
  until not piece
  if message then
    return nil, message, code
  end
  return table.concat(pieces)
end

-- ---- Submitting ------------------------------------------------------------------------------------------

-- What holds where neither the call nor the model's files say anything, as in a pipeline.
local DEFAULTS = {max_new_tokens = 256, do_sample = true, temperature = 0.7}

local ARGUMENTS = calls.set_of(calls.keys(generation.FIELDS), {"seed"})

-- The generation config of a call.
local function settings_of(model, args)
  local own, given = model.generation_config, {}
  for name, value in pairs(DEFAULTS) do
    if own[name] == nil then
      given[name] = value
    end
  end
  if calls.optional(args.max_length) ~= nil then
    given.max_new_tokens = nil
  end
  for name, value in pairs(args) do
    given[name] = value
  end
  given.seed = nil
  if calls.first(given.do_sample, own.do_sample) ~= true and args.temperature == nil then
    given.temperature = nil
  end
  return generation.core_arguments(generation.prepare(own, nil, given), 0)
end

local function seed_of(self, args)
  local seed = calls.optional(args.seed)
  if seed ~= nil and not calls.is_integer(seed) then
    calls.misuse("submit(): `seed` must be an integer, not %s", tostring(seed))
  end
  return seed or math.floor(self.seeds:next() / 2 ^ 32) -- the upper bits, which a double can hold
end

-- The prompt of messages or ids or a text, and whether it lacks the tokenizer's own special tokens.
local function prompt_of(tokenizer, input)
  if type(input) == "string" or (type(input) == "table" and type(input[1]) == "number") then
    return input, true
  end
  local last = type(input) == "table" and input[#input]
  local continues = type(last) == "table" and last.role == "assistant"
  local text = tokenizers.apply_chat_template(tokenizer, input, {
    tokenize = false, add_generation_prompt = not continues, continue_final_message = continues,
  })
  return text, false
end

local function submit(self, input, args)
  args = calls.check_options("submit()", args, ARGUMENTS)
  local prompt, add_special_tokens = prompt_of(self.tokenizer, input)
  local request = calls.check(self.core:submit(prompt, settings_of(self.model, args), {
    seed = seed_of(self, args), add_special_tokens = add_special_tokens,
  }))
  return setmetatable({engine = self, core = request, wait = self.wait, on_close = self.on_close},
    Request)
end

-- ---- Engines ---------------------------------------------------------------------------------------------

local Engine = {__name = "phi3.Engine"}
Engine.__index = Engine

--- Puts messages, a text or ids into the queue: a request, or nil, message, code; the code
-- "queue full" says to come back later. `args` are the generation arguments by their names, and
-- `seed`, of the request's own random numbers. A stop string is not part of the text.
Engine.submit = calls.protect(submit)

--- Counts since the start (requests, tokens, seconds) and what is held now.
function Engine:stats()
  return self.core:stats()
end

--- Stops the requests that have not ended, and the thread.
function Engine:close()
  self.core:close()
end

Engine.__close = Engine.close

local OPTIONS = calls.set_of {
  "model", "tokenizer", "n_slots", "queue", "max_length", "n_threads", "wait", "on_close",
}

--- Inside: makes an engine. `wait` and `on_close`: how a request waits for news, and what it does when
-- it ends, where a descriptor is not the way.
function M.new(options)
  options = calls.check_options("Engine()", options, OPTIONS)
  local model, tokenizer = options.model, options.tokenizer
  if not models.is_model(model) then
    model = models.load(model, {})
  end
  if not tokenizers.is_tokenizer(tokenizer) then
    tokenizer = tokenizers.load(tokenizer or model.name_or_path, {})
  end
  local handle = calls.check(core.engine(model.core, tokenizer.core, {
    n_slots = options.n_slots, n_queue = options.queue, max_length = options.max_length,
    n_threads = options.n_threads,
  }))
  return setmetatable({
    core = handle, model = model, tokenizer = tokenizer, seeds = random.default_generator,
    wait = options.wait or wait, on_close = options.on_close,
  }, Engine)
end

--- phi3.Engine{model = , ...}: generates for many requests together.
--
-- model, tokenizer: objects or names. n_slots: how many requests are generated together (4). queue:
-- how many more may wait (64). max_length: tokens that a prompt and its answer may have together,
-- which bounds the memory of the slots; as many as the model takes, unless given. n_threads: as the
-- model was loaded, unless given.
M.Engine = calls.protect(M.new)

return M
