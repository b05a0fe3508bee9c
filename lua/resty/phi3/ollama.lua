--- Ollama's wire format: POST /api/chat, /api/generate, /api/show, GET /api/tags, /api/version, /api/ps.
--
-- Where Ollama has a default that is a matter of taste (temperature 0.8, top_k 40, top_p 0.9) it is
-- kept; repeat_penalty is off unless asked for, and counts every token, prompt included.
local fields = require "resty.phi3.fields"
local http = require "resty.phi3.http"
local phi3 = require "resty.phi3"

local M = {}

--- Answers with a problem in Ollama's shape.
function M.send_problem(problem)
  http.send_json({error = problem.message}, problem.status)
end

-- ---- Fields --------------------------------------------------------------------------------------------

local OPTIONS = {
  num_predict = fields.integer(-1, 2 ^ 31), -- -1: as long as it goes
  temperature = fields.number(0, 2),
  top_k = fields.integer(0, 2 ^ 31),
  top_p = fields.number(0, 1, true),
  min_p = fields.number(0, 1),
  seed = fields.integer(-2 ^ 53, 2 ^ 53),
  stop = fields.strings(16),
  repeat_penalty = fields.number(0, 100, true),
  repeat_last_n = fields.only(-1),
  presence_penalty = fields.only(0),
  frequency_penalty = fields.only(0),
  typical_p = fields.only(1),
  tfs_z = fields.only(1),
  mirostat = fields.only(0),
  num_ctx = fields.integer(1, 2 ^ 31),
  -- How Ollama's runner works, not what it answers.
  num_keep = fields.anything, num_batch = fields.anything, num_gpu = fields.anything,
  main_gpu = fields.anything, num_thread = fields.anything, numa = fields.anything,
  use_mmap = fields.anything, use_mlock = fields.anything, low_vram = fields.anything,
  f16_kv = fields.anything, vocab_only = fields.anything, penalize_newline = fields.anything,
  mirostat_tau = fields.anything, mirostat_eta = fields.anything,
}

local SHARED = {
  model = fields.string,
  stream = fields.boolean,
  options = function(name, value)
    return fields.check(fields.object(name, value), OPTIONS, name)
  end,
  format = fields.only(""),
  keep_alive = fields.anything, -- the model always stays
  think = fields.only(false),
}

local CHAT = setmetatable({messages = fields.anything, tools = fields.only()}, {__index = SHARED})

local GENERATE = setmetatable({
  prompt = fields.string, system = fields.string, raw = fields.boolean, suffix = fields.only(""),
  images = fields.only(), template = fields.only(""), context = fields.only(),
}, {__index = SHARED})

local MESSAGE = {
  role = fields.string, content = fields.string, images = fields.only(), tool_calls = fields.only(),
  thinking = fields.only(""),
}

local function check_model(name)
  local worker = http.check(phi3.worker())
  if not name then
    http.fail(400, "'model' is missing")
  end
  if name ~= worker.name and name ~= worker.name .. ":latest" then
    http.fail(404, ("model '%s' not found: this server has '%s'"):format(name, worker.name))
  end
  return worker
end

-- phi3's generation arguments.
local function arguments_of(worker, options)
  if options.num_ctx and options.num_ctx > worker.max_length then
    fields.refuse("num_ctx", "is more than this server's max_length, %d", worker.max_length)
  end
  local temperature = options.temperature or 0.8
  local samples, most = temperature > 0, options.num_predict or -1
  if most == 0 then
    fields.refuse("num_predict", "must be positive, or -1")
  end
  return {
    max_new_tokens = most > 0 and most or worker.max_length,
    do_sample = samples,
    temperature = samples and temperature or nil,
    top_p = samples and (options.top_p or 0.9) or nil,
    top_k = samples and (options.top_k or 40) or nil,
    min_p = samples and options.min_p or nil,
    repetition_penalty = options.repeat_penalty or 1,
    stop_strings = options.stop,
    seed = options.seed and options.seed >= 0 and options.seed or nil,
  }
end

-- ---- Answers -------------------------------------------------------------------------------------------

-- RFC 3339 in UTC, to the microsecond.
local function now()
  local time = ngx.now()
  return os.date("!%Y-%m-%dT%H:%M:%S", math.floor(time)) .. ("%.6fZ"):format(time % 1):sub(2)
end

local function nanoseconds(seconds)
  return math.floor(seconds * 1e9 + 0.5)
end

local function line_of(model, shape, piece)
  local line = shape(piece)
  line.model, line.created_at, line.done = model, now(), false
  return line
end

-- The last line: why it ended, and what it took.
local function last_line(model, shape, stream, piece)
  local info, line = stream.info, line_of(model, shape, piece)
  line.done = true
  line.done_reason = stream.finish_reason == "length" and "length" or "stop"
  line.load_duration = 0
  line.prompt_eval_count = info.prompt_tokens
  line.prompt_eval_duration = nanoseconds(info.prompt_seconds)
  line.eval_count = info.new_tokens
  line.eval_duration = nanoseconds(info.decode_seconds)
  line.total_duration = nanoseconds(info.queue_seconds + info.prompt_seconds + info.decode_seconds)
  return line
