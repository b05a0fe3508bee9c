--- What the library says, and where it says it.
local phi3 = require "phi3"
local support = require "support"

describe("the log", function()
  after_each(function()
    phi3.set_log_callback(nil)
    phi3.set_verbosity "warning"
  end)

  local function lines_of(call)
    local lines = {}
    phi3.set_log_callback(function(level, message)
      lines[#lines + 1] = {level, message}
    end)
    call()
    phi3.set_log_callback(nil)
    return lines
  end

  it("goes to a function", function()
    local model = support.tiny()
    local lines = lines_of(function() model:generate({1, 2}, {do_sample = false}) end)
    assert.are.equal(1, #lines)
    assert.are.equal("warning", lines[1][1])
    assert.is_truthy(lines[1][2]:find("max_new_tokens", 1, true))
  end)

  it("is as loud as it is told to be", function()
    local model = support.tiny()
    phi3.set_verbosity "silent"
    assert.are.same({}, lines_of(function() model:generate({1, 2}, {do_sample = false}) end))
    phi3.set_verbosity "debug"
    local lines = lines_of(function()
      assert(phi3.AutoModelForCausalLM.from_pretrained(support.names.tiny)):close()
    end)
    assert.is_true(#lines > 0)
    assert.has_error(function() phi3.set_verbosity "loud" end)
    assert.has_error(function() phi3.set_log_callback(5) end)
  end)

  it("warns of arguments that do nothing", function()
    local model = support.tiny()
    local lines = lines_of(function()
      model:generate({1, 2}, {do_sample = false, max_new_tokens = 1, top_p = 0.123, output_scores = true})
    end)
    assert.are.same({"warning", "The following generation flags are not valid and may be ignored: "
      .. "['top_p', 'output_scores']."}, lines[1])
  end)

  it("goes to the standard error stream by default", function()
    local program = ([[
      local phi3 = require "phi3"
      local model = phi3.AutoModelForCausalLM.from_pretrained(%q)
      model:generate({1, 2}, {do_sample = false})
    ]]):format(support.names.tiny)
    local name = os.tmpname()
    local file = assert(io.open(name, "w"))
    file:write(program)
    file:close()
    local interpreter = rawget(_G, "jit") and "luajit" or "lua5.4"
    local pipe = assert(io.popen(interpreter .. " " .. name .. " 2>&1 >/dev/null"))
    local said = pipe:read("*a")
    pipe:close()
    os.remove(name)
    assert.is_truthy(said:find("max_new_tokens", 1, true), said)
  end)
end)
