--- Thousands of objects come and go: the process stays as large as it was.
local phi3 = require "phi3"
local core = require "phi3.core"
local support = require "support"

local many = support.only_tiny and 20 or 10000
-- Bytes; caches of this model take 4 KB a token, and huge pages come and go by 2 MiB.
local allowance = 16 * 2 ^ 20

local function growth(call)
  local before = support.resident()
  for _ = 1, many do
    call()
  end
  collectgarbage()
  collectgarbage()
  return support.resident() - before
end

-- What leaks grows in every round; what waits for the collector makes the heap as large as it gets once.
local function flat(call)
  local grown, rounds = growth(call), 1
  while grown >= allowance and rounds < 4 do
    grown, rounds = growth(call), rounds + 1
  end
  -- Under valgrind the process grows by what it knows of the code; it looks for leaks itself.
  assert.is_true(support.only_tiny or grown < allowance, ("grew by %.1f MB"):format(grown / 2 ^ 20))
end

describe("memory stays flat", function()
  local model, tokenizer = support.tiny()

  it("when caches are closed", function()
    flat(function()
      local cache = core.cache(model.core)
      model.core:forward({{1, 2, 3}}, {cache}, {keep = 1})
      cache:close()
    end)
  end)

  it("when caches are left to the collector", function()
    flat(function()
      local cache = core.cache(model.core)
      model.core:forward({{1}}, {cache}, {keep = 1})
    end)
  end)

  it("when generations are closed, left or fail", function()
    local round = 0
    flat(function()
      round = round + 1
      local run = core.generation(model.core, {{1, 2}}, {max_new_tokens = 3},
        {tokenizer = tokenizer.core})
      run:step()
      if round % 2 == 0 then
        run:close()
      end
      assert(not core.generation(model.core, {{1}}, {max_new_tokens = 0}, {}))
      assert(not pcall(core.generation, model.core, {{1}}, {stop_strings = {5}}, {}))
    end)
  end)

  it("when streams are left", function()
    local pipe = support.pipe "tiny"
    flat(function()
      local stream = pipe:stream("Hi", {do_sample = false, max_new_tokens = 50})
      stream()
    end)
    pipe:reset()
  end)

  it("when text is encoded, decoded and rendered", function()
    local long = ("word "):rep(200)
    flat(function()
      local ids = tokenizer:encode(long)
      tokenizer:decode(ids)
      tokenizer:apply_chat_template({{role = "user", content = long}}, {tokenize = false})
      tokenizer:encode "\255"
      pcall(tokenizer.decode, tokenizer, {1, "x"})
    end)
  end)

  it("when models and tokenizers come and go", function()
    local count = support.only_tiny and 2 or 20
    local function load()
      local loaded = assert(phi3.AutoModelForCausalLM.from_pretrained(support.names.tiny))
      local words = assert(core.tokenizer(support.names.tiny))
      assert(loaded({1, 2}))
      loaded:close()
      words:close()
    end
    for _ = 1, count do
      load()
    end
    local before = support.resident()
    for _ = 1, count do
      load()
    end
    assert.is_true(support.only_tiny or support.resident() - before < allowance)
  end)
end)
