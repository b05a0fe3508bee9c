--- How calls fail, and what they may be given.
--
-- Two kinds of failure, as in Lua's own libraries: what can happen (a file that is not there, an
-- argument out of range) makes a function return nil, a message and a code; misuse (a wrong type, an
-- option that does not exist) raises an error at the caller.
--
-- Inside, both are errors: a Failure for the first kind, a string without a position for the second.
-- `protect` tells them apart where a function meets its caller.
local core = require "phi3.core"

local M = {}

local Failure = {__name = "phi3.Failure"}

function Failure:__tostring()
  return self.message
end

--- Fails a call: its caller gets nil, message, code.
function M.fail(code, message, ...)
  if select("#", ...) > 0 then
    message = message:format(...)
  end
  error(setmetatable({code = code, message = message}, Failure), 0)
end

--- Raises an error at the caller of the call.
function M.misuse(message, ...)
  if select("#", ...) > 0 then
    message = message:format(...)
  end
  error(message, 0)
end

--- Passes on what a function of phi3.core returned, or fails as it did.
function M.check(value, message, code, ...)
  if value == nil and message ~= nil then
    M.fail(code, "%s", message)
  end
  return value, message, code, ...
end

-- ---- Log lines ------------------------------------------------------------------------------------

local LEVELS = {debug = 10, info = 20, warning = 30, error = 40, silent = 100}
local NAMES = {[10] = "debug", [20] = "info", [30] = "warning", [40] = "error"}
local log_callback

local function deliver_log()
  while log_callback do
    local level, message = core.poll_log()
    if not level then
      return
    end
    log_callback(NAMES[level] or level, message)
  end
end

--- Chooses which lines are shown: "debug", "info", "warning" (the default), "error", "silent".
-- Process-wide, as the library's own log.
function M.set_verbosity(level)
  if not LEVELS[level] then
    error(("set_verbosity: 'debug', 'info', 'warning', 'error' or 'silent' expected, got %s")
      :format(tostring(level)), 2)
  end
  core.set_verbosity(LEVELS[level])
end

--- Sends log lines to callback(level, message) instead of the standard error stream; nil: back.
-- The lines of a call come when it returns.
function M.set_log_callback(callback)
  if callback ~= nil and type(callback) ~= "function" then
    error("set_log_callback: a function or nil expected, got " .. type(callback), 2)
  end
  log_callback = callback
  core.queue_log(callback ~= nil)
end

function M.warn(message, ...)
  core.log(LEVELS.warning, select("#", ...) > 0 and message:format(...) or message)
end

local warned = {}

--- Logs a warning the first time that it comes up.
function M.warn_once(message, ...)
  message = select("#", ...) > 0 and message:format(...) or message
  if not warned[message] then
    warned[message] = true
    M.warn(message)
  end
end

-- ---- The border ------------------------------------------------------------------------------------

local function finish(ok, ...)
  deliver_log()
  if ok then
    return ...
  end
  local reason = ...
  if getmetatable(reason) == Failure then
    return nil, reason.message, reason.code
  end
  if type(reason) == "string" and not reason:find("^[^\n]-:%d+: ") then
    error(reason, 2) -- misuse: the position is the caller's, who tail-called us
  end
  error(reason, 0)
end

--- A function for users made of one that fails by errors.
function M.protect(inner)
  return function(...)
    return finish(pcall(inner, ...))
  end
end

--- The same for iterators, which have no way to return a failure: it is raised, as io.lines does.
function M.raise(inner)
  local function pass(ok, ...)
    deliver_log()
    if ok then
      return ...
    end
    local reason = ...
    if getmetatable(reason) == Failure then
      reason = reason.message
    end
    error(reason, type(reason) == "string" and not reason:find("^[^\n]-:%d+: ") and 2 or 0)
  end
  return function(...)
    return pass(pcall(inner, ...))
  end
end

-- ---- Arguments ---------------------------------------------------------------------------------------

--- Whether a value stands for nothing: nil, or the null of JSON.
function M.is_absent(value)
  return value == nil or value == core.null
end

--- A value, or nil for null.
function M.optional(value)
  if value == core.null then
    return nil
  end
  return value
end

--- The value of the first argument that is not nil.
function M.first(...)
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    if value ~= nil then
      return value
    end
  end
  return nil
end

function M.set_of(...)
  local set = {}
  for _, names in ipairs {...} do
    for _, name in ipairs(names) do
      set[name] = true
    end
  end
  return set
end

function M.keys(set)
  local names = {}
  for name in pairs(set) do
    names[#names + 1] = name
  end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  return names
end

function M.copy(source)
  local result = {}
  for key, value in pairs(source) do
    result[key] = value
  end
  return result
end

--- Refuses options that a function does not have, by name. Returns the options, {} for none.
function M.check_options(what, options, known)
  if options == nil then
    return {}
  end
  if type(options) ~= "table" then
    M.misuse("%s: options must be a table, not %s", what, type(options))
  end
  for name in pairs(options) do
    if not known[name] then
      M.misuse("%s does not take '%s'%s", what, tostring(name), M.suggestion(name, known))
    end
  end
  return options
end

--- " (did you mean 'x'?)", or nothing.
function M.suggestion(name, known)
  local closest = type(name) == "string" and core.closest(name, M.keys(known))
  return closest and (" (did you mean '%s'?)"):format(closest) or ""
end

--- Raises an error unless a value is of the type, or absent where that is allowed.
function M.check_type(what, name, value, wanted)
  if type(value) ~= wanted then
    M.misuse("%s: `%s` must be a %s, not %s", what, name, wanted, type(value))
  end
  return value
end

--- Whether a value is an integer, in any of Lua's ways to store one.
function M.is_integer(value)
  return type(value) == "number" and value == math.floor(value) and math.abs(value) < 2 ^ 63
end

--- A list of names as Python shows it: ['a', 'b'].
function M.show_list(names)
  local shown = {}
  for i, name in ipairs(names) do
    shown[i] = ("'%s'"):format(tostring(name))
  end
  return "[" .. table.concat(shown, ", ") .. "]"
end

--- Raises an error, in transformers' words, when there are names of arguments that nothing takes.
function M.refuse_unused(unused, known)
  if #unused == 0 then
    return
  end
  table.sort(unused)
  M.misuse("The following `model_kwargs` are not used by the model: %s (note: typos in the generate "
    .. "arguments will also show up in this list)%s", M.show_list(unused),
    M.suggestion(unused[1], known))
end

return M
