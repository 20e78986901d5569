-- What wrk is told: the request, whether each response is compared, and how to print exact figures.
-- Its arguments: who must have served, a file with the body that must come, whether to compare
-- each response with both ("each" or "none"), and a file to POST, if any.

local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
end

local function content(path)
  local file = assert(io.open(path, "rb"))
  local octets = file:read("*a")
  file:close()
  return octets
end

function init(args)
  local served_by, body = args[1], content(args[2])
  wrong = 0
  if args[3] == "each" then
    -- wrk looks for this function once init is through; where there is none, it costs nothing
    response = function(status, headers, got)
      if status ~= 200 or headers["X-Served-By"] ~= served_by or got ~= body then
        wrong = wrong + 1
      end
    end
  end
  if args[4] then
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/octet-stream"
    wrk.body = content(args[4])
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  local wrong_in_all = 0
  for _, thread in ipairs(threads) do
    wrong_in_all = wrong_in_all + thread:get("wrong")
  end
  io.write(string.format(
    '\nfigures: {"requests": %d, "bytes": %d, "microseconds": %d, "p50": %d, "p99": %d, '
      .. '"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d, "wrong": %d}\n',
    summary.requests, summary.bytes, summary.duration,
    latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout, wrong_in_all))
end
