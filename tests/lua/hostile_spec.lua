--- Every function with every kind of value: an error or a failure, never a crash.
local phi3 = require "phi3"
local core = require "phi3.core"
local support = require "support"

local rounds = support.only_tiny and 150 or 3000

local function weird_values(objects)
  local cyclic = {}
  cyclic[1] = cyclic
  local liar = setmetatable({}, {__len = function() return 10 end, __index = function() error "no" end})
  local values = {
    true, false, 0, 1, -1, 2 ^ 31, -2 ^ 31, 2 ^ 53, 2 ^ 63, 1e308, 1 / 0, -1 / 0, 0 / 0, 0.5, "",
    "x", "a\0b", "\255\254", ("long "):rep(5000), {}, {1}, {1, 2, 3}, {"a", "b"}, {{1}, {2}},
    {[3] = 1}, {1.5}, {-1}, {2 ^ 40}, {a = 1}, {role = "user", content = "x"},
    {{role = "user", content = "x"}}, {{role = 1, content = {}}}, cyclic, liar, print,
    function() error "raised" end, function() return true end, coroutine.create(print), io.stdout,
    phi3.null, string, {max_new_tokens = 2}, {interrupt = print}, {caches = 5}, {caches = {1}},
    {do_sample = true, max_new_tokens = 2}, {eos_token_id = {1, "x"}}, {stop_strings = {1}},
    {keep = 2 ^ 62}, {keep = -1}, {n_threads = -5}, {n_threads = 10000}, {max_new_tokens = 2 ^ 52},
    {padding = "max_length", max_length = 100}, {max_length = -5}, {truncation = true, max_length = 0},
  }
  for _, object in ipairs(objects) do
    values[#values + 1] = object
  end
  return values
end

-- They would silence the rest, take long, or leave files behind.
local left_out = {
  queue_log = true, set_verbosity = true, set_log_callback = true, measure_peaks = true,
  quantize = true, make_directory = true,
}

local function all_functions(objects)
  local functions = {}
  local function add(name, value)
    if type(value) == "function" then
      functions[#functions + 1] = {name, value}
    end
  end
  for prefix, module in pairs {["core."] = core, ["phi3."] = phi3} do
    for name, value in pairs(module) do
      if not left_out[name] then
        add(prefix .. name, value)
      end
    end
  end
  table.sort(functions, function(a, b) return a[1] < b[1] end) -- every run is the same
  for _, object in ipairs(objects) do
    if type(object) == "userdata" then
      for _, name in ipairs {
        "forward", "config", "generation_config", "device", "device_map", "fork", "truncate", "reset",
        "ids", "nbytes", "get_seq_length", "step", "run", "logits", "scores", "done", "finish_reasons",
        "timings", "encode", "decode", "token_to_id", "id_to_token", "added_tokens", "special_ids",
        "vocab_size", "length", "model_max_length", "chat_template", "render_chat", "seed", "next", "put",
        "finish", "tolist", "shape",
      } do
        add(tostring(object) .. ":" .. name, object[name])
      end
    end
  end
  return functions
end

describe("hostile values", function()
  it("never crash", function()
    phi3.set_verbosity "silent"
    local model, tokenizer = support.tiny()
    local cache = core.cache(model.core)
    local objects = {
      model.core, tokenizer.core, cache, core.random(1), core.stream_decoder(tokenizer.core),
      assert(core.generation(model.core, {{1, 2}}, {max_new_tokens = 3}, {})), model({1, 2}).logits,
      model, tokenizer, support.pipe "tiny",
    }
    local values, functions = weird_values(objects), all_functions(objects)
    assert.is_true(#functions > 50)
    math.randomseed(12345)
    local outcomes = {ok = 0, failed = 0, raised = 0}
    for _ = 1, rounds do
      local entry = functions[math.random(#functions)]
      local count = math.random(0, 5)
      local arguments = {}
      for i = 1, count do
        arguments[i] = i == 1 and math.random() < 0.6 and objects[math.random(#objects)]
          or values[math.random(#values)]
      end
      local unpack = table.unpack or unpack -- luacheck: ignore
      local ok, result, message = pcall(entry[2], unpack(arguments, 1, count))
      local outcome = not ok and "raised" or result == nil and message and "failed" or "ok"
      outcomes[outcome] = outcomes[outcome] + 1
    end
    phi3.set_verbosity "warning"
    assert.is_true(outcomes.raised > 0 and outcomes.ok > 0)
    assert.is_true(outcomes.failed > 0 or support.only_tiny) -- with few rounds there may be none
    -- And all is as it was.
    assert.are.equal("Hello", tokenizer:decode(tokenizer:encode "Hello"))
    assert.is_truthy(support.pipe "tiny"("Hello", support.greedy))
  end)

  it("never crash the high-level functions either", function()
    phi3.set_verbosity "silent"
    local model, tokenizer = support.tiny()
    local pipe = support.pipe "tiny"
    local values = weird_values {model, tokenizer, pipe}
    local names = {
      "max_new_tokens", "do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty",
      "eos_token_id", "pad_token_id", "stop_strings", "num_return_sequences", "max_length",
      "min_length", "min_new_tokens", "generation_config", "past_key_values", "attention_mask",
      "tokenizer", "streamer", "return_full_text", "prefix", "batch_size", "continue_final_message",
      "tokenizer_encode_kwargs", "use_cache", "input_ids", "truncation", "padding", "n_threads",
      "handle_long_generation", "tools", "num_beams", "early_stopping",
    }
    local calls = {
      function(args) return pipe("Hi", args) end,
      function(args) return pipe(support.user, args) end,
      function(args) return model:generate({1, 2, 3}, args) end,
      function(args, value) return pipe(value, args) end,
      function(args, value) return model:generate(value, args) end,
      function(_, value) return tokenizer(value) end,
      function(_, value) return tokenizer:decode(value) end,
      function(_, value) return tokenizer:apply_chat_template(value) end,
      function(_, value) return model(value) end,
      function(args)
        for _ in pipe:stream("Hi", args) do break end
      end,
      function(_, value) return phi3.AutoTokenizer.from_pretrained(value) end,
      function(_, value) return phi3.pipeline("text-generation", {model = value}) end,
    }
    math.randomseed(54321)
    local raised = 0
    for _ = 1, rounds do
      local started = os.clock()
      local args = {
        max_new_tokens = 2,
        interrupt = function() return os.clock() - started > 0.2 end, -- a length may be 2^52
      }
      for _ = 1, math.random(0, 2) do
        args[names[math.random(#names)]] = values[math.random(#values)]
      end
      local value = values[math.random(#values)]
      if value ~= "x" and not pcall(calls[math.random(#calls)], args, value) then
        raised = raised + 1
      end
    end
    phi3.set_verbosity "warning"
    assert.is_true(raised > 0)
    pipe:reset()
    assert.is_truthy(pipe("Hello", support.greedy))
  end)
end)
