--- TextStreamer: prints text as soon as whole words are there, by the rules of transformers.
local calls = require "phi3.calls"
local tokenizers = require "phi3.tokenizer"

local M = {}

-- CJK ideographs, which no space follows: kana and hangul are not among them.
local IDEOGRAPHS = {
  {0x3400, 0x4DBF}, {0x4E00, 0x9FFF}, {0xF900, 0xFAFF}, {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F},
  {0x2B740, 0x2B81F}, {0x2B820, 0x2CEAF}, {0x2F800, 0x2FA1F},
}

-- Whether valid UTF-8 ends with an ideograph.
local function ends_with_ideograph(text)
  local last = text:match("[\194-\244][\128-\191]*$")
  if not last then
    return false
  end
  local first = last:byte(1)
  local code = first < 0xE0 and first - 0xC0 or first < 0xF0 and first - 0xE0 or first - 0xF0
  for i = 2, #last do
    code = code * 64 + last:byte(i) - 0x80
  end
  for _, range in ipairs(IDEOGRAPHS) do
    if code >= range[1] and code <= range[2] then
      return true
    end
  end
  return false
end

local TextStreamer = {__name = "phi3.TextStreamer"}
TextStreamer.__index = TextStreamer

local OPTIONS = calls.set_of {"skip_prompt", "skip_special_tokens", "on_finalized_text"}

--- TextStreamer(tokenizer, {skip_prompt = , skip_special_tokens = , on_finalized_text = }): the last is
-- a function of text and whether the stream ends, in place of printing.
M.TextStreamer = calls.protect(function(tokenizer, options)
  options = calls.check_options("TextStreamer()", options, OPTIONS)
  if not tokenizers.is_tokenizer(tokenizer) then
    calls.misuse("TextStreamer(): a tokenizer expected, got %s", type(tokenizer))
  end
  return setmetatable({
    tokenizer = tokenizer,
    skip_prompt = options.skip_prompt or false,
    skip_special_tokens = options.skip_special_tokens or false,
    on_finalized_text = options.on_finalized_text or function(text, stream_end)
      io.write(text, stream_end and "\n" or "")
      io.flush()
    end,
    token_cache = {}, -- since the last line break
    print_len = 0, -- how much of their text has been given out
    next_tokens_are_prompt = true,
  }, TextStreamer)
end)

function TextStreamer:text()
  return (tokenizers.decode(self.tokenizer, self.token_cache,
    {skip_special_tokens = self.skip_special_tokens}))
end

--- Takes the prompt, then every token.
TextStreamer.put = calls.protect(function(self, tokens)
  if type(tokens[1]) == "table" then
    if #tokens > 1 then
      calls.fail("invalid argument", "TextStreamer only supports batch size 1")
    end
    tokens = tokens[1]
  end
  if self.skip_prompt and self.next_tokens_are_prompt then
    self.next_tokens_are_prompt = false
    return
  end
  for _, token in ipairs(tokens) do
    table.insert(self.token_cache, token)
  end
  local text = self:text()
  local ready
  if text:sub(-1) == "\n" then
    ready = text:sub(self.print_len + 1)
    self.token_cache, self.print_len = {}, 0
  else
    local complete = ends_with_ideograph(text) and #text or #(text:match("^.* ") or "")
    ready = text:sub(self.print_len + 1, complete)
    self.print_len = self.print_len + #ready
  end
  self.on_finalized_text(ready, false)
end)

--- Ends the stream: gives out what was held back.
function TextStreamer:finish()
  local rest = #self.token_cache > 0 and self:text():sub(self.print_len + 1) or ""
  self.token_cache, self.print_len, self.next_tokens_are_prompt = {}, 0, true
  self.on_finalized_text(rest, true)
end

return M
