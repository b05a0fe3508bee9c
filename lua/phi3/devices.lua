--- The words for devices and their memory: transformers' in, phi3.core's out.
local calls = require "phi3.calls"

local M = {}

local FROM_PRETRAINED = "from_pretrained()"

local function refuse(argument, wanted, value)
  calls.misuse("%s: `%s` must be %s, not %s", FROM_PRETRAINED, argument, wanted,
    type(value) == "number" and tostring(value) or type(value))
end

--- A device: a name, or a CUDA device's number (-1: the CPU).
function M.device_word(device)
  if calls.is_integer(device) then
    return device >= 0 and ("cuda:%.0f"):format(device) or device == -1 and "cpu"
      or ("%.0f"):format(device)
  end
  if type(device) ~= "string" then
    refuse("device_map", "a string, an integer or a table of them", device)
  end
  return device
end

local function key_word(argument, key, takes_numbers)
  if takes_numbers and calls.is_integer(key) then
    return ("%.0f"):format(key)
  end
  if type(key) ~= "string" then
    refuse("a key of " .. argument, takes_numbers and "a string or an integer" or "a string", key)
  end
  if key:find("[=,]") then
    calls.fail("invalid argument", "%s: '%s' is not a name", argument, key)
  end
  return key
end

--- `device_map`: a device, "auto", or a table that gives the modules of transformers' model one.
function M.device_words(device_map)
  if calls.is_absent(device_map) then
    return "auto"
  end
  if type(device_map) ~= "table" then
    return M.device_word(device_map)
  end
  local pairs_of_words = {}
  for module, device in pairs(device_map) do
    pairs_of_words[#pairs_of_words + 1] = key_word("device_map", module, false) .. "="
      .. M.device_word(device)
  end
  if #pairs_of_words == 0 then
    calls.fail("invalid argument", "device_map is an empty table: no module has a place")
  end
  return table.concat(pairs_of_words, ",")
end

local function size_word(size)
  if calls.is_integer(size) then
    return ("%.0f"):format(size)
  end
  if type(size) ~= "string" then
    refuse("max_memory", "an integer, a string or a table of them", size)
  end
  return size
end

--- `max_memory`: bytes or "6GiB" for each device, or a table {[0] = "6GiB", cpu = "30GiB"}.
function M.memory_words(max_memory)
  if calls.is_absent(max_memory) then
    return nil
  end
  if type(max_memory) ~= "table" then
    return size_word(max_memory)
  end
  local pairs_of_words = {}
  for device, size in pairs(max_memory) do
    pairs_of_words[#pairs_of_words + 1] = key_word("max_memory", device, true) .. "="
      .. size_word(size)
  end
  return table.concat(pairs_of_words, ",")
end

--- transformers' hf_device_map of what phi3.core says: CUDA devices by their numbers.
function M.hf_device_map(places)
  local map = {}
  for _, place in ipairs(places) do
    map[place.module] = tonumber(place.device:match("^cuda:(%d+)$")) or place.device
  end
  return map
end

return M
