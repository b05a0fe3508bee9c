--- Devices: their words, how models are placed and split, and what a machine without CUDA says. The
-- words are in devices.json, which the Python suite reads, too.
local phi3 = require "phi3"
local cjson = require "cjson"
local support = require "support"

local SPLIT = {model = "cpu", ["model.layers.1"] = "reference", lm_head = "reference"}

local function load(options)
  return phi3.AutoModelForCausalLM.from_pretrained(support.names.tiny, options)
end

local has_cuda = false
for _, backend in ipairs(phi3.info().backends) do
  has_cuda = has_cuda or (backend.available and backend.name:find("^cuda") ~= nil)
end

local function absent(value)
  return value == cjson.null and phi3.null or value
end

describe("the words for devices", function()
  local file = assert(io.open((os.getenv("PHI3_TEST_DATA") or "tests/data") .. "/devices.json"))
  local cases = cjson.decode(file:read("*a"))
  file:close()
  for i, case in ipairs(cases) do
    it(("case %d"):format(i), function()
      if has_cuda and (case.device_map == cjson.null or case.device_map == "auto"
        or case.device_map == "balanced") then
        return
      end
      local model, message, code = load {
        device_map = absent(case.device_map), max_memory = absent(case.max_memory),
      }
      if case.error then
        assert.is_nil(model)
        assert.are.equal(case.error[2], message:sub(1, #case.error[2]))
        assert.are.equal(case.error[1], code)
        return
      end
      assert.is_nil(message)
      assert.is_true(support.equal(model.hf_device_map, case.map))
      assert.are.equal(model.device, case.map.lm_head or case.map[""])
      model:close()
    end)
  end

  it("are refused when they are of another type", function()
    local function raises(text, options)
      local ok, message = pcall(load, options)
      assert.is_false(ok)
      assert.is_truthy(tostring(message):find(text, 1, true), tostring(message))
    end
    raises("`device_map` must be a string, an integer or a table of them, not 1.5", {device_map = 1.5})
    raises("`device_map` must be a string, an integer or a table of them, not boolean",
      {device_map = {[""] = true}})
    raises("`a key of device_map` must be a string, not 1", {device_map = {"cpu"}})
    raises("`max_memory` must be an integer, a string or a table of them, not 1.5", {max_memory = 1.5})
    raises("`max_memory` must be an integer, a string or a table of them, not boolean",
      {max_memory = {cpu = true}})
    raises("`a key of max_memory` must be a string or an integer, not 1.5", {max_memory = {[1.5] = 1}})
    local _, message, code = load {device_map = {}}
    assert.are.equal("invalid argument", code)
    assert.is_truthy(message:find("empty", 1, true))
  end)

  it("say what is missing where there is no CUDA", function()
    if has_cuda then
      return
    end
    for _, device in ipairs {"cuda", "cuda:3", 0} do
      local model, message, code = load {device_map = device}
      assert.is_nil(model)
      assert.are.equal("device", code:match("^device"))
      assert.is_truthy(message:find("CUDA", 1, true))
    end
    local model = assert(load {device_map = "auto", max_memory = {[0] = "6GiB", cpu = "30GiB"}})
    assert.is_true(support.equal(model.hf_device_map, {[""] = "cpu"}))
  end)
end)

describe("a split model", function()
  it("says what one on a single device says", function()
    local whole = assert(load {device_map = "reference", compute_dtype = "float32"})
    local split = assert(load {device_map = SPLIT, compute_dtype = "float32"})
    local again = assert(load {device_map = split.hf_device_map})
    assert.is_true(support.equal(again.hf_device_map, split.hf_device_map))
    local ids = {1, 450, 7483, 310, 3444, 338, 263, 4272}
    local options = {max_new_tokens = 12, do_sample = false}
    assert.is_true(support.equal(assert(split:generate(ids, options)),
      assert(whole:generate(ids, options))))
    local expected, found = assert(whole(ids)).logits, assert(split(ids)).logits
    assert.is_near(expected[1][8][50], found[1][8][50], 1e-4)
  end)
end)
