--- resty.phi3: phi3 inside nginx, without blocking a worker.
--
--     init_worker_by_lua_block { require("resty.phi3").init_worker {model = "smollm2-135m"} }
--
--     content_by_lua_block {
--       local phi3 = require "resty.phi3"
--       local stream = assert(phi3.stream({{role = "user", content = "Hello!"}}, {temperature = 0.5}))
--       for piece in stream do
--         ngx.print(piece)
--         ngx.flush(true)
--       end
--     }
--
-- A thread of the library generates, for all requests of the worker together; a request sleeps on a
-- cosocket until there is something for it. When nginx closes the socket, because the client has gone
-- away, the generation stops with its next step.
--
-- What can happen returns nil, a message and a code, as in phi3; the code "queue full" says to come
-- back later.
--
-- @module resty.phi3

local calls = require "phi3.calls"
local core = require "phi3.core"
local generation = require "phi3.generation"
local phi3 = require "phi3"

local M = {_VERSION = phi3._VERSION}

-- ---- The worker's model -------------------------------------------------------------------------------

local DEFAULT_MAX_LENGTH = 4096

local worker = {failure = {"phi3 has no model in this worker: call init_worker{model = ...} in "
  .. "init_worker_by_lua", "not found"}}

local OPTIONS = calls.set_of {
  "model", "name", "n_slots", "queue", "max_length", "n_threads", "device_map", "dtype",
  "compute_dtype", "kv_cache_dtype",
}

-- A fair share of the cores: each worker computes with as many threads.
local function threads_per_worker()
  return math.max(1, math.floor(core.default_threads() / ngx.worker.count()))
end

local function load(options)
  options = calls.check_options("init_worker()", options, OPTIONS)
  local model = calls.check(phi3.AutoModelForCausalLM.from_pretrained(options.model, {
    device_map = options.device_map, dtype = options.dtype, compute_dtype = options.compute_dtype,
    kv_cache_dtype = options.kv_cache_dtype, n_threads = options.n_threads or threads_per_worker(),
  }))
  local tokenizer = calls.check(phi3.AutoTokenizer.from_pretrained(options.model))
  local positions = model.config.max_position_embeddings
  local max_length = math.min(options.max_length or DEFAULT_MAX_LENGTH, positions)
  local engine = calls.check(core.engine(model.core, tokenizer.core, {
    n_slots = options.n_slots, n_queue = options.queue, max_length = max_length,
  }))
  return {
    name = options.name or options.model:match("[^/]+$"),
    model = model, tokenizer = tokenizer, engine = engine, max_length = max_length,
    started = ngx.time(),
    seeds = calls.check(core.random()), -- each worker its own: forks must not repeat each other
  }
end

--- Loads the worker's model and starts its thread. To be called in init_worker_by_lua, once.
--
-- model: as for from_pretrained. name: what clients call it (the last part of `model`). n_slots: how
-- many requests are generated together (4). queue: how many more may wait (64). max_length: tokens of
-- a prompt and its answer together (4096), which bounds the memory: n_slots * max_length tokens of KV
-- cache. n_threads: this worker's share of the cores, unless given. Also device_map, dtype,
-- compute_dtype and kv_cache_dtype of from_pretrained.
--
-- Returns true, or nil, message, code, which is logged and is what later calls return.
function M.init_worker(options)
  local phase = ngx.get_phase()
  if phase ~= "init_worker" then
    error("phi3.init_worker() belongs in init_worker_by_lua, not in " .. phase .. "_by_lua: a worker is"
      .. " a fork, and cannot use what was loaded before it", 2)
  end
  if type(options) ~= "table" or type(options.model) ~= "string" then
    error("phi3.init_worker{model = ...}: the name of a model expected", 2)
  end
  local loaded, message, code = calls.protect(load)(options)
  if not loaded then
    worker = {failure = {message, code}}
    ngx.log(ngx.ERR, "phi3 could not load ", options.model, ": ", message)
    return nil, message, code
  end
  worker = loaded
  return true
end

--- What this worker serves: {name, model, tokenizer, engine, max_length}; nil, message, code when it
-- has no model.
function M.worker()
  if worker.failure then
    return nil, worker.failure[1], worker.failure[2]
  end
  return worker
end

-- ---- Streams -------------------------------------------------------------------------------------------

local FOREVER = 2 ^ 31 - 1 -- milliseconds: a request may stand in the queue for long

local Stream = {}
Stream.__index = Stream

