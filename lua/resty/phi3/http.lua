--- What the protocols share of HTTP: JSON bodies, problems that end a request, and streams of lines.
local cjson = require "cjson"

local M = {}

local json = cjson.new()
json.decode_invalid_numbers(false)

M.null = cjson.null

--- JSON text of a table. `empty`: the name of a field to add that is an empty list.
function M.encode(value, empty)
  local text = json.encode(value)
  return empty and ('{"%s":[],%s'):format(empty, text:sub(2)) or text
end

-- ---- Problems ------------------------------------------------------------------------------------------

local Problem = {}

--- Ends a request with a status and a message; `details`: param, code.
function M.fail(status, message, details)
  local problem = details or {}
  problem.status, problem.message = status, message
  error(setmetatable(problem, Problem), 0)
end

--- The problem in what pcall has caught. A defect of this server is logged and not shown.
function M.problem_of(reason)
  if getmetatable(reason) == Problem then
    return reason
  end
  ngx.log(ngx.ERR, "phi3: ", tostring(reason))
  return {status = 500, message = "internal error, see the server's log"}
end

-- What the library's codes are in HTTP; the rest is the server's fault.
local STATUS_OF = {
  ["invalid argument"] = 400, ["wrong type"] = 400, ["unsupported"] = 400, ["queue full"] = 503,
  ["out of memory"] = 503, ["interrupted"] = 503, ["not found"] = 503,
}

--- Ends a request with a failure of the library, unless `value` is there.
function M.check(value, message, code)
  if value == nil and message then
    local status = STATUS_OF[code] or 500
    M.fail(status, message, {code = status == 400 and "invalid_request" or code:gsub(" ", "_")})
  end
  return value
end

-- ---- Bodies --------------------------------------------------------------------------------------------

--- The request's body, a JSON object.
function M.read_json()
  ngx.req.read_body()
  local body = ngx.req.get_body_data()
  if not body then
    M.fail(400, "the request has no body: a JSON object expected")
  end
  if not ngx.re.find(body, "^", "u") then -- with "u" the whole subject is checked
    M.fail(400, "the body is not valid JSON: it is not UTF-8")
  end
  local ok, value = pcall(json.decode, body)
  if not ok then
    M.fail(400, "the body is not valid JSON: " .. tostring(value))
  end
  if type(value) ~= "table" or value[1] ~= nil then
    M.fail(400, "the body must be a JSON object")
  end
  return value
end

--- Answers with JSON.
function M.send_json(value, status, empty)
  ngx.status = status or 200
  ngx.header.content_type = "application/json"
  local text = M.encode(value, empty)
  ngx.header.content_length = #text + 1
  ngx.print(text, "\n")
end

--- Begins an answer that comes in pieces.
function M.begin_stream(content_type)
  ngx.header.content_type = content_type
  ngx.header.cache_control = "no-cache"
  ngx.header["X-Accel-Buffering"] = "no"
end

--- Sends a piece now. False when the client has gone.
function M.send_piece(...)
  return ngx.print(...) and ngx.flush(true)
end

return M
