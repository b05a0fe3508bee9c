--- OpenAI's wire format: POST /v1/chat/completions, POST /v1/completions, GET /v1/models.
local fields = require "resty.phi3.fields"
local http = require "resty.phi3.http"
local phi3 = require "resty.phi3"

local M = {}

-- ---- Errors --------------------------------------------------------------------------------------------

local function error_of(problem)
  return {error = {
    message = problem.message,
    type = problem.status < 500 and "invalid_request_error" or "server_error",
    param = problem.param or http.null,
    code = problem.code or http.null,
  }}
end

--- Answers with a problem in OpenAI's shape.
function M.send_problem(problem)
  http.send_json(error_of(problem), problem.status)
end

-- ---- Fields --------------------------------------------------------------------------------------------

local MOST_STOPS, MOST_CHOICES = 16, 16

local SHARED = {
  model = fields.string,
  stream = fields.boolean,
  stream_options = function(name, value)
    return fields.check(fields.object(name, value),
      {include_usage = fields.boolean, include_obfuscation = fields.only(false)}, name)
  end,
  stop = fields.strings(MOST_STOPS),
  seed = fields.integer(-2 ^ 53, 2 ^ 53),
  temperature = fields.number(0, 2),
  top_p = fields.number(0, 1, true),
  max_tokens = fields.integer(1, 2 ^ 31),
  n = fields.integer(1, MOST_CHOICES),
  -- Of other servers, by the names that vLLM and llama.cpp have for them.
  top_k = fields.integer(0, 2 ^ 31),
  min_p = fields.number(0, 1),
  repetition_penalty = fields.number(0, 100, true),
  -- What this server cannot do otherwise.
  frequency_penalty = fields.only(0),
  presence_penalty = fields.only(0),
  logit_bias = fields.only(),
  user = fields.anything,
}

local function with_shared(kinds)
  return setmetatable(kinds, {__index = SHARED})
end

local CHAT = with_shared {
  messages = fields.anything, -- read by read_messages
  max_completion_tokens = fields.integer(1, 2 ^ 31),
  logprobs = fields.only(false),
  top_logprobs = fields.only(0),
  response_format = function(name, value)
    return fields.check(fields.object(name, value), {type = fields.only("text")}, name)
  end,
  tools = fields.only(),
  tool_choice = fields.only("none", "auto"),
  parallel_tool_calls = fields.boolean,
  modalities = function(name, value)
    if type(value) ~= "table" or #value ~= 1 or value[1] ~= "text" then
      fields.refuse(name, "can only be [\"text\"]")
    end
  end,
  metadata = fields.anything, store = fields.anything, service_tier = fields.anything,
  safety_identifier = fields.anything, prompt_cache_key = fields.anything,
}

local TEXT = with_shared {
  prompt = fields.anything, -- read by read_prompts
  echo = fields.only(false),
  suffix = fields.only(""),
  best_of = fields.only(1),
  logprobs = fields.only(),
}

local MESSAGE = {
  role = fields.string, content = fields.anything, name = fields.string, refusal = fields.only(),
  tool_calls = fields.only(), audio = fields.only(), annotations = fields.only(),
}

-- Content is a text or a list of parts, of which only those of text can be read.
local function text_of(name, content)
  if type(content) ~= "table" then
    return fields.string(name, content)
  end
  local texts = {}
  for i, part in ipairs(content) do
    if type(part) ~= "table" or part.type ~= "text" then
      fields.refuse(("%s[%d]"):format(name, i - 1), "is not a text, and texts are all this model reads")
    end
    texts[i] = fields.string(("%s[%d].text"):format(name, i - 1), part.text)
  end
  return table.concat(texts)
end

local function read_messages(body)
  local messages = fields.messages("messages", body.messages, MESSAGE, text_of)
  for _, message in ipairs(messages) do
    if message.role == "developer" then -- what newer models of OpenAI call it
      message.role = "system"
    end
  end
  return {messages}
end

