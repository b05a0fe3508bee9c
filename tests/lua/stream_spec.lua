--- Streams: the text of an answer, pulled piece by piece.
local phi3 = require "phi3"
local support = require "support"

local function args(changes)
  local all = {do_sample = false, max_new_tokens = support.only_tiny and 8 or 24}
  for name, value in pairs(changes or {}) do
    all[name] = value
  end
  return all
end

local function whole(pipe, inputs, changes)
  local settings = args(changes)
  settings.return_full_text = false
  return assert(pipe(inputs, settings))[1].generated_text
end

describe("a stream", function()
  it("joins to the answer", function()
    for _, name in ipairs(support.only_tiny and {"tiny"} or {"tiny", "smollm2"}) do
      local pipe = support.pipe(name)
      for _, inputs in ipairs {"Once upon a time", support.user} do
        local pieces = {}
        for piece in pipe:stream(inputs, args()) do
          assert.are_not.equal("", piece)
          pieces[#pieces + 1] = piece
        end
        assert.is_true(#pieces > 1)
        assert.are.equal(whole(pipe, inputs), table.concat(pieces))
      end
    end
  end)

  it("gives whole characters", function()
    local pipe = support.pipe "tiny"
    phi3.manual_seed(1)
    local text = ""
    local settings = {do_sample = true, temperature = 8.0, max_new_tokens = support.only_tiny and 15 or 60,
      eos_token_id = phi3.null}
    for piece in pipe:stream("Hello", settings) do
      assert.is_truthy(pipe.tokenizer:encode(piece)) -- valid UTF-8, or it would be refused
      text = text .. piece
    end
    phi3.manual_seed(1)
    settings.return_full_text = false
    assert.are.equal(pipe("Hello", settings)[1].generated_text, text)
  end)

  it("may be left at any time", function()
    local pipe = support.pipe "tiny"
    local expected = whole(pipe, "Hello")
    for stop = 1, support.only_tiny and 2 or 5 do
      local count = 0
      for _ in pipe:stream("Hello", args {max_new_tokens = 5000}) do
        count = count + 1
        if count == stop then
          break
        end
      end
      assert.are.equal(expected, whole(pipe, "Hello"))
    end
    collectgarbage()
  end)

  it("says why it ended and how long it took", function()
    local pipe = support.pipe "tiny"
    local stream = pipe:stream("Hello", args {max_new_tokens = 3})
    assert.are.equal("phi3.Stream", tostring(stream))
    while stream() do end
    assert.are.equal("length", stream.finish_reason)
    assert.are.equal(3, stream.timings.new_tokens)
    assert.is_nil(stream())
    assert.are.equal("phi3.Stream (closed)", tostring(stream))
    stream:close()
  end)

  it("gives the conversation back when it is closed", function()
    local pipe = assert(phi3.pipeline("text-generation",
      {model = support.pipe "tiny".model, tokenizer = support.pipe "tiny".tokenizer}))
    local stream = pipe:stream(support.user, args())
    assert.is_nil(pipe.cache)
    stream()
    stream:close()
    assert.is_true(pipe.cache:get_seq_length() > 0)
    local again = pipe:stream(support.user, args())
    again()
    again:close()
    assert.is_true(again.timings.reused_tokens > 0)
    pipe:reset()
    assert.is_nil(pipe.cache)
  end)

  it("ends with its loop in Lua 5.4", function()
    if _VERSION ~= "Lua 5.4" then
      return -- there it ends when it is collected
    end
    local pipe = support.pipe "tiny"
    local kept
    local original = pipe.stream
    local made = {original(pipe, "Hello", args {max_new_tokens = 50})}
    kept = made[1]
    for _ in made[1], made[2], made[3], made[4] do
      break
    end
    assert.are.equal("phi3.Stream (closed)", tostring(kept))
  end)

  it("raises what goes wrong, at its caller", function()
    local pipe = support.pipe "tiny"
    local ok, message = pcall(function()
      for _ in pipe:stream("Hello", {do_sample = true, temperature = 0.0}) do break end
    end)
    assert.is_false(ok)
    assert.is_truthy(message:find("stream_spec.lua:%d+: `temperature` has to be a strictly positive float"),
      message)
    ok, message = pcall(pipe.stream, pipe, {"a", "b"})
    assert.is_false(ok)
    assert.is_truthy(message:find("a stream is of one string or one chat", 1, true))
    ok, message = pcall(pipe.stream, pipe, "a", {do_sample = true, num_return_sequences = 2})
    assert.is_false(ok)
    assert.is_truthy(message:find("a stream gives one sequence", 1, true))
    ok, message = pcall(pipe.stream, pipe, "a", args {streamer = phi3.TextStreamer(pipe.tokenizer)})
    assert.is_false(ok)
    assert.is_truthy(message:find("leave `streamer` out", 1, true))
    assert.is_truthy(pipe("Hello", support.greedy)) -- and the pipeline still works
  end)

  it("is stopped by an interrupt", function()
    local pipe = support.pipe "tiny"
    local long = ("word "):rep(support.only_tiny and 200 or 3000)
    local ok, message = pcall(function()
      for _ in pipe:stream(long, args {interrupt = function() return true end}) do break end
    end)
    assert.is_false(ok)
    assert.is_truthy(message:find("interrupted", 1, true))
  end)

  it("can be read from inside a coroutine", function()
    local pipe = support.pipe "tiny"
    local next_piece = coroutine.wrap(function()
      for piece in pipe:stream("Hello", args()) do
        coroutine.yield(piece)
      end
    end)
    local text = ""
    for piece in next_piece do
      text = text .. piece
    end
    assert.are.equal(whole(pipe, "Hello"), text)
  end)

  it("is one of many at a time", function()
    local pipe = support.pipe "tiny"
    local prompts = {"Hello", "Once upon", "The end"}
    local streams, texts = {}, {}
    for i, prompt in ipairs(prompts) do
      streams[i], texts[i] = pipe:stream(prompt, args()), ""
    end
    local running = #streams
    while running > 0 do
      running = 0
      for i, stream in ipairs(streams) do
        local piece = stream()
        if piece then
          texts[i], running = texts[i] .. piece, running + 1
        end
      end
    end
    for i, prompt in ipairs(prompts) do
      assert.are.equal(whole(pipe, prompt), texts[i])
    end
  end)
end)

describe("a TextStreamer", function()
  local function streamed(tokenizer, options, feed)
    local pieces = {}
    options.on_finalized_text = function(text, stream_end)
      pieces[#pieces + 1] = stream_end and {text} or text
    end
    local streamer = phi3.TextStreamer(tokenizer, options)
    feed(streamer)
    return pieces
  end

  it("gives out whole words and lines, as transformers does", function()
    local _, tokenizer = support.tiny()
    local pieces = streamed(tokenizer, {}, function(streamer)
      for _, id in ipairs(tokenizer:encode("Hello\n world\nfoo bar")) do
        streamer:put {id}
      end
      streamer:finish()
    end)
    -- A line's end clears what is remembered, and with it the space before the next word.
    assert.are.same({"", "Hello\n", "", "world\n", "", "foo ", {"bar"}}, pieces)
  end)

  it("is fed by generate", function()
    local model, tokenizer = support.tiny()
    local ids = tokenizer:encode("Hello")
    local new
    local pieces = streamed(tokenizer, {skip_prompt = true}, function(streamer)
      new = assert(model:generate(ids, {do_sample = false, max_new_tokens = 9, streamer = streamer}))
    end)
    local text = ""
    for _, piece in ipairs(pieces) do
      text = text .. (type(piece) == "table" and piece[1] or piece)
    end
    local rest = {}
    for i = #ids + 1, #new[1] do
      rest[#rest + 1] = new[1][i]
    end
    assert.are.equal(tokenizer:decode(rest), text)
  end)
end)
