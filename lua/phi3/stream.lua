--- Text as it is generated, pulled piece by piece: what pipe:stream() returns.
local calls = require "phi3.calls"

local M = {}

local Stream = {__name = "phi3.Stream"}
Stream.__index = Stream

--- Inside: `begun` is what decoding.begin returned; `at_end` is called once, when it is over.
function M.new(begun, decoder, at_end)
  if begun.config.num_return_sequences and begun.config.num_return_sequences > 1 then
    calls.fail("invalid argument", "a stream gives one sequence: leave `num_return_sequences` at 1")
  end
  return setmetatable({
    run = begun.run, interrupt = begun.interrupt, decoder = decoder, at_end = at_end,
  }, Stream)
end

-- The next piece that is not empty, or nil at the end.
local function next_piece(self)
  while self.run do
    if self.run:done() then
      local rest = calls.check(self.decoder:finish())
      self:close()
      return rest ~= "" and rest or nil
    end
    local tokens = calls.check(self.run:step(self.interrupt))
    local piece = calls.check(self.decoder:put(tokens[1]))
    if piece ~= "" then
      return piece
    end
  end
  return nil
end

local raise_failures = calls.raise(next_piece)

--- stream(): the next piece of text, never half a character; nil at the end.
function Stream:__call()
  return raise_failures(self)
end

--- Stops, and gives the memory back. What finish_reason and timings say stays.
function Stream:close()
  if not self.run then
    return
  end
  self.finish_reason = self.run:finish_reasons()[1] or nil
  self.timings = self.run:timings()
  self.run:close()
  self.decoder:close()
  self.run, self.decoder = nil, nil
  self.at_end()
end

Stream.__close = Stream.close

function Stream:__tostring()
  return self.run and "phi3.Stream" or "phi3.Stream (closed)"
end

return M
