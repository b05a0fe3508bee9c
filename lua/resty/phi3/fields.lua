--- Fields of a JSON body: what they may be, and what to say when they are not.
local http = require "resty.phi3.http"

local M = {}

local function refuse(name, message, ...)
  http.fail(400, ("'%s' %s"):format(name, message:format(...)), {param = name, code = "invalid_value"})
end
M.refuse = refuse

local function shown(value)
  return type(value) == "table" and "a list or an object" or type(value) == "userdata" and "null"
    or type(value) == "string" and "a string" or tostring(value)
end

-- ---- Kinds of fields: functions of a name and a value that return the value or refuse it --------------

--- A number from `least` to `most`; `above`: more than `least`.
function M.number(least, most, above)
  return function(name, value)
    if type(value) ~= "number" then
      refuse(name, "must be a number, not %s", shown(value))
    elseif value < least or value > most or (above and value == least) then
      refuse(name, "must be %s %g%s, but is %g", above and "more than" or "at least", least,
        most < math.huge and (" and at most %g"):format(most) or "", value)
    end
    return value
  end
end

--- An integer from `least` to `most`.
function M.integer(least, most)
  local number = M.number(least, most)
  return function(name, value)
    if number(name, value) % 1 ~= 0 then
      refuse(name, "must be an integer, but is %g", value)
    end
    return value
  end
end

function M.boolean(name, value)
  if type(value) ~= "boolean" then
    refuse(name, "must be true or false, not %s", shown(value))
  end
  return value
end

function M.string(name, value)
  if type(value) ~= "string" then
    refuse(name, "must be a string, not %s", shown(value))
  end
  return value
end

function M.object(name, value)
  if type(value) ~= "table" or value[1] ~= nil then
    refuse(name, "must be an object, not %s", shown(value))
  end
  return value
end

--- A string or a list of up to `most` of them: a list.
function M.strings(most)
  return function(name, value)
    local list = type(value) == "table" and value or {value}
    for _, one in ipairs(list) do
      if type(one) ~= "string" or one == "" then
        refuse(name, "must be a string or a list of strings that are not empty")
      end
    end
    if #list > most or (#list == 0 and next(list) ~= nil) then
      refuse(name, "can be up to %d strings", most)
    end
    return list
  end
end

--- Something that changes nothing here.
function M.anything(_, value)
  return value
end

--- Something that this server can do in one way only: any of these values, or an empty list or object.
function M.only(...)
  local allowed = {...}
  return function(name, value)
    for _, one in ipairs(allowed) do
      if value == one then
        return value
      end
    end
    if type(value) == "table" and next(value) == nil then
      return value
    end
    refuse(name, "is not supported by this server, other than %s",
      #allowed > 0 and "as " .. http.encode(allowed[1]) or "empty")
  end
end

-- ---- Checks --------------------------------------------------------------------------------------------

--- The fields of `body` as `kinds` allow them; null is nothing. Others are refused by name. `where`:
-- the name of what they are the fields of.
function M.check(body, kinds, where)
  local checked = {}
  for name, value in pairs(body) do
    local kind, full = kinds[name], (where and where .. "." or "") .. tostring(name)
    if not kind then
      http.fail(400, ("unknown field '%s'"):format(full), {param = full, code = "unknown_parameter"})
    end
    if value ~= http.null then
      checked[name] = kind(full, value)
    end
  end
  return checked
end

--- Messages as phi3 takes them. `kinds`: the fields of a message; `text_of` makes text of its content.
function M.messages(name, value, kinds, text_of)
  if type(value) ~= "table" or #value == 0 then
    refuse(name, "must be a list of messages, and not empty")
  end
  local messages = {}
  for i, one in ipairs(value) do
    local place = ("%s[%d]"):format(name, i - 1)
    if type(one) ~= "table" then
      refuse(place, "must be an object, not %s", shown(one))
    end
    local message = M.check(one, kinds, place)
    if not message.role then
      refuse(place .. ".role", "is missing")
    end
    messages[i] = {role = message.role, content = text_of(place .. ".content", message.content)}
  end
  return messages
end

return M
