--- The habits of Lua modules: how calls fail, how objects end, what options are.
local before = {}
for name in pairs(_G) do
  before[name] = true
end

local phi3 = require "phi3"
local core = require "phi3.core"
local support = require "support"

describe("the module", function()
  it("leaves no globals", function()
    for name in pairs(_G) do
      assert.is_true(before[name], tostring(name))
    end
  end)

  it("knows its version and machine", function()
    local info = phi3.info()
    assert.are.equal(phi3._VERSION, info.version)
    assert.is_truthy(info.version:find("^%d+%.%d+%.%d+$"))
    assert.is_true(info.n_threads >= 1)
    assert.is_string(info.cpu_isa)
    assert.is_true(#info.backends >= 2)
    assert.are.equal("reference", info.backends[#info.backends].name)
  end)

  it("says what was tried when its C part is missing", function()
    local command = ("LUA_CPATH='/nowhere/?.so' %s -e 'require \"phi3\"' 2>&1"):format(arg[-1] or "lua")
    local interpreter = rawget(_G, "jit") and "luajit" or "lua5.4"
    local pipe = assert(io.popen((command:gsub("^(%S+) %S+", "%1 " .. interpreter))))
    local said = pipe:read("*a")
    pipe:close()
    assert.is_truthy(said:find("phi3.core cannot be loaded", 1, true), said)
    assert.is_truthy(said:find("/nowhere/phi3/core.so", 1, true), said)
    assert.is_truthy(said:find("make lua", 1, true), said)
  end)
end)

describe("what can happen", function()
  it("is nil, a message and a code", function()
    local model, message, code = phi3.AutoModelForCausalLM.from_pretrained("/no/such/model")
    assert.is_nil(model)
    assert.is_truthy(message:find("/no/such/model", 1, true))
    assert.are.equal("not found", code)
    local tokenizer, _, token_code = phi3.AutoTokenizer.from_pretrained("nobody/nothing")
    assert.is_nil(tokenizer)
    assert.are.equal("not found", token_code)
    local pipe, text, kind = phi3.pipeline("translation", {model = "x"})
    assert.is_nil(pipe)
    assert.are.equal("Unknown task translation, available tasks are ['text-generation']", text)
    assert.are.equal("not found", kind)
  end)

  it("says which file is broken", function()
    local name = os.tmpname()
    local file = assert(io.open(name, "w"))
    file:write("GGUF\3\0\0\0and no more")
    file:close()
    local model, message, code = phi3.AutoModelForCausalLM.from_pretrained(name)
    os.remove(name)
    assert.is_nil(model)
    assert.is_truthy(message:find(name, 1, true))
    assert.are.equal("bad file", code)
  end)

  it("is also text that is not UTF-8", function()
    local _, tokenizer = support.tiny()
    local ids, message, code = tokenizer:encode("a\255b")
    assert.is_nil(ids)
    assert.is_truthy(message:find("UTF%-8"))
    assert.are.equal("wrong type", code)
    ids, _, code = support.pipe "tiny"("\255", support.greedy)
    assert.is_nil(ids)
    assert.are.equal("wrong type", code)
  end)
end)

describe("misuse", function()
  local function raises(text, call, ...)
    local ok, message = pcall(call, ...)
    assert.is_false(ok)
    assert.is_truthy(tostring(message):find(text, 1, true), tostring(message))
    return message
  end

  it("is an error at the caller", function()
    local message = raises("AutoModelForCausalLM.from_pretrained() does not take 'devise_map'", function()
      phi3.AutoModelForCausalLM.from_pretrained("x", {devise_map = "cpu"})
    end)
    assert.is_truthy(message:find("conventions_spec.lua:%d+:"), message)
    assert.is_truthy(message:find("(did you mean 'device_map'?)", 1, true))
  end)

  it("is an option that does not exist", function()
    local model, tokenizer = support.tiny()
    local pipe = support.pipe "tiny"
    raises("(did you mean 'max_new_tokens'?)", pipe, "Hi", {max_new_token = 3})
    raises("(did you mean 'padding'?)", tokenizer, "Hi", {paddin = true})
    raises("does not take 'skip'", tokenizer.decode, tokenizer, {1}, {skip = true})
    raises("does not take 'logits_to_skip'", model, {1}, {logits_to_skip = true})
    raises("does not take 'Tokenize'", tokenizer.apply_chat_template, tokenizer, support.user,
      {Tokenize = false})
    raises("(did you mean 'temperature'?)", phi3.GenerationConfig, {temprature = 1})
    raises("(did you mean 'max_new_tokens'?)", phi3.pipeline, "text-generation",
      {model = "x", max_newtokens = 3})
  end)

  it("is a value of another type", function()
    local model, tokenizer = support.tiny()
    local pipe = support.pipe "tiny"
    raises("`temperature` must be a number, not string", pipe, "Hi", {temperature = "hot"})
    raises("`do_sample` must be a boolean, not string", pipe, "Hi", {do_sample = "no"})
    raises("`max_new_tokens` must be an integer, not 2.5", pipe, "Hi", {max_new_tokens = 2.5})
    raises("`stop_strings` must be a string or a table of strings, not boolean", pipe, "Hi",
      {stop_strings = true, tokenizer = tokenizer})
    raises("must hold integers", model.generate, model, {1, "2"})
    raises("token ids must be integers", tokenizer.decode, tokenizer, {1, 2.5})
    raises("text must be a string", tokenizer, 5)
    raises("a model's name must be a string", phi3.AutoTokenizer.from_pretrained, 5)
    raises("`device_map` must be a string", phi3.AutoModelForCausalLM.from_pretrained,
      support.names.tiny, {device_map = 1.5})
    raises("a seed must be an integer", phi3.manual_seed, 1.5)
  end)

  it("is what only files of another kind of Lua would do", function()
    raises("phi3.Model expected, got phi3.Tokenizer", core.cache, support.pipe "tiny".tokenizer.core)
    raises("phi3.Cache expected", core.cache(support.pipe "tiny".model.core).truncate, io.stdout, 1)
  end)
end)

describe("numbers", function()
  it("may be integral floats", function()
    local _, tokenizer = support.tiny()
    assert.are.equal(tokenizer:decode {15043, 3186}, tokenizer:decode {15043.0, 3186.0})
  end)

  it("stay integers in Lua 5.4", function()
    local _, tokenizer = support.tiny()
    local kind = math.type or function() return "integer" end -- luacheck: ignore
    assert.are.equal("integer", kind(tokenizer:encode("Hello")[1]))
    assert.are.equal("integer", kind(tokenizer.vocab_size))
  end)

  it("that cannot be ids are refused", function()
    local _, tokenizer = support.tiny()
    local text, message, code = tokenizer:decode {5, -1}
    assert.is_nil(text)
    assert.are.equal("-1 is not a token id", message)
    assert.are.equal("invalid argument", code)
    assert.is_nil((tokenizer:decode {2 ^ 40}))
  end)
end)

describe("null", function()
  it("turns a setting off, and is that of JSON", function()
    assert.are.equal(require "cjson".null, phi3.null)
    local pipe = support.pipe "tiny"
    phi3.manual_seed(3)
    local off = pipe("Hi", {max_new_tokens = 6, top_k = phi3.null, temperature = 5.0})
    phi3.manual_seed(3)
    local zero = pipe("Hi", {max_new_tokens = 6, top_k = 0, temperature = 5.0})
    assert.are.same(zero, off)
    phi3.manual_seed(3)
    assert.are_not.same(off, pipe("Hi", {max_new_tokens = 6, top_k = 2, temperature = 5.0}))
  end)
end)

describe("objects", function()
  it("have names", function()
    local pipe = support.pipe "tiny"
    assert.is_truthy(tostring(pipe.model):find("^Phi3ForCausalLM%('.*', device='cpu'%)$"))
    assert.is_truthy(tostring(pipe.tokenizer):find("^PreTrainedTokenizer%("))
    assert.is_truthy(tostring(pipe):find("^TextGenerationPipeline%("))
    assert.is_truthy(tostring(pipe.model.core):find("^phi3.Model %("))
    assert.is_truthy(tostring(phi3.GenerationConfig {top_k = 5}):find("top_k = 5", 1, true))
  end)

  it("are used no more once they are closed, but may be closed again", function()
    local model = assert(phi3.AutoModelForCausalLM.from_pretrained(support.names.tiny))
    local tokenizer = assert(phi3.AutoTokenizer.from_pretrained(support.names.tiny))
    local cache = phi3.Cache(model)
    for _, object in ipairs {model, tokenizer, cache} do
      object:close()
      object:close()
    end
    assert.are.equal("phi3.Cache (closed)", tostring(cache))
    assert.has_error(function() cache:ids() end, "attempt to use a closed phi3.Cache")
    local ok, message = pcall(model, {1})
    assert.is_false(ok)
    assert.is_truthy(message:find("attempt to use a closed phi3.Model", 1, true))
    ok, message = pcall(tokenizer, "x")
    assert.is_false(ok)
    assert.is_truthy(message:find("attempt to use a closed phi3.Tokenizer", 1, true))
  end)

  it("end with their block in Lua 5.4", function()
    if _VERSION ~= "Lua 5.4" then
      return -- `<close>` is no syntax there
    end
    local chunk = assert(load [[
      local phi3, model = ...
      local kept
      do
        local cache <close> = phi3.Cache(model)
        kept = cache
      end
      return kept
    ]])
    assert.are.equal("phi3.Cache (closed)", tostring(chunk(phi3, (support.tiny()))))
  end)

  it("hide their metatables", function()
    local cache = phi3.Cache((support.tiny()))
    assert.are.equal("phi3", getmetatable(cache))
    assert.has_error(function() setmetatable(cache, {}) end)
  end)
end)
