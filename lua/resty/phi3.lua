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
local engines = require "phi3.engine"
local phi3 = require "phi3"

local M = {_VERSION = phi3._VERSION}

-- ---- Waiting -------------------------------------------------------------------------------------------

local FOREVER = 2 ^ 31 - 1 -- milliseconds: a request may stand in the queue for long

local function connect(stream)
  local socket = ngx.socket.tcp()
  socket:settimeouts(10000, 10000, FOREVER)
  local ok, message = socket:connect("unix:" .. stream.engine.core:socket_path())
  if ok then
    ok, message = socket:send(("%d\n"):format(stream.core:id()))
  end
  if not ok then
    return nil, "phi3's thread cannot be reached: " .. tostring(message), "interrupted"
  end
  stream.socket = socket
  return true
end

-- Sleeps on a cosocket until there is news.
local function wait(stream)
  if not stream.socket then
    local ok, message, code = connect(stream)
    if not ok then
      return nil, message, code
    end
  end
  local bytes, message = stream.socket:receiveany(64)
  if not bytes and message ~= "timeout" then
    return nil, "phi3's thread has gone: " .. tostring(message), "interrupted"
  end
  return true
end

local function disconnect(stream)
  if stream.socket then
    stream.socket:close()
    stream.socket = nil
  end
end

-- ---- The worker's model -------------------------------------------------------------------------------

local DEFAULT_MAX_LENGTH = 4096

local worker = {failure = {"phi3 has no model in this worker: call init_worker{model = ...} in "
  .. "init_worker_by_lua", "not found"}}

local OPTIONS = calls.set_of {
  "model", "name", "n_slots", "queue", "max_length", "n_threads", "device_map", "max_memory", "dtype",
  "compute_dtype", "kv_cache_dtype", "quantization", "packed_dir",
}

-- A fair share of the cores: each worker computes with as many threads.
local function threads_per_worker()
  return math.max(1, math.floor(core.default_threads() / ngx.worker.count()))
end

local function load(options)
  options = calls.check_options("init_worker()", options, OPTIONS)
  local model = calls.check(phi3.AutoModelForCausalLM.from_pretrained(options.model, {
    device_map = options.device_map, max_memory = options.max_memory,
    dtype = options.dtype, compute_dtype = options.compute_dtype,
    kv_cache_dtype = options.kv_cache_dtype, quantization = options.quantization,
    packed_dir = options.packed_dir, n_threads = options.n_threads or threads_per_worker(),
  }))
  local positions = model.config.max_position_embeddings
  local max_length = math.min(options.max_length or DEFAULT_MAX_LENGTH, positions)
  local engine = engines.new {
    model = model, n_slots = options.n_slots, queue = options.queue, max_length = max_length,
    wait = wait, on_close = disconnect,
  }
  engine.seeds = calls.check(core.random()) -- each worker its own: forks must not repeat each other
  return {
    name = options.name or options.model:match("[^/]+$"), started = ngx.time(),
    model = model, tokenizer = engine.tokenizer, engine = engine, max_length = max_length,
  }
end

--- Loads the worker's model and starts its thread. To be called in init_worker_by_lua, once.
--
-- model: as for from_pretrained. name: what clients call it (the last part of `model`). n_slots: how
-- many requests are generated together (4). queue: how many more may wait (64). max_length: tokens of
-- a prompt and its answer together (4096), which bounds the memory: n_slots * max_length tokens of KV
-- cache. n_threads: this worker's share of the cores, unless given. packed_dir: a directory for packed
-- weights, by way of which the workers share their memory; else each has its own. Also device_map,
-- max_memory, dtype, compute_dtype, kv_cache_dtype and quantization of from_pretrained.
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

-- ---- Calls ---------------------------------------------------------------------------------------------

--- Answers messages, or continues a text or ids: a stream of pieces. `args` are the generation
-- arguments of phi3 by their names, and `seed`. A stop string is not part of the text.
--
-- stream:next() is the iterator's step for those who want nil, message, code; stream.finish_reason
-- ("eos", "stop", "length") and stream.info (token counts and times) are there at the end;
-- stream:close() cancels.
function M.stream(input, args)
  if worker.failure then
    return nil, worker.failure[1], worker.failure[2]
  end
  return worker.engine:submit(input, args)
end

--- The whole answer: {text = , finish_reason = , info = }.
function M.chat(input, args)
  local stream, message, code = M.stream(input, args)
  local text = stream
  if stream then
    text, message, code = stream:text()
  end
  if not text then
    return nil, message, code
  end
  return {text = text, finish_reason = stream.finish_reason, info = stream.info}
end

return M