local function connect(self)
  local socket = ngx.socket.tcp()
  socket:settimeouts(10000, 10000, FOREVER)
  local ok, message = socket:connect("unix:" .. self.engine:socket_path())
  if ok then
    ok, message = socket:send(("%d\n"):format(self.request:id()))
  end
  if not ok then
    return nil, "phi3's thread cannot be reached: " .. tostring(message)
  end
  self.socket = socket
  return true
end

-- Sleeps until there is news.
local function wait(self)
  if not self.socket then
    local ok, message = connect(self)
    if not ok then
      return nil, message
    end
  end
  local bytes, message = self.socket:receiveany(64)
  if not bytes and message ~= "timeout" then
    return nil, "phi3's thread has gone: " .. tostring(message)
  end
  return true
end

--- Ends the stream: a generation that still runs is cancelled. `info` stays.
function Stream:close()
  if not self.request then
    return
  end
  self.info = self.request:info()
  self.request:close()
  self.request = nil
  if self.socket then
    self.socket:close()
    self.socket = nil
  end
end

--- The next piece of text, nil at the end, or nil, message, code. Sleeps until there is one.
function Stream:next()
  while self.request do
    local text, reason, ids = self.request:take()
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
    if self.request then
      local ok, message = wait(self)
      if not ok then
        self:close()
        return nil, message, "interrupted"
      end
    end
  end
  return nil
end

--- for piece in stream: a failure is raised.
function Stream:__call()
  local piece, message = self:next()
  if message then
    error(message, 2)
  end
  return piece
end

-- ---- Calls ---------------------------------------------------------------------------------------------

-- What holds where neither the call nor the model's files say anything, as in a pipeline.
local DEFAULTS = {max_new_tokens = 256, do_sample = true, temperature = 0.7}

local ARGUMENTS = calls.set_of(calls.keys(generation.FIELDS), {"seed"})

-- The generation config of a call.
local function settings_of(args)
  local own, given = worker.model.generation_config, {}
  for name, value in pairs(DEFAULTS) do
    if own[name] == nil then
      given[name] = value
    end
  end
  for name, value in pairs(args) do
    given[name] = value
  end
  given.seed = nil
  if given.do_sample == false and args.temperature == nil then
    given.temperature = nil
  end
  local config = generation.core_arguments(generation.prepare(own, nil, given), 0)
  config.num_return_sequences = nil
  return config
end

local function seed_of(args)
  local seed = calls.optional(args.seed)
  if seed ~= nil and not calls.is_integer(seed) then
    calls.misuse("seed must be an integer, not %s", tostring(seed))
  end
  return seed or math.floor(worker.seeds:next() / 2 ^ 32)
end

-- The prompt of messages or ids or a text, and whether it lacks the tokenizer's own special tokens.
local function prompt_of(input)
  if type(input) == "string" or (type(input) == "table" and type(input[1]) == "number") then
    return input, true
  end
  local last = type(input) == "table" and input[#input]
  local continues = type(last) == "table" and last.role == "assistant"
  local text = calls.check(worker.tokenizer:apply_chat_template(input, {
    tokenize = false, add_generation_prompt = not continues, continue_final_message = continues,
  }))
  return text, false
end

local function start(input, args)
  if worker.failure then
    calls.fail(worker.failure[2], "%s", worker.failure[1])
  end
  args = calls.check_options("stream()", args, ARGUMENTS)
  local prompt, add_special_tokens = prompt_of(input)
  local request = calls.check(worker.engine:submit(prompt, settings_of(args), {
    seed = seed_of(args), add_special_tokens = add_special_tokens,
  }))
  return setmetatable({engine = worker.engine, request = request}, Stream)
end

--- Answers messages, or continues a text or ids: a stream of pieces. `args` are the generation
-- arguments of phi3 by their names, and `seed`. A stop string is not part of the text.
--
-- stream:next() is the iterator's step for those who want nil, message, code; stream.finish_reason
-- ("eos", "stop", "length") and stream.info (token counts and times) are there at the end;
-- stream:close() cancels.
M.stream = calls.protect(start)

--- The whole answer: {text = , finish_reason = , info = }.
function M.chat(input, args)
  local stream, message, code = M.stream(input, args)
  if not stream then
    return nil, message, code
  end
  local pieces, piece = {}
  repeat
    piece, message, code = stream:next()
    pieces[#pieces + 1] = piece
  until not piece
  if message then
    return nil, message, code
  end
  return {text = table.concat(pieces), finish_reason = stream.finish_reason, info = stream.info}
end

return M
