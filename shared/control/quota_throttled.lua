-- Notes that the service has answered 429 for a resource: nothing is opened there for a while, and then less than before.
-- KEYS[1] budgets   KEYS[2] quotas   KEYS[3] events
-- ARGV[1] resource   ARGV[2] ms that the service asks to wait, 0 when it does not say: THROTTLED_ONCE_MS
-- Answer: nothing.
local limits = published_limits({ quotas = KEYS[2] }, ARGV[1])
local budget = read_budget({ budgets = KEYS[1] }, ARGV[1], limits)
local asked_ms = tonumber(ARGV[2])
budget.b = math.max(budget.b, now + (asked_ms > 0 and math.min(asked_ms, BLOCKED_MAX_MS) or THROTTLED_ONCE_MS))
if now - budget.h > THROTTLED_ONCE_MS then
  -- Calls that were under way already meet the same limit at the same time: that is one 429, not many.
  budget.f = math.max(SMALLEST_SHARE, budget.f / 2)
  budget.c = math.min(budget.c, 0)
  budget.h = now
  tell({ events = KEYS[3] }, 'resource.throttled', 'resource', ARGV[1], 'retry_after_ms', ARGV[2])
end
write_budget({ budgets = KEYS[1] }, ARGV[1], budget)
return false
