-- Stands in front of the scripts that deal with the quotas of Voice Live resources, behind slots.lua.
-- It is no script of its own. A budget is what is left of a resource's quota; the pool's one lives in a hash field:
--   c  new connections that may be opened now: a bucket that holds ten seconds' worth and refills so that no minute,
--      wherever it begins, sees more than the limit; below zero after reconnects, which do not ask
--   t  tokens that may be spent now; below zero after a costly answer
--   f  share of the limit that is used: halved when the service says 429, whole again after five minutes
--   b  time until which the service wants to hear nothing   h  time of the last 429   a  time of all these

local RECOVERY_MS = 300000
local THROTTLED_ONCE_MS = 5000
local SMALLEST_SHARE = 0.1

-- limits: connections and tokens per minute; 0 is no limit.
local function burst_of(limits)
  return math.max(1, math.floor(limits.connections / 6))
end

local function refill_of(limits)
  return math.max(limits.connections - burst_of(limits), limits.connections / 2) / 60000
end

-- The budget of a resource as of now.
local function read_budget(keys, name, limits)
  local packed = redis.call('HGET', keys.budgets, name)
  if not packed then
    return { c = burst_of(limits), t = limits.tokens, f = 1, b = 0, h = 0, a = now }
  end
  local budget = cmsgpack.unpack(packed)
  local passed = math.max(0, now - budget.a)
  budget.c = math.min(burst_of(limits), budget.c + passed * refill_of(limits) * budget.f)
  budget.t = math.min(limits.tokens, budget.t + passed * limits.tokens / 60000)
  budget.f = math.min(1, budget.f + passed / RECOVERY_MS)
  budget.a = now
  return budget
end

local function write_budget(keys, name, budget)
  redis.call('HSET', keys.budgets, name, cmsgpack.pack(budget))
  redis.call('PEXPIRE', keys.budgets, BUDGET_TTL_MS)
end

-- How long, in ms, until a call with `ahead` others before it may open a connection; 0 is now.
local function wait_for(budget, limits, ahead)
  if budget.b > now then
    return budget.b - now
  elseif limits.tokens > 0 and budget.t <= 0 then
    return math.max(1, -budget.t * 60000 / limits.tokens)
  elseif limits.connections > 0 and math.floor(budget.c) <= ahead then
    return math.max(1, (ahead + 1 - budget.c) / (refill_of(limits) * budget.f))
  end
  return 0
end

-- The limits that dispatchers have published for a resource, none of which is none.
local function published_limits(keys, name)
  local packed = redis.call('HGET', keys.quotas, name)
  local quota = packed and cmsgpack.unpack(packed) or {}
  return { connections = quota.connections_per_minute or 0, sessions = quota.sessions or 0,
    tokens = quota.tokens_per_minute or 0 }
end
