-- Reads what is left of the quotas of all resources that dispatchers have published.
-- KEYS[1] quotas   KEYS[2] budgets   KEYS[3] sessions
-- KEYS[4..] for each resource: waiting
-- ARGV[1..] for each resource: name
-- Answer: list of {sessions, connections left in thousandths, tokens left, share of the limit in percent, ms for which it is
--         blocked, calls waiting, ms since the first of them began to wait}; what has no limit is not to be read.
local rows = {}
for i, name in ipairs(ARGV) do
  local keys = { waiting = KEYS[3 + i] }
  local limits = published_limits({ quotas = KEYS[1] }, name)
  local budget = read_budget({ budgets = KEYS[2] }, name, limits)
  local longest = 0
  local queue = redis.call('ZRANGE', keys.waiting, 0, -1, 'WITHSCORES')
  for j = 2, #queue, 2 do
    longest = math.max(longest, now - math.fmod(tonumber(queue[j]), 1e13))
  end
  table.insert(rows, {
    tonumber(redis.call('HGET', KEYS[3], name) or 0),
    math.floor(budget.c * 1000),
    math.floor(budget.t),
    math.floor(budget.f * 100),
    math.max(0, budget.b - now),
    redis.call('ZCARD', keys.waiting),
    longest,
  })
end
return rows
