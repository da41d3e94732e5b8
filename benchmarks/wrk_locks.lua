-- One PUT for each lock, of an id that nobody has asked for.
local name, session, value = os.getenv("BENCH_NAME"), os.getenv("BENCH_SESSION"), os.getenv("BENCH_VALUE")
local number = 0

request = function()
  number = number + 1
  return wrk.format("PUT", "/v1/kv/" .. name .. "/" .. number .. "/lock?acquire=" .. session, nil, value)
end
