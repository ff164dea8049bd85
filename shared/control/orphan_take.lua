-- Hands out the calls whose callers are owed a BYE, each to one dispatcher at a time, and once more if it does not settle it.
-- KEYS[1] orphans   KEYS[2] orphan leases
-- ARGV[1] how many at most
-- Answer: list of packed Leases.
local leases = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])) do
  local packed = redis.call('HGET', KEYS[2], id)
  if redis.call('ZSCORE', KEYS[1], id) == '0' then
    redis.call('ZADD', KEYS[1], now + ORPHAN_RETRY_MS, id)
  else
    redis.call('ZREM', KEYS[1], id)
    redis.call('HDEL', KEYS[2], id)
  end
  if packed then
    table.insert(leases, packed)
  end
end
return leases
