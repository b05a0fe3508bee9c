--- Truncation and padding: the rows of a batch brought to the lengths that are asked for.
local calls = require "phi3.calls"

local M = {}

M.UNLIMITED = 1e30 -- model_max_length when nobody names one, as in transformers

-- The length to cut every row to; nil to leave them as they are.
local function truncation_length(tokenizer, options)
  local truncation = calls.optional(options.truncation)
  local most = calls.optional(options.max_length)
  if truncation == nil then
    truncation = most ~= nil and not options.padding
  end
  if truncation == false or truncation == "do_not_truncate" then
    return nil
  end
  if truncation ~= true and truncation ~= "longest_first" and truncation ~= "only_first" then
    calls.fail("invalid argument", "'%s' is not a way to truncate", tostring(truncation))
  end
  return most or tokenizer.model_max_length
end

-- The length to pad every row to; nil to leave them as they are.
local function padded_width(tokenizer, longest, options)
  local padding = options.padding
  if calls.is_absent(padding) or padding == false or padding == "do_not_pad" then
    return nil
  end
  if padding ~= true and padding ~= "longest" and padding ~= "max_length" then
    calls.fail("invalid argument", "'%s' is not a way to pad", tostring(padding))
  end
  if not tokenizer.pad_token_id then
    calls.fail("invalid argument", "Asking to pad but the tokenizer does not have a padding token: "
      .. "set one, for example `tokenizer.pad_token = tokenizer.eos_token`")
  end
  local width = longest
  if padding == "max_length" then
    local limit = calls.optional(options.max_length) or tokenizer.model_max_length
    if limit >= M.UNLIMITED then
      return nil
    end
    width = math.max(longest, limit)
  end
  local multiple = calls.optional(options.pad_to_multiple_of)
  return multiple and math.ceil(width / multiple) * multiple or width
end

local function cut(row, length, side)
  if #row <= length then
    return row
  end
  local first = side == "left" and #row - length or 0
  local result = {}
  for i = 1, length do
    result[i] = row[first + i]
  end
  return result
end

--- The row with `filler` at one side, up to a width.
function M.fill(row, width, filler, side)
  local result, gap = {}, width - #row
  for i = 1, width do
    if side == "left" then
      result[i] = i <= gap and filler or row[i - gap]
    else
      result[i] = row[i] or filler
    end
  end
  return result
end

local function longest_of(rows)
  local longest = 0
  for _, row in ipairs(rows) do
    longest = math.max(longest, #row)
  end
  return longest
end

local function warn_of_length(tokenizer, longest)
  if longest > tokenizer.model_max_length and not rawget(tokenizer, "warned_of_length") then
    rawset(tokenizer, "warned_of_length", true)
    calls.warn("Token indices sequence length is longer than the model's maximum (%d > %d).", longest,
      tokenizer.model_max_length)
  end
end

--- Shapes the columns of an encoding, {input_ids = rows, ...}, all alike; options are tokenizer()'s.
function M.shape(tokenizer, columns, options)
  local length = truncation_length(tokenizer, options)
  if length then
    for _, rows in pairs(columns) do
      for i, row in ipairs(rows) do
        rows[i] = cut(row, length, tokenizer.truncation_side)
      end
    end
  end
  warn_of_length(tokenizer, longest_of(columns.input_ids))
  local width = padded_width(tokenizer, longest_of(columns.input_ids), options)
  local side = calls.optional(options.padding_side) or tokenizer.padding_side
  if side ~= "left" and side ~= "right" then
    calls.fail("invalid argument", "padding_side must be 'left' or 'right', not '%s'", tostring(side))
  end
  local fillers = {input_ids = tokenizer.pad_token_id, attention_mask = 0, offset_mapping = {1, 0}}
  for name, rows in pairs(width and columns or {}) do
    for i, row in ipairs(rows) do
      rows[i] = M.fill(row, width, fillers[name], side)
    end
  end
end

return M
