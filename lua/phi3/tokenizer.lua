--- Tokenizers: text to ids and back, by transformers' names.
local core = require "phi3.core"
local calls = require "phi3.calls"
local hub = require "phi3.hub"
local shaping = require "phi3.shaping"

local M = {}

local ROLES = {"bos_token", "eos_token", "unk_token", "pad_token"}

local Tokenizer = {__name = "phi3.PreTrainedTokenizer"}
local methods = {}

function M.is_tokenizer(value)
  return getmetatable(value) == Tokenizer
end

-- ---- Attributes ----------------------------------------------------------------------------------

-- Attributes that are computed when they are asked for.
local attributes = {}

function attributes.vocab_size(self)
  return self.core:vocab_size()
end

function attributes.special_tokens_map(self)
  local map = {}
  for _, role in ipairs(ROLES) do
    map[role] = self[role]
  end
  return map
end

function attributes.all_special_tokens(self)
  local tokens, seen = {}, {}
  local function add(token)
    if token and not seen[token] then
      seen[token] = true
      tokens[#tokens + 1] = token
    end
  end
  for _, role in ipairs(ROLES) do
    add(self[role])
  end
  for _, token in ipairs(self.additional_special_tokens) do
    add(token)
  end
  return tokens
end

function attributes.all_special_ids(self)
  return methods.convert_tokens_to_ids(self, self.all_special_tokens)
end

function attributes.added_tokens_encoder(self)
  local encoder = {}
  for _, token in ipairs(self.core:added_tokens()) do
    encoder[token.content] = token.id
  end
  return encoder
end

-- bos_token_id and the like, and bos_token and the like, their spelling. Both can be set: the C
-- tokenizer does not need to know.
for _, role in ipairs(ROLES) do
  attributes[role .. "_id"] = function(self)
    return rawget(self, "special_ids")[role]
  end
  attributes[role] = function(self)
    local id = rawget(self, "special_ids")[role]
    return id and self.core:id_to_token(id)
  end
end

function Tokenizer:__index(name)
  local attribute = attributes[name]
  if attribute then
    return attribute(self)
  end
  return methods[name]
end

function Tokenizer:__newindex(name, value)
  local role = type(name) == "string" and name:match("^(%l+_token)_id$") or name
  if not attributes[role] then
    rawset(self, name, value)
  elseif role ~= name then
    rawget(self, "special_ids")[role] = calls.optional(value)
  elseif role == "bos_token" or role == "eos_token" or role == "unk_token" or role == "pad_token" then
    local id
    if not calls.is_absent(value) then
      id = self.core:token_to_id(value)
      if not id then
        error(("'%s' is no token of this tokenizer"):format(value), 2)
      end
    end
    rawget(self, "special_ids")[role] = id
  else
    error(("'%s' of a tokenizer cannot be set"):format(name), 2)
  end
end

function Tokenizer:__len()
  return self.core:length()
end

function Tokenizer:__tostring()
  return ("PreTrainedTokenizer('%s', vocab_size=%d)"):format(self.name_or_path, self.vocab_size)
end

--- How many tokens there are with the added ones; #tokenizer in Lua 5.4.
function methods:length()
  return self.core:length()
end

--- Frees the tokenizer now rather than when it is collected.
function methods:close()
  self.core:close()
end

Tokenizer.__close = methods.close

-- ---- Vocabulary ------------------------------------------------------------------------------------

--- Every token and its id.
function methods:get_vocab()
  local vocabulary = {}
  for id = 0, self.core:length() - 1 do
    local token = self.core:id_to_token(id)
    if token then
      vocabulary[token] = id
    end
  end
  for token, id in pairs(self.added_tokens_encoder) do
    vocabulary[token] = id
  end
  return vocabulary
end

function methods:get_added_vocab()
  return self.added_tokens_encoder
end

--- The id of a token by its spelling, or the ids of a list; unknown ones become the unknown token.
function methods:convert_tokens_to_ids(tokens)
  if type(tokens) == "string" then
    return self.core:token_to_id(tokens) or self.unk_token_id
  end
  calls.check_type("convert_tokens_to_ids()", "tokens", tokens, "table")
  local ids = {}
  for i, token in ipairs(tokens) do
    ids[i] = self.core:token_to_id(token) or self.unk_token_id
  end
  return ids
end

--- The spelling of an id, or those of a list. Only the tokens of all_special_tokens can be skipped.
function methods:convert_ids_to_tokens(ids, options)
  options = calls.check_options("convert_ids_to_tokens()", options, {skip_special_tokens = true})
  if type(ids) == "number" then
    return self.core:id_to_token(ids)
  end
  calls.check_type("convert_ids_to_tokens()", "ids", ids, "table")
  local skipped = options.skip_special_tokens and calls.set_of(self.all_special_ids) or {}
  local tokens = {}
  for _, id in ipairs(ids) do
    if not skipped[id] then
      tokens[#tokens + 1] = self.core:id_to_token(id)
    end
  end
  return tokens
end

-- ---- Text to ids -----------------------------------------------------------------------------------

local ENCODE_OPTIONS = calls.set_of {
  "add_special_tokens", "padding", "truncation", "max_length", "pad_to_multiple_of", "padding_side",
  "return_attention_mask", "return_offsets_mapping", "split_special_tokens",
}

-- The columns of a batch: {input_ids = rows, attention_mask = rows, ...}.
local function encode_all(self, texts, options)
  local columns = {input_ids = {}}
  local settings = {
    add_special_tokens = options.add_special_tokens,
    split_special_tokens = options.split_special_tokens,
    offsets = calls.optional(options.return_offsets_mapping),
  }
  if settings.offsets then
    columns.offset_mapping = {}
  end
  if options.return_attention_mask ~= false then
    columns.attention_mask = {}
  end
  for i, text in ipairs(texts) do
    if type(text) ~= "string" then
      calls.fail("wrong type", "text must be a string or a list of strings, not %s", type(text))
    end
    local ids, offsets = calls.check(self.core:encode(text, settings))
    columns.input_ids[i] = ids
    if columns.offset_mapping then
      columns.offset_mapping[i] = offsets
    end
    if columns.attention_mask then
      columns.attention_mask[i] = shaping.fill({}, #ids, 1)
    end
  end
  return columns
end

--- Inside: the encoding of a text or a list of texts.
function M.encode(self, text, options)
  options = calls.check_options("tokenizer()", options, ENCODE_OPTIONS)
  local single = type(text) == "string"
  if not single and type(text) ~= "table" then
    calls.misuse("text must be a string or a list of strings, not %s", type(text))
  end
  local columns = encode_all(self, single and {text} or text, options)
  shaping.shape(self, columns, options)
  if single then
    for name, rows in pairs(columns) do
      columns[name] = rows[1]
    end
  end
  return columns
end

--- tokenizer(text, options): {input_ids = , attention_mask = } of a text or a list of texts.
--
-- padding: true or "longest", "max_length", or false. truncation: true to cut at `max_length`, else
-- at `model_max_length`; `max_length` alone cuts too. return_offsets_mapping: {first, last} of each
-- token, so that text:sub(first, last) is where it stood. split_special_tokens: read control tokens
-- in the text as plain characters: for text that comes from strangers.
Tokenizer.__call = calls.protect(M.encode)

--- The ids of a text: tokenizer(text, options).input_ids.
methods.encode = calls.protect(function(self, text, options)
  return M.encode(self, text, options).input_ids
end)

--- The tokens of a text by their spelling; added ones with the white space they swallow.
methods.tokenize = calls.protect(function(self, text, options)
  options = calls.check_options("tokenize()", options, {add_special_tokens = true})
  calls.check_type("tokenize()", "text", text, "string")
  local settings = {add_special_tokens = options.add_special_tokens or false, offsets = true}
  local ids, offsets = calls.check(self.core:encode(text, settings))
  local added, tokens = {}, {}
  for _, token in ipairs(self.core:added_tokens()) do
    added[token.id] = true
  end
  for i, id in ipairs(ids) do
    local shown = added[id] and text:sub(offsets[i][1], offsets[i][2]) or ""
    tokens[i] = shown ~= "" and shown or self.core:id_to_token(id) or ""
  end
  return tokens
end)

-- ---- Ids to text -------------------------------------------------------------------------------------

local DECODE_OPTIONS = calls.set_of {"skip_special_tokens", "clean_up_tokenization_spaces"}

--- Inside: the text of an id or a list of ids, or the texts of a list of lists.
function M.decode(self, ids, options)
  options = calls.check_options("decode()", options, DECODE_OPTIONS)
  if calls.optional(options.clean_up_tokenization_spaces) then
    calls.warn_once("`clean_up_tokenization_spaces` has no effect on BPE tokenizers.")
  end
  local skip = calls.optional(options.skip_special_tokens) or false
  if type(ids) == "number" then
    ids = {ids}
  end
  if type(ids) ~= "table" then
    calls.misuse("token ids must be a table of integers, not %s", type(ids))
  end
  if type(ids[1]) ~= "table" then
    return calls.check(self.core:decode(ids, skip))
  end
  local texts = {}
  for i, row in ipairs(ids) do
    texts[i] = calls.check(self.core:decode(row, skip))
  end
  return texts
end

--- The text of ids, special tokens included unless skip_special_tokens is set.
methods.decode = calls.protect(function(self, ids, options)
  return (M.decode(self, ids, options))
end)

--- The texts of a list of sequences.
methods.batch_decode = calls.protect(function(self, sequences, options)
  calls.check_type("batch_decode()", "sequences", sequences, "table")
  local texts = {}
  for i, sequence in ipairs(sequences) do
    texts[i] = M.decode(self, sequence, options)
  end
  return texts
end)

methods.convert_tokens_to_string = calls.protect(function(self, tokens)
  return (M.decode(self, methods.convert_tokens_to_ids(self, tokens)))
end)

--- Text from ids that come one by one: decoder:put(id), decoder:finish().
methods.stream_decoder = calls.protect(function(self, options)
  options = calls.check_options("stream_decoder()", options, {skip_special_tokens = true})
  return (calls.check(core.stream_decoder(self.core, options.skip_special_tokens)))
end)

-- ---- Chats -------------------------------------------------------------------------------------------

local CHAT_OPTIONS = calls.set_of {
  "tools", "documents", "chat_template", "add_generation_prompt", "continue_final_message",
  "tokenize", "padding", "truncation", "max_length", "return_dict", "tokenizer_kwargs",
}

local function has_own_specials(self)
  local own = self.core:special_ids()
  for _, role in ipairs(ROLES) do
    if own[role] ~= self[role .. "_id"] then
      return false
    end
  end
  return true
end

-- What only a Jinja template can do is beyond Lua; the message says what to do instead.
local function refuse_foreign(self, options)
  local template = calls.optional(options.chat_template) or self.chat_template
  if not template then
    calls.fail("invalid argument", "This tokenizer has no chat template: pass one as `chat_template`, "
      .. "or set tokenizer.chat_template.")
  end
  if template ~= self.core:chat_template() or not has_own_specials(self) then
    calls.fail("unsupported", "unsupported template: in Lua only the templates of Phi-3, Phi-3.5, "
      .. "Phi-4, Phi-4-mini and ChatML are rendered. Build the prompt yourself and pass it as a "
      .. "string, or render it in Python.")
  end
end

local function check_chat(messages, options)
  if type(messages) ~= "table" then
    calls.misuse("a conversation must be a list of messages, not %s", type(messages))
  end
  if #messages == 0 then
    calls.fail("invalid argument", "A conversation without messages has no prompt.")
  end
  if options.add_generation_prompt and options.continue_final_message then
    calls.fail("invalid argument", "continue_final_message and add_generation_prompt are not "
      .. "compatible: the one goes on with the last message, the other begins a new one.")
  end
  local last = messages[#messages]
  if options.continue_final_message and not (type(last) == "table" and type(last.content) == "string")
  then
    calls.fail("invalid argument", "continue_final_message is set but the last message has no text.")
  end
end

local function render(self, messages, options)
  check_chat(messages, options)
  refuse_foreign(self, options)
  local text, message, code = self.core:render_chat(messages, {
    add_generation_prompt = calls.optional(options.add_generation_prompt),
    continue_final_message = calls.optional(options.continue_final_message),
  })
  if code == "unsupported" then
    message = "unsupported template: " .. message .. ". Build the prompt yourself and pass it as a "
      .. "string, or render it in Python."
  end
  return (calls.check(text, message, code))
end

--- Inside: the prompt of a conversation, or of a list of them.
function M.apply_chat_template(self, conversation, options)
  options = calls.check_options("apply_chat_template()", options, CHAT_OPTIONS)
  if type(conversation) ~= "table" then
    calls.misuse("a conversation must be a list of messages, not %s", type(conversation))
  end
  local first = conversation[1]
  local is_batch = type(first) == "table" and first.role == nil and #first > 0
  local texts = {}
  for i, messages in ipairs(is_batch and conversation or {conversation}) do
    texts[i] = render(self, messages, options)
  end
  local text = is_batch and texts or texts[1]
  if options.tokenize == false then
    return text
  end
  local settings = calls.copy(calls.optional(options.tokenizer_kwargs) or {})
  settings.add_special_tokens = false
  settings.padding = calls.optional(options.padding)
  settings.truncation = calls.first(calls.optional(options.truncation), false)
  settings.max_length = calls.optional(options.max_length)
  local encoding = M.encode(self, text, settings)
  return options.return_dict == false and encoding.input_ids or encoding
end

--- The prompt of a conversation: ids with their mask, or the text when `tokenize` is false. The
-- templates of the Phi-3 family and ChatML are built in; any other is refused.
methods.apply_chat_template = calls.protect(M.apply_chat_template)

-- ---- Loading -----------------------------------------------------------------------------------------

local LOAD_OPTIONS = calls.set_of(hub.OPTIONS, hub.WITHOUT_EFFECT, {"padding_side"})

-- The spellings in a list of tokens of tokenizer_config.json, strings or tables.
local function contents(list)
  local spellings = {}
  for i, token in ipairs(type(list) == "table" and list or {}) do
    spellings[i] = type(token) == "table" and token.content or token
  end
  return spellings
end

--- Inside: loads a tokenizer.
function M.load(name, options)
  options = calls.check_options("AutoTokenizer.from_pretrained()", options, LOAD_OPTIONS)
  local path = hub.resolve(name, options)
  local handle = calls.check(core.tokenizer(path))
  local written = hub.read_json(path, "tokenizer_config.json")
  return setmetatable({
    core = handle,
    name_or_path = path,
    padding_side = calls.optional(options.padding_side) or calls.optional(written.padding_side)
      or "left",
    truncation_side = calls.optional(written.truncation_side) or "right",
    model_max_length = handle:model_max_length() or shaping.UNLIMITED,
    chat_template = handle:chat_template(),
    additional_special_tokens = contents(written.additional_special_tokens),
    special_ids = handle:special_ids(),
  }, Tokenizer)
end

--- AutoTokenizer.from_pretrained(name, {revision = , gguf_file = , padding_side = }).
M.AutoTokenizer = {from_pretrained = calls.protect(M.load)}

return M
