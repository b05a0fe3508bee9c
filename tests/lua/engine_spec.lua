--- Engines: many requests together, each with what it would get alone.
local phi3 = require "phi3"
local support = require "support"

local ENDLESS = {max_new_tokens = 200, temperature = 3.0, eos_token_id = phi3.null}

local function new_engine(options)
  local model, tokenizer = support.tiny()
  local all = {model = model, tokenizer = tokenizer}
  for name, value in pairs(options or {}) do
    all[name] = value
  end
  return assert(phi3.Engine(all))
end

local function alone(prompt, seed, settings)
  phi3.manual_seed(seed)
  local model, tokenizer = support.tiny()
  local ids = tokenizer(prompt).input_ids
  local row = assert(model:generate({ids}, settings))[1]
  local new = {}
  for i = #ids + 1, #row do
    new[#new + 1] = row[i]
  end
  return tokenizer:decode(new, {skip_special_tokens = true})
end

local function wait_until(condition)
  local deadline = os.time() + 30
  repeat
    assert(os.time() < deadline, "waited in vain")
  until condition()
end

describe("an engine", function()
  it("gives every request what it would get alone", function()
    local engine, requests = new_engine {n_slots = 3}, {}
    local settings = {max_new_tokens = 12, do_sample = true, temperature = 1.5}
    local function prompt(i)
      return ("Number %d is"):format(i):rep(i)
    end
    for i = 1, 7 do
      local args = {seed = i}
      for name, value in pairs(settings) do
        args[name] = value
      end
      requests[i] = assert(engine:submit(prompt(i), args))
    end
    for i = 7, 1, -1 do
      assert.are.equal(alone(prompt(i), i, settings), assert(requests[i]:text()))
      assert.is_true(requests[i].info.new_tokens <= 12)
    end
    local stats = engine:stats()
    assert.are.equal(7, stats.n_finished)
    assert.is_true(stats.n_steps < stats.new_tokens)
    engine:close()
  end)

  it("answers chats in pieces, as a pipeline does", function()
    local engine, pieces = new_engine(), {}
    local request = assert(engine:submit(support.user, support.greedy))
    for piece in request do
      assert.are_not.equal("", piece)
      pieces[#pieces + 1] = piece
    end
    local args = {do_sample = false, max_new_tokens = 6, return_full_text = false}
    local expected = assert(support.pipe "tiny"(support.user, args))[1].generated_text
    assert.are.equal(expected, table.concat(pieces))
    assert.are.equal("length", request.finish_reason)
    assert.are.equal(6, request.info.new_tokens)
    assert.is_nil(request:next())
    engine:close()
  end)

  it("refuses what its queue cannot hold", function()
    local engine = new_engine {n_slots = 1, queue = 1}
    local first = assert(engine:submit("Once", ENDLESS))
    wait_until(function() return engine:stats().n_running == 1 or engine:stats().n_finished == 1 end)
    local second = assert(engine:submit("Once", ENDLESS))
    local third, message, code = engine:submit("Once", ENDLESS)
    if engine:stats().n_finished == 0 then
      assert.is_nil(third)
      assert.are.equal("queue full", code)
      assert.is_truthy(message:find("waiting already", 1, true))
    end
    first:close()
    second:close()
    wait_until(function() return engine:stats().n_running + engine:stats().n_waiting == 0 end)
    engine:close()
  end)

  it("stops requests when it is closed, and those that nobody holds", function()
    local engine = new_engine()
    local request = assert(engine:submit("Once", ENDLESS))
    assert(engine:submit("Twice", ENDLESS))
    collectgarbage()
    collectgarbage()
    engine:close()
    local text, message, code = request:text()
    if not text then -- unless it had come to its end
      assert.are.equal("interrupted", code)
      assert.are.equal("the engine was closed", message)
    end
    assert.has_error(function() engine:submit "Once" end)
  end)

  it("says what is wrong with a request", function()
    local engine = new_engine {max_length = 50}
    local function outcome(input, args)
      local request, message, code = engine:submit(input, args)
      if request then
        local text
        text, message, code = request:text()
        assert.is_nil(text)
      end
      return code, message
    end
    local long = ("a b "):rep(50)
    for _, case in ipairs {
      {"", nil, "invalid argument", "empty"},
      {long, nil, "invalid argument", "too long"},
      {"\255", nil, "wrong type", "UTF-8"},
      {{1e6}, nil, "invalid argument", "vocabulary"},
      {"Hi", {temperature = -1}, "invalid argument", "temperature"},
      {"Hi", {num_return_sequences = 2}, "invalid argument", "num_return_sequences"},
      {"Hi", {num_beams = 2}, "unsupported", "num_beams"},
    } do
      local code, message = outcome(case[1], case[2])
      assert.are.equal(case[3], code)
      assert.is_truthy(message:find(case[4], 1, true), message)
    end
    assert.has_error(function() engine:submit("Hi", {colour = 1}) end)
    assert.has_error(function() engine:submit(5) end)
    assert.has_error(function() engine:submit("Hi", {seed = 1.5}) end)
    assert.has_error(function() phi3.Engine {slots = 1} end)
    local none, _, code = phi3.Engine {model = support.tiny(), max_length = 1}
    assert.is_nil(none)
    assert.are.equal("invalid argument", code)
    engine:close()
  end)
end)
