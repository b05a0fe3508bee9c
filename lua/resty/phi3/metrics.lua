--- GET /metrics: Prometheus text of all workers.
--
-- Each worker writes its engine's numbers into the shared dictionary `phi3` once a second, and those
-- of the worker that answers are of now. So a worker label tells them apart, and sums are Prometheus's
-- affair. HTTP requests are counted in the dictionary itself, by route and status.
local cjson = require "cjson"
local http = require "resty.phi3.http"
local phi3 = require "resty.phi3"

local M = {}

local PERIOD = 1 -- seconds between two writes of a worker

-- name, type, help, field of engine:stats()
local METRICS = {
  {"phi3_slots", "gauge", "Sequences that can be generated together.", "n_slots"},
  {"phi3_running", "gauge", "Requests that are being generated.", "n_running"},
  {"phi3_queue_size", "gauge", "Requests that the queue can hold.", "n_queue"},
  {"phi3_queued", "gauge", "Requests that wait for a slot.", "n_waiting"},
  {"phi3_kv_cache_bytes", "gauge", "Memory of the KV caches.", "kv_bytes"},
  {"phi3_submitted_total", "counter", "Requests that were taken.", "n_submitted"},
  {"phi3_refused_total", "counter", "Requests that found the queue full.", "n_refused"},
  {"phi3_finished_total", "counter", "Requests that came to their end.", "n_finished"},
  {"phi3_cancelled_total", "counter", "Requests whose client went away.", "n_cancelled"},
  {"phi3_failed_total", "counter", "Requests that failed.", "n_failed"},
  {"phi3_steps_total", "counter", "Steps of the model for all sequences together.", "n_steps"},
  {"phi3_prompt_tokens_total", "counter", "Tokens of prompts.", "prompt_tokens"},
  {"phi3_reused_tokens_total", "counter", "Tokens of prompts found in a cache.", "reused_tokens"},
  {"phi3_new_tokens_total", "counter", "Tokens generated.", "new_tokens"},
  {"phi3_prompt_seconds_total", "counter", "Time spent on prompts.", "prompt_seconds"},
  {"phi3_decode_seconds_total", "counter", "Time spent on new tokens.", "decode_seconds"},
}

local function write_stats()
  local worker = phi3.worker()
  if worker then
    ngx.shared.phi3:set("stats:" .. ngx.worker.id(), cjson.encode(worker.engine:stats()), 60 * PERIOD)
  end
end

--- To be called in init_worker_by_lua, after phi3.init_worker().
function M.init_worker()
  write_stats()
  assert(ngx.timer.every(PERIOD, write_stats))
end

--- To be called in log_by_lua.
function M.log()
  local key = ("http:%s:%s"):format(ngx.ctx.phi3_route or "/", ngx.status)
  ngx.shared.phi3:incr(key, 1, 0)
end

-- ---- Text ----------------------------------------------------------------------------------------------

local function add(lines, format, ...)
  lines[#lines + 1] = format:format(...)
end

local function stats_of_workers()
  write_stats()
  local all = {}
  for id = 0, ngx.worker.count() - 1 do
    local text = ngx.shared.phi3:get("stats:" .. id)
    if text then
      all[#all + 1] = {id = id, stats = cjson.decode(text)}
    end
  end
  return all
end

local function add_engine(lines, workers)
  for _, metric in ipairs(METRICS) do
    local name, kind, help, field = metric[1], metric[2], metric[3], metric[4]
    add(lines, "# HELP %s %s\n# TYPE %s %s", name, help, name, kind)
    for _, worker in ipairs(workers) do
      add(lines, '%s{worker="%d"} %.17g', name, worker.id, worker.stats[field])
    end
  end
end

local function add_first_tokens(lines, workers)
  local name = "phi3_time_to_first_token_seconds"
  add(lines, "# HELP %s Time from a request to its first token.\n# TYPE %s histogram", name, name)
  for _, worker in ipairs(workers) do
    local stats = worker.stats
    for _, bucket in ipairs(stats.first_token_buckets) do
      add(lines, '%s_bucket{worker="%d",le="%g"} %d', name, worker.id, bucket[1], bucket[2])
    end
    add(lines, '%s_bucket{worker="%d",le="+Inf"} %d', name, worker.id, stats.n_first_tokens)
    add(lines, '%s_sum{worker="%d"} %.17g', name, worker.id, stats.first_token_seconds)
    add(lines, '%s_count{worker="%d"} %d', name, worker.id, stats.n_first_tokens)
  end
end

local function add_http(lines)
  local name = "phi3_http_requests_total"
  add(lines, "# HELP %s HTTP requests.\n# TYPE %s counter", name, name)
  local keys = ngx.shared.phi3:get_keys(0)
  table.sort(keys)
  for _, key in ipairs(keys) do
    local route, status = key:match("^http:(.+):(%d+)$")
    if route then
      add(lines, '%s{route="%s",status="%s"} %d', name, route, status, ngx.shared.phi3:get(key) or 0)
    end
  end
end

function M.send()
  http.check(phi3.worker())
  local lines, workers = {}, stats_of_workers()
  add_engine(lines, workers)
  add_first_tokens(lines, workers)
  add_http(lines)
  ngx.header.content_type = "text/plain; version=0.0.4; charset=utf-8"
  ngx.print(table.concat(lines, "\n"), "\n")
end

return M
