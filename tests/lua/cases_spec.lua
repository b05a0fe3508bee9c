--- The cases that the Python suite asks, too: same names, same results, same errors.
local phi3 = require "phi3"
local support = require "support"

--- Runs a case whose result, or error, is in it.
local function check(case, expected, call)
  if case.seed and case.seed ~= phi3.null then
    phi3.manual_seed(case.seed)
  end
  if case.error == nil then
    local result, message = call()
    assert.is_nil(message)
    assert.is_true(support.equal(result, case[expected]), "the result differs")
    return
  end
  local code, text = case.error[1], case.error[2]
  if code == "misuse" then
    local ok, raised = pcall(call)
    assert.is_false(ok)
    assert.is_truthy(tostring(raised):find(text, 1, true))
    return
  end
  local result, message, found = call()
  assert.is_nil(result)
  assert.are.equal(text, message:sub(1, #text))
  assert.are.equal(code, found)
end

local function each(kind, ask)
  describe("case", function()
    for _, case in ipairs(support.cases(kind)) do
      it(("%s %d"):format(kind, case.number), function() ask(case) end)
    end
  end)
end

each("encode", function(case)
  local tokenizer = support.pipe(case.model).tokenizer
  assert.is_true(support.equal(tokenizer:encode(case.text), case.ids))
end)

each("decode", function(case)
  local tokenizer = support.pipe(case.model).tokenizer
  local options = {skip_special_tokens = case.skip_special_tokens}
  assert.are.equal(case.text, tokenizer:decode(case.ids, options))
end)

each("chat", function(case)
  local tokenizer = support.pipe(case.model).tokenizer
  local options = {tokenize = false}
  for name, value in pairs(case.options) do
    options[name] = value
  end
  check(case, "text", function()
    return tokenizer:apply_chat_template(case.messages, options)
  end)
end)

each("generate", function(case)
  local model = support.tiny()
  check(case, "sequences", function() return model:generate(case.ids, case.args) end)
end)

each("pipeline", function(case)
  local pipe = support.pipe(case.model)
  check(case, "output", function() return pipe(case.inputs, case.args) end)
end)
