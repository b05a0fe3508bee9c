--- Models to files and back.
local phi3 = require "phi3"
local support = require "support"

local function texts_of(path)
  local pipe = assert(phi3.pipeline("text-generation", {model = path}))
  local output = assert(pipe("Hello", support.greedy))
  pipe:reset()
  pipe.model:close()
  return output
end

describe("saving", function()
  local path = os.tmpname()
  os.remove(path)

  after_each(function()
    os.remove(path .. ".gguf")
  end)

  it("writes a file that gives the same", function()
    assert.is_true(support.tiny():save_pretrained(path .. ".gguf"))
    assert.are.same(texts_of(support.names.tiny), texts_of(path .. ".gguf"))
  end)

  it("makes a directory and copies what stands beside the weights", function()
    assert.is_true(support.tiny():save_pretrained(path))
    assert.are.same(texts_of(support.names.tiny), texts_of(path))
    local config = assert(io.open(path .. "/config.json"))
    config:close()
    os.execute("rm -r '" .. path .. "'")
  end)

  it("quantizes, as a load with quantization does", function()
    local told = 0
    assert.is_true(phi3.quantize(support.names.tiny, path .. ".gguf", "q8_0",
      {progress = function(done) told = done end}))
    assert.are.equal(1, told)
    local none, message, code = phi3.quantize(support.names.tiny, path .. ".gguf", "q8_0")
    assert.is_nil(none)
    assert.is_truthy(message:find(path, 1, true))
    assert.is_string(code)
    local file = assert(phi3.AutoModelForCausalLM.from_pretrained(path .. ".gguf"))
    local loaded = assert(phi3.AutoModelForCausalLM.from_pretrained(support.names.tiny,
      {quantization = "q8_0"}))
    assert.are.equal("q8_0", file.dtype)
    local ids = {32010, 6324, 32007, 32001}
    assert.are.same(file:generate(ids, support.greedy), loaded:generate(ids, support.greedy))
    file:close()
    loaded:close()
  end)

  it("says what it cannot do", function()
    for _, call in ipairs {
      function() return phi3.quantize(support.names.tiny, path .. ".gguf", "q9_9") end,
      function() return phi3.quantize("/no/such/model", path .. ".gguf") end,
      function() return support.tiny():save_pretrained("/no/such/place/model.gguf") end,
      function() return support.tiny():save_pretrained("/no/such/place/directory") end,
      function()
        return phi3.AutoModelForCausalLM.from_pretrained(support.names.tiny, {quantization = "x"})
      end,
    } do
      local done, message, code = call()
      assert.is_nil(done)
      assert.is_string(message)
      assert.is_string(code)
    end
    assert.has_error(function() phi3.quantize(support.names.tiny, path, "q8_0", {replace = true}) end)
  end)
end)

describe("the measure of the machine", function()
  it("is how fast it can be at best", function()
    if support.only_tiny then
      return -- valgrind is not what is to be measured
    end
    local peaks = assert(phi3.measure_peaks {n_threads = 1})
    assert.are.equal(1, peaks.n_threads)
    assert.is_true(peaks.read > 0 and peaks.units_f32 > 0)
    assert.has_error(function() phi3.measure_peaks {threads = 1} end)
  end)
end)
