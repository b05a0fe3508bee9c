--- A server: routes, the answers to what has no route, and cross-origin requests.
--
--     location / { content_by_lua_block { require("resty.phi3.server").serve() } }
local http = require "resty.phi3.http"
local metrics = require "resty.phi3.metrics"
local ollama = require "resty.phi3.ollama"
local openai = require "resty.phi3.openai"
local phi3 = require "resty.phi3"

local M = {}

local function health()
  local worker, message = phi3.worker()
  if not worker then
    http.send_json({status = "error", error = message}, 503)
  else
    http.send_json {status = "ok", model = worker.name}
  end
end

-- path = {method = handler}; whoever's protocol it is words the problems.
local ROUTES = {
  ["/v1/chat/completions"] = {protocol = openai, POST = openai.chat_completions},
  ["/v1/completions"] = {protocol = openai, POST = openai.completions},
  ["/v1/models"] = {protocol = openai, GET = openai.models},
  ["/api/chat"] = {protocol = ollama, POST = ollama.chat},
  ["/api/generate"] = {protocol = ollama, POST = ollama.generate},
  ["/api/tags"] = {protocol = ollama, GET = ollama.tags},
  ["/api/show"] = {protocol = ollama, POST = ollama.show},
  ["/api/version"] = {protocol = ollama, GET = ollama.version},
  ["/api/ps"] = {protocol = ollama, GET = ollama.ps},
  ["/health"] = {protocol = openai, GET = health},
  ["/metrics"] = {protocol = openai, GET = metrics.send},
}

-- The route of a path, and what follows it.
local function route_of(path)
  local name = path:match("^/v1/models/(.+)$")
  if name then
    return {protocol = openai, GET = function() openai.model(name) end}, "/v1/models/"
  end
  return ROUTES[path], ROUTES[path] and path
end

local function protocol_of(path)
  return path:find("^/api/") and ollama or openai
end

-- Pages from elsewhere may use this server, as those of its users do with Ollama and llama.cpp.
local function allow_origins(route)
  local header = ngx.header
  header["Access-Control-Allow-Origin"] = "*"
  if ngx.req.get_method() ~= "OPTIONS" then
    return false
  end
  header["Access-Control-Allow-Methods"] = (route.GET and "GET" or "POST") .. ", OPTIONS"
  header["Access-Control-Allow-Headers"] = ngx.var.http_access_control_request_headers or "*"
  header["Access-Control-Max-Age"] = 86400
  ngx.status = 204
  return true
end

local function handle(path, route)
  if not route then
    http.fail(404, "there is nothing at " .. path, {code = "not_found"})
  end
  if allow_origins(route) then
    return
  end
  local method = ngx.req.get_method()
  local handler = route[method] or (method == "HEAD" and route.GET)
  if not handler then
    ngx.header.allow = (route.GET and "GET, HEAD" or "POST") .. ", OPTIONS"
    http.fail(405, ("%s is not a method of %s"):format(method, path), {code = "method_not_allowed"})
  end
  handler()
end

local function send_problem(protocol, problem)
  if problem.status == 503 then
    ngx.header.retry_after = 1
  end
  protocol.send_problem(problem)
end

--- Answers a request.
function M.serve()
  local path = ngx.var.uri
  local route, name = route_of(path)
  ngx.ctx.phi3_route = name or "other"
  local ok, reason = pcall(handle, path, route)
  if not ok and not ngx.headers_sent then
    send_problem(route and route.protocol or protocol_of(path), http.problem_of(reason))
  elseif not ok then
    http.problem_of(reason)
  end
end

--- Answers in place of nginx's own pages for what it refuses: error_page 413 = @refused.
function M.refuse()
  local status = ngx.status
  local messages = {[413] = "the body is larger than this server takes (client_max_body_size)"}
  ngx.header["Access-Control-Allow-Origin"] = "*"
  ngx.ctx.phi3_route = "refused"
  send_problem(protocol_of(ngx.var.request_uri or ""), {
    status = status, message = messages[status] or "the request was refused", code = "refused",
  })
end

return M
