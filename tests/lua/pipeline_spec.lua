--- Pipelines beyond the shared cases: iterators, conversations, defaults, parts that do not fit.
local phi3 = require "phi3"
local support = require "support"

local greedy = support.greedy

local function new_pipe(options)
  local pipe = support.pipe "tiny"
  local all = {model = pipe.model, tokenizer = pipe.tokenizer}
  for name, value in pairs(options or {}) do
    all[name] = value
  end
  return assert(phi3.pipeline("text-generation", all))
end

describe("a pipeline", function()
  it("takes a function of prompts and gives an iterator", function()
    local pipe = new_pipe()
    local asked = 0
    local function prompts()
      asked = asked + 1
      return ({"Hello", "Once upon", "Yo"})[asked]
    end
    local results = pipe(prompts, greedy)
    assert.are.equal(1, asked) -- nothing is computed before it is asked for
    local count = 0
    for records in results do
      count = count + 1
      local prompt = ({"Hello", "Once upon", "Yo"})[count]
      assert.are.same(pipe(prompt, greedy), records)
    end
    assert.are.equal(3, count)
    assert.are.same({}, pipe(function() end, greedy))
  end)

  it("takes a function of messages as one chat", function()
    local pipe = new_pipe()
    local place = 0
    local records = pipe(function()
      place = place + 1
      return support.user[place]
    end, greedy)
    assert.are.same(pipe(support.user, greedy), records)
  end)

  it("appends the answer to a copy of the chat", function()
    local pipe = new_pipe()
    local chat = {{role = "user", content = "Hi"}}
    local output = assert(pipe(chat, greedy))
    assert.are.equal(1, #chat)
    assert.are.equal(chat[1], output[1].generated_text[1])
    assert.are.equal("assistant", output[1].generated_text[2].role)
  end)

  it("computes only what is new of a conversation", function()
    local pipe = new_pipe()
    local chat = {{role = "user", content = "Hi"}}
    for turn = 1, 3 do
      local settings = {do_sample = false, max_new_tokens = 8, return_full_text = false}
      local fresh = assert(new_pipe()(chat, settings))
      local kept = assert(pipe(chat, settings))
      assert.are.same(fresh, kept)
      local stream = pipe:stream(chat, settings)
      stream()
      stream:close()
      assert.is_true(stream.timings.reused_tokens >= 3 * turn)
      chat[#chat + 1] = {role = "assistant", content = kept[1].generated_text}
      chat[#chat + 1] = {role = "user", content = "And then?"}
    end
    pipe:reset()
  end)

  it("has defaults for its calls", function()
    local pipe = new_pipe {max_new_tokens = 3, do_sample = false, return_full_text = false}
    local short = assert(pipe("Hello"))[1].generated_text
    local long = assert(pipe("Hello", {max_new_tokens = 9}))[1].generated_text
    assert.are.equal(short, long:sub(1, #short))
    assert.is_true(#long > #short)
    local tokens = assert(pipe("Hello", {return_tensors = true}))[1].generated_token_ids
    assert.are.equal(#pipe.tokenizer:encode "Hello" + 3, #tokens)
    assert.are.equal(2, new_pipe {batch_size = 2}.batch_size)
  end)

  it("takes a GenerationConfig, which replaces its own settings", function()
    local pipe = new_pipe {repetition_penalty = 1.8, do_sample = false}
    local config = phi3.GenerationConfig {max_new_tokens = 4, do_sample = false}
    local output = assert(pipe("Hello", {generation_config = config}))
    assert.are.same(new_pipe()("Hello", {max_new_tokens = 4, do_sample = false}), output)
    assert.is_nil(config.pad_token_id)
  end)

  it("samples 256 tokens at 0.7 when nobody says otherwise", function()
    if support.only_tiny then
      return -- too many for valgrind
    end
    local pipe = new_pipe()
    phi3.manual_seed(2)
    local tokens = assert(pipe("Hello", {return_tensors = true}))[1].generated_token_ids
    phi3.set_seed(2)
    local same = assert(pipe("Hello", {
      return_tensors = true, do_sample = true, temperature = 0.7, top_k = 50, max_new_tokens = 256,
    }))[1].generated_token_ids
    assert.are.same(same, tokens)
  end)

  it("records scores and logits", function()
    local output = assert(new_pipe()("Hello", {
      do_sample = false, max_new_tokens = 2, return_dict_in_generate = true, output_scores = true,
      output_logits = true,
    }))
    assert.are.equal(2, #output[1].scores)
    assert.are.equal(32064, #output[1].logits[2])
    assert.is_string(output[1].generated_text)
  end)

  it("keeps what fits of a prompt that is too long", function()
    local pipe = new_pipe()
    local limit = pipe.tokenizer.model_max_length
    pipe.tokenizer.model_max_length = 20
    local tokens = assert(pipe(("word "):rep(50), {
      do_sample = false, max_new_tokens = 5, handle_long_generation = "hole", return_tensors = true,
    }))[1].generated_token_ids
    local none, message = pipe(("word "):rep(50),
      {do_sample = false, max_new_tokens = 30, handle_long_generation = "hole"})
    pipe.tokenizer.model_max_length = limit
    assert.are.equal(20, #tokens)
    assert.is_nil(none)
    assert.is_truthy(message:find("`hole` cannot help", 1, true))
  end)

  it("loads its parts by name", function()
    local pipe = assert(phi3.pipeline("text-generation", {
      model = support.names.tiny, device_map = "cpu", torch_dtype = "auto", trust_remote_code = true,
      model_kwargs = {n_threads = 1},
    }))
    assert.are.equal("cpu", pipe.device)
    assert.are.same(new_pipe()("Hello", greedy), pipe("Hello", greedy))
    assert.are.equal("cpu", assert(phi3.pipeline("text-generation",
      {model = support.names.tiny, device = -1})).device)
  end)

  it("refuses parts that do not fit", function()
    local pipe = support.pipe "tiny"
    for _, case in ipairs {
      {nil, {}, "without a task or a model"},
      {nil, {model = pipe.model}, "Inferring the task automatically"},
      {"text-generation", {model = pipe.model}, "Impossible to guess which tokenizer"},
      {"text-generation", {tokenizer = pipe.tokenizer}, "A tokenizer without a model"},
      {"conversational", {model = "x"}, "Unknown task conversational"},
    } do
      local made, message = phi3.pipeline(case[1], case[2])
      assert.is_nil(made)
      assert.is_truthy(message:find(case[3], 1, true), message)
    end
    assert.has_error(function() phi3.pipeline("text-generation", {model = 5}) end)
    assert.has_error(function()
      phi3.pipeline("text-generation", {model = pipe.model, tokenizer = {}})
    end)
  end)

  it("refuses inputs that are no prompt", function()
    local pipe = new_pipe()
    for _, input in ipairs {5, true, {role = "user", content = "Hi"}, {5}, {{5}}, io.stdout} do
      local output, message, code = pipe(input, greedy)
      assert.is_nil(output)
      assert.is_truthy(message:find("a prompt must be a string or a chat", 1, true), message)
      assert.are.equal("wrong type", code)
    end
    local output, message = pipe("Hi", {batch_size = 0})
    assert.is_nil(output)
    assert.are.equal("batch_size must be at least 1, but is 0", message)
    output, message = pipe({"", "Hi"}, {batch_size = 2, do_sample = false})
    assert.is_nil(output)
    assert.are.equal("an empty prompt cannot be in a batch with others", message)
    assert.is_truthy(pipe("Hi", greedy))
  end)
end)

describe("the embedded model", function()
  if support.only_tiny then
    return
  end

  it("answers", function()
    local chat = {{role = "user", content = "What is the capital of France?"}}
    local output = assert(support.pipe "smollm2"(chat,
      {do_sample = false, max_new_tokens = 20, return_full_text = false}))
    assert.are.equal("The capital of France is Paris.", output[1].generated_text)
  end)
end)