end

local function send_whole(model, shape, stream)
  local pieces = {}
  repeat
    local piece, message, code = stream:next()
    http.check(piece, message, code)
    pieces[#pieces + 1] = piece
  until not piece
  http.send_json(last_line(model, shape, stream, table.concat(pieces)))
end

local function send_line(line)
  return http.send_piece(http.encode(line), "\n")
end

-- What fails before there is any text is an ordinary error.
local function send_stream(model, shape, stream)
  local piece, message, code = stream:next()
  http.check(piece, message, code)
  http.begin_stream("application/x-ndjson")
  local goes_on = true
  while piece and goes_on do
    goes_on = send_line(line_of(model, shape, piece))
    if goes_on then
      piece, message, code = stream:next()
    end
  end
  stream:close() -- at the latest when the client has gone
  if message then
    ngx.log(ngx.WARN, "phi3: ", message, " (", code, ")")
    send_line {error = message}
  elseif goes_on then
    send_line(last_line(model, shape, stream, ""))
  end
end

local function answer(worker, body, shape, prompt)
  local arguments = arguments_of(worker, body.options or {})
  local stream = http.check(phi3.stream(prompt, arguments))
  local send = body.stream == false and send_whole or send_stream
  local ok, reason = pcall(send, body.model, shape, stream)
  stream:close()
  if not ok then
    error(reason, 0)
  end
end

-- A request without a prompt asks Ollama to load the model: it is.
local function say_loaded(body, shape)
  local line = line_of(body.model, shape, "")
  line.done, line.done_reason = true, "load"
  http.send_json(line)
end

-- ---- Routes --------------------------------------------------------------------------------------------

local function read(kinds)
  local body = http.read_json()
  local worker = check_model(type(body.model) == "string" and body.model or nil)
  return fields.check(body, kinds), worker
end

local function chat_shape(piece)
  return {message = {role = "assistant", content = piece}}
end

function M.chat()
  local body, worker = read(CHAT)
  if not body.messages or (type(body.messages) == "table" and next(body.messages) == nil) then
    return say_loaded(body, chat_shape)
  end
  answer(worker, body, chat_shape, fields.messages("messages", body.messages, MESSAGE, fields.string))
end

local function generate_shape(piece)
  return {response = piece}
end

function M.generate()
  local body, worker = read(GENERATE)
  if not body.prompt or body.prompt == "" then
    return say_loaded(body, generate_shape)
  end
  local prompt = body.prompt
  if not body.raw then
    prompt = {{role = "user", content = body.prompt}}
    if body.system and body.system ~= "" then
      table.insert(prompt, 1, {role = "system", content = body.system})
    end
  end
  answer(worker, body, generate_shape, prompt)
end

local function details_of(worker)
  local config = worker.model.config
  return {
    parent_model = "", format = worker.model.name_or_path:find("%.gguf$") and "gguf" or "safetensors",
    family = config.model_type, families = {config.model_type},
    parameter_size = ("%.1fM"):format(config.n_parameters / 1e6),
    quantization_level = config.dtype:upper(),
  }
end

local function describe(worker)
  local name = worker.name .. ":latest"
  return {name = name, model = name, size = worker.model.config.weight_bytes,
    details = details_of(worker)}
end

function M.tags()
  http.send_json {models = {describe(http.check(phi3.worker()))}}
end

function M.ps()
  local worker = http.check(phi3.worker())
  local model = describe(worker)
  model.size_vram = 0
  model.context_length = worker.max_length
  http.send_json {models = {model}}
end

function M.show()
  local body = http.read_json()
  local worker = check_model(body.model or body.name)
  fields.check(body, {model = fields.string, name = fields.string, verbose = fields.boolean,
    system = fields.string, template = fields.string, options = fields.object})
  local config, family = worker.model.config, worker.model.config.model_type
  http.send_json {
    modelfile = "FROM " .. worker.model.name_or_path,
    parameters = "",
    template = worker.tokenizer.chat_template or "",
    details = details_of(worker),
    model_info = {
      ["general.architecture"] = family,
      ["general.parameter_count"] = config.n_parameters,
      [family .. ".block_count"] = config.num_hidden_layers,
      [family .. ".context_length"] = config.max_position_embeddings,
      [family .. ".embedding_length"] = config.hidden_size,
      [family .. ".feed_forward_length"] = config.intermediate_size,
      [family .. ".attention.head_count"] = config.num_attention_heads,
      [family .. ".attention.head_count_kv"] = config.num_key_value_heads,
    },
    capabilities = {"completion"},
  }
end

function M.version()
  http.send_json {version = phi3._VERSION}
end

return M
