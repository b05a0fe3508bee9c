--- Models, caches and logits: what lives how long, and what a forward gives.
local phi3 = require "phi3"
local core = require "phi3.core"
local support = require "support"

local ids = {32010, 6324, 32007, 32001}

local function load_tiny()
  return assert(phi3.AutoModelForCausalLM.from_pretrained(support.names.tiny))
end

describe("lifetimes", function()
  it("a cache keeps its model's memory", function()
    local model = load_tiny()
    local cache = phi3.Cache(model)
    assert(model(ids, {past_key_values = cache}))
    local copy = cache:fork()
    model:close()
    model = nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    assert.are.same(ids, cache:ids())
    cache:close()
    assert.are.same(ids, copy:ids())
    assert.are.equal(2, copy:truncate(2):get_seq_length())
    copy:close()
  end)

  it("a generation keeps model, tokenizer, random and cache", function()
    local model = assert(core.model(support.names.tiny))
    local tokenizer = assert(core.tokenizer(support.names.tiny))
    local random = assert(core.random(1))
    local cache = assert(core.cache(model))
    local settings = {max_new_tokens = 5, do_sample = true, stop_strings = {"never"}}
    local run = assert(core.generation(model, {ids}, settings,
      {tokenizer = tokenizer, random = random, caches = {cache}}))
    local first = assert(run:step())
    model:close()
    tokenizer:close()
    random:close()
    cache:close()
    collectgarbage()
    local rest = assert(run:run())
    assert.are.equal(1, #first)
    assert.are.equal(4, #rest[1])
    assert.is_true(run:done())
    run:close()
  end)

  it("ends in any order", function()
    for order = 1, support.only_tiny and 2 or 6 do
      local objects = {assert(core.model(support.names.tiny))}
      objects[2] = assert(core.cache(objects[1]))
      objects[3] = assert(core.generation(objects[1], {ids}, {max_new_tokens = 2},
        {caches = {objects[2]}}))
      assert(objects[3]:step())
      local orders = {{1, 2, 3}, {2, 3, 1}, {1, 3, 2}, {2, 1, 3}, {3, 1, 2}, {3, 2, 1}}
      for _, place in ipairs(orders[order]) do
        objects[place]:close()
      end
    end
  end)

  it("ends with the Lua state, whatever is still alive", function()
    local program = ([[
      local phi3 = require "phi3"
      model = phi3.AutoModelForCausalLM.from_pretrained(%q)
      tokenizer = phi3.AutoTokenizer.from_pretrained(%q)
      pipe = phi3.pipeline("text-generation", {model = model, tokenizer = tokenizer})
      cache = phi3.Cache(model)
      model({1, 2, 3}, {past_key_values = cache})
      stream = pipe:stream("Hello", {do_sample = false, max_new_tokens = 20})
      stream()
      io.stdout:write("alive")
    ]]):format(support.names.tiny, support.names.tiny)
    local name = os.tmpname()
    local file = assert(io.open(name, "w"))
    file:write(program)
    file:close()
    local interpreter = rawget(_G, "jit") and "luajit" or "lua5.4"
    local pipe = assert(io.popen(interpreter .. " " .. name .. " 2>&1; echo $?"))
    local said = pipe:read("*a")
    pipe:close()
    os.remove(name)
    assert.are.equal("alive0\n", said)
  end)
end)

describe("a forward", function()
  it("gives the logits of every token, in one go or one by one", function()
    local model = support.tiny()
    local all = assert(model({ids})).logits
    assert.are.same({1, #ids, model.config.vocab_size}, all:shape())
    local cache = phi3.Cache(model)
    for i, id in ipairs(ids) do
      local one = assert(model({id}, {past_key_values = cache})).logits
      for token = 1, 32064, 997 do
        assert.is_near(all[1][i][token], one[1][1][token], 1e-3)
      end
    end
    assert.are.equal(#ids, cache:get_seq_length())
  end)

  it("agrees with what generate chooses", function()
    local model = support.tiny()
    local logits = assert(model(ids, {logits_to_keep = 1})).logits
    assert.are.same({1, 1, model.config.vocab_size}, logits:shape())
    local best = 1
    local row = logits[1][1]
    for i = 2, #row:tolist() do
      best = row[i] > row[best] and i or best
    end
    assert.are.equal(best - 1, model:generate(ids, {max_new_tokens = 1, do_sample = false})[1][5])
  end)

  it("aligns rows to the right and skips padding", function()
    local model = support.tiny()
    local alone = assert(model({6324, 5})).logits
    local both = assert(model({{0, 0, 6324, 5}, ids}, {attention_mask = {{0, 0, 1, 1}, {1, 1, 1, 1}}})).logits
    assert.are.same({2, 4, model.config.vocab_size}, both:shape())
    assert.are.equal(0, both[1][1][7])
    assert.is_near(alone[1][2][100], both[1][4][100], 1e-3)
    local _, message, code = model({ids}, {attention_mask = {{1, 0, 1, 1}}})
    assert.are.equal("unsupported", code)
    assert.is_truthy(message:find("padding at the ends", 1, true))
  end)

  it("returns a cache when asked", function()
    local model = support.tiny()
    assert.is_nil(model(ids).past_key_values)
    local cache = model(ids, {use_cache = true}).past_key_values
    assert.are.same(ids, cache:ids())
    assert.is_true(cache:nbytes() > 0)
    assert.are.equal(0, cache:reset():get_seq_length())
  end)
end)

describe("logits", function()
  it("count from 1 and know their shape", function()
    local logits = support.tiny()(ids).logits
    assert.are.equal(1, #logits:shape() - 2)
    assert.is_nil(logits[0])
    assert.is_nil(logits[2])
    assert.is_nil(logits[1][5])
    assert.is_nil(logits[1][1][0])
    assert.is_number(logits[1][1][1])
    assert.are.equal("phi3.Logits [1, 4, 32064]", tostring(logits))
    assert.are.equal(logits[1][2][3], logits:tolist()[1][2][3])
    assert.are.equal(32064, #logits[1][1]:tolist())
  end)

  it("outlive what they are a view of", function()
    local row = support.tiny()(ids).logits[1][2]
    local value = row[3]
    for _ = 1, support.only_tiny and 3 or 20 do
      collectgarbage()
      local _ = support.tiny()({1, 2, 3})
    end
    assert.are.equal(value, row[3])
  end)
end)

describe("generate", function()
  it("takes what a tokenizer returns", function()
    local model, tokenizer = support.tiny()
    local encoded = tokenizer({"Hello there", "Hi"}, {padding = true, padding_side = "left"})
    local rows = assert(model:generate(encoded, {max_new_tokens = 3, do_sample = false}))
    assert.are.equal(2, #rows)
    assert.are.equal(#encoded.input_ids[1] + 3, #rows[1])
    assert.are.equal(#rows[1], #rows[2])
  end)

  it("begins with BOS when there is nothing", function()
    local rows = assert(support.tiny():generate(nil, {max_new_tokens = 2, do_sample = false}))
    assert.are.equal(1, rows[1][1])
    assert.are.equal(3, #rows[1])
  end)

  it("records scores and logits, and goes on from a cache", function()
    local model = support.tiny()
    local output = assert(model:generate(ids, {
      max_new_tokens = 4, do_sample = false, return_dict_in_generate = true, output_scores = true,
      output_logits = true, repetition_penalty = 1.5,
    }))
    assert.are.equal(4, #output.scores)
    assert.are.same({1, 32064}, output.logits[1]:shape())
    local seen = output.logits[1][1][ids[2] + 1]
    local wanted = seen < 0 and seen * 1.5 or seen / 1.5
    assert.is_near(wanted, output.scores[1][1][ids[2] + 1], 1e-4)
    local cache = output.past_key_values
    assert.are.equal(#ids + 3, cache:get_seq_length())
    local again = assert(model:generate(output.sequences, {
      max_new_tokens = 2, do_sample = false, past_key_values = cache,
      output_timings = true,
    }))
    assert.are.equal(#ids + 3, again.timings.reused_tokens)
  end)

  it("is stopped by an interrupt", function()
    local model = support.tiny()
    local asked = 0
    local rows, message, code = model:generate(ids, {
      max_new_tokens = 3000, do_sample = false, eos_token_id = phi3.null,
      interrupt = function()
        asked = asked + 1
        return asked == 2
      end,
    })
    assert.is_nil(rows)
    assert.are.equal("interrupted", code)
    assert.are.equal("interrupted", message)
    assert.are.equal(2, asked)
  end)

  it("passes on what an interrupt raises", function()
    local model = support.tiny()
    local thing = {}
    local ok, raised = pcall(model.generate, model, ids, {
      max_new_tokens = 3000, eos_token_id = phi3.null, do_sample = false,
      interrupt = function() error(thing) end,
    })
    assert.is_false(ok)
    assert.are.equal(thing, raised)
  end)

  it("stands a callback that closes what it uses", function()
    local model = load_tiny()
    local cache = phi3.Cache(model)
    local closed = false
    assert(model:generate(ids, {
      max_new_tokens = support.only_tiny and 20 or 1500, eos_token_id = phi3.null, do_sample = false,
      past_key_values = cache,
      interrupt = function()
        closed = true
        cache:close()
        model:close()
      end,
    }))
    assert.is_true(closed)
  end)

  it("tells a load's progress, and is stopped by it", function()
    local last = 0
    local model = assert(phi3.AutoModelForCausalLM.from_pretrained(support.names.tiny, {
      progress = function(done)
        assert.is_true(done >= last and done <= 1)
        last = done
      end,
    }))
    assert.are.equal(1, last)
    model:close()
    local none, _, code = phi3.AutoModelForCausalLM.from_pretrained(support.names.tiny,
      {progress = function() return true end})
    assert.is_nil(none)
    assert.are.equal("interrupted", code)
  end)
end)

describe("a model", function()
  it("says what it is", function()
    local model = support.tiny()
    assert.are.equal("cpu", model.device)
    assert.are.equal("phi3", model.config.model_type)
    assert.are.equal(3, model.config.num_hidden_layers)
    assert.are.equal(model.config.n_parameters, model:num_parameters())
    assert.are.equal("float32", model.dtype)
    assert.are.equal(32000, model.generation_config.eos_token_id)
  end)

  it("loads to the device and with the arithmetic that are asked for", function()
    local model = assert(phi3.AutoModelForCausalLM.from_pretrained(support.names.tiny, {
      device_map = {[""] = "reference"}, torch_dtype = "auto", compute_dtype = "float32",
      kv_cache_dtype = "float32", n_threads = 1, trust_remote_code = true,
    }))
    assert.are.equal("reference", model.device)
    local here = assert(model(ids)).logits
    local there = assert(support.tiny()(ids)).logits
    assert.is_near(there[1][4][50], here[1][4][50], 1e-2)
    model:close()
    local _, message, code = phi3.AutoModelForCausalLM.from_pretrained(support.names.tiny,
      {dtype = "int8"})
    assert.are.equal("invalid argument", code)
    assert.is_truthy(message:find("dtype must be 'auto'", 1, true))
    _, message, code = phi3.AutoModelForCausalLM.from_pretrained(support.names.tiny,
      {kv_cache_dtype = "int3"})
    assert.are.equal("invalid argument", code)
    assert.is_truthy(message:find("int3", 1, true))
  end)

  it("works inside coroutines", function()
    local model = support.tiny()
    local whole = model:generate(ids, support.greedy)[1]
    local results = {}
    for i = 1, 3 do
      results[i] = coroutine.wrap(function()
        coroutine.yield()
        return model:generate(ids, support.greedy)[1]
      end)
      results[i]()
    end
    for i = 1, 3 do
      assert.are.same(whole, results[i]())
    end
  end)
end)