local function check_ids(name, value)
  if type(value) ~= "table" or #value == 0 then
    fields.refuse(name, "must be a list of ids, and not empty")
  end
  for i, id in ipairs(value) do
    fields.integer(0, 2 ^ 31 - 1)(("%s[%d]"):format(name, i - 1), id)
  end
end

-- A text, a list of them, ids, or a list of lists of ids.
local function read_prompts(body)
  local prompt = body.prompt
  local is_list = type(prompt) == "table" and #prompt > 0
  if type(prompt) == "string" or (is_list and type(prompt[1]) == "number") then
    prompt, is_list = {prompt}, true
  end
  if not is_list then
    fields.refuse("prompt", "must be a string, ids, or a list of either, and not empty")
  end
  local kind = type(prompt[1]) == "table" and check_ids or fields.string
  for i, one in ipairs(prompt) do
    kind(("prompt[%d]"):format(i - 1), one)
  end
  return prompt
end

local function check_model(name)
  local worker = http.check(phi3.worker())
  if name and name ~= worker.name then
    http.fail(404, ("the model '%s' does not exist: this server has '%s'"):format(name, worker.name),
      {param = "model", code = "model_not_found"})
  end
  return worker
end

-- phi3's generation arguments. `most`: new tokens when the request does not say.
local function arguments_of(body, most)
  local temperature = body.temperature or 1
  local samples = temperature > 0
  return {
    max_new_tokens = body.max_completion_tokens or body.max_tokens or most,
    do_sample = samples,
    temperature = samples and temperature or nil,
    top_p = samples and (body.top_p or 1) or nil,
    top_k = samples and (body.top_k or 0) or nil,
    min_p = samples and body.min_p or nil,
    repetition_penalty = body.repetition_penalty,
    stop_strings = body.stop,
    seed = body.seed,
  }
end

-- ---- Answers -------------------------------------------------------------------------------------------

local FINISH = {eos = "stop", stop = "stop", length = "length"}

-- One request: its choices, and how they are written.
local function new_answer(body, worker, shape)
  return {
    id = shape.prefix .. ngx.var.request_id, created = ngx.time(), model = worker.name, shape = shape,
    include_usage = body.stream_options and body.stream_options.include_usage,
    usage = {prompt = 0, cached = 0, completion = 0},
  }
end

local function envelope(answer, object, choices)
  return {id = answer.id, object = object, created = answer.created, model = answer.model,
    choices = choices}
end

-- Adds a choice's tokens; n choices share a prompt, which counts once.
local function count(answer, choice)
  local info, usage = choice.stream.info, answer.usage
  usage.completion = usage.completion + info.new_tokens
  if choice.is_first then
    usage.prompt = usage.prompt + info.prompt_tokens
    usage.cached = usage.cached + info.reused_tokens
  end
end

local function usage_of(answer)
  local usage = answer.usage
  return {prompt_tokens = usage.prompt, completion_tokens = usage.completion,
    total_tokens = usage.prompt + usage.completion,
    prompt_tokens_details = {cached_tokens = usage.cached}}
end

-- Starts n requests for every prompt; when one is refused, none stays.
local function start(body, prompts, arguments)
  local choices, n = {}, body.n or 1
  for _, prompt in ipairs(prompts) do
    for draw = 1, n do
      arguments.seed = body.seed and body.seed + draw - 1
      local stream, message, code = phi3.stream(prompt, arguments)
      if not stream then
        for _, choice in ipairs(choices) do
          choice.stream:close()
        end
        http.check(nil, message, code)
      end
      choices[#choices + 1] = {index = #choices, stream = stream, is_first = draw == 1}
    end
  end
  return choices
end

local function send_whole(answer, choices)
  local list = {}
  for i, choice in ipairs(choices) do
    local pieces = {}
    repeat
      local piece, message, code = choice.stream:next()
      http.check(piece, message, code)
      pieces[#pieces + 1] = piece
    until not piece
    count(answer, choice)
    list[i] = answer.shape.whole(table.concat(pieces))
    list[i].index = choice.index
    list[i].finish_reason = FINISH[choice.stream.finish_reason]
    list[i].logprobs = http.null
  end
  local whole = envelope(answer, answer.shape.object, list)
  whole.usage = usage_of(answer)
  http.send_json(whole)
end

local function send_event(value, empty)
  return http.send_piece("data: ", http.encode(value, empty), "\n\n")
end

local function send_part(answer, choice, part, finish_reason)
  part.index = choice.index
  part.finish_reason = finish_reason or http.null
  part.logprobs = http.null
  local chunk = envelope(answer, answer.shape.part_object, {part})
  chunk.usage = answer.include_usage and http.null or nil
  return send_event(chunk)
end

-- Sends the parts of one choice. `piece` is its first, which has come before the header was sent.
local function send_parts(answer, choice, piece)
  local shape, stream = answer.shape, choice.stream
  local goes_on = not shape.opening or send_part(answer, choice, shape.opening())
  local message, code
  while piece and goes_on do
    goes_on = send_part(answer, choice, shape.part(piece))
    if goes_on then
      piece, message, code = stream:next()
    end
  end
  stream:close() -- at the latest when the client has gone
  if message then
    local ok, problem = pcall(http.check, nil, message, code)
    send_event(error_of(http.problem_of(not ok and problem)))
  elseif goes_on then
    count(answer, choice)
    send_part(answer, choice, shape.part(nil), FINISH[stream.finish_reason])
  end
end

-- Streams all choices at once, each from a thread of its own. What fails before there is any text is
-- an ordinary error.
local function send_stream(answer, choices)
  for _, choice in ipairs(choices) do
    local message, code
    choice.first, message, code = choice.stream:next()
    http.check(choice.first, message, code)
  end
  http.begin_stream("text/event-stream; charset=utf-8")
  local threads = {}
  for i = 2, #choices do
    threads[#threads + 1] = ngx.thread.spawn(send_parts, answer, choices[i], choices[i].first)
  end
  send_parts(answer, choices[1], choices[1].first)
  for _, thread in ipairs(threads) do
    ngx.thread.wait(thread)
  end
  if answer.include_usage then
    local last = envelope(answer, answer.shape.part_object)
    last.usage = usage_of(answer)
    send_event(last, "choices")
  end
  http.send_piece("data: [DONE]\n\n")
end

local function complete(kinds, read_input, shape)
  local body = http.read_json()
  local worker = check_model(type(body.model) == "string" and body.model or nil)
  body = fields.check(body, kinds)
  if body.stream_options and not body.stream then
    fields.refuse("stream_options", "is only for stream = true")
  end
  local choices = start(body, read_input(body), arguments_of(body, shape.most or worker.max_length))
  local send = body.stream and send_stream or send_whole
  local ok, reason = pcall(send, new_answer(body, worker, shape), choices)
  for _, choice in ipairs(choices) do
    choice.stream:close()
  end
  if not ok then
    error(reason, 0)
  end
end

-- ---- Routes --------------------------------------------------------------------------------------------

local CHAT_SHAPE = {
  prefix = "chatcmpl-", object = "chat.completion", part_object = "chat.completion.chunk",
  whole = function(text)
    return {message = {role = "assistant", content = text, refusal = http.null}}
  end,
  opening = function()
    return {delta = {role = "assistant", content = ""}}
  end,
  part = function(piece)
    return {delta = piece and {content = piece} or {}}
  end,
}

local TEXT_SHAPE = {
  prefix = "cmpl-", object = "text_completion", part_object = "text_completion",
  most = 16, -- OpenAI's default for this route
  whole = function(text)
    return {text = text}
  end,
  part = function(piece)
    return {text = piece or ""}
  end,
}

function M.chat_completions()
  complete(CHAT, read_messages, CHAT_SHAPE)
end

function M.completions()
  complete(TEXT, read_prompts, TEXT_SHAPE)
end

local function describe(worker)
  return {id = worker.name, object = "model", created = worker.started, owned_by = "phi3"}
end

function M.models()
  http.send_json {object = "list", data = {describe(http.check(phi3.worker()))}}
end

function M.model(name)
  http.send_json(describe(check_model(name)))
end

return M
