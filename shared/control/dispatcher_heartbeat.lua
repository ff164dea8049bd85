-- Says that a dispatcher is alive and which quotas it knows, and forgets what no dispatcher has said for a while.
-- KEYS[1] dispatchers   KEYS[2] dispatcher beats   KEYS[3] quotas   KEYS[4] quota beats   KEYS[5] events   KEYS[6] watched
-- ARGV[1] dispatcher id   ARGV[2] packed DispatcherRecord
-- ARGV[3..] for each resource: name, packed ResourceQuota
-- Answer: nothing.
local events = { events = KEYS[5] }
if redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) == 1 then
  tell(events, 'dispatcher.joined', 'dispatcher_id', ARGV[1])
end
redis.call('ZADD', KEYS[2], now, ARGV[1])
for i = 3, #ARGV, 2 do
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
  redis.call('ZADD', KEYS[4], now, ARGV[i])
end

-- As with workers, only silence that somebody watched counts: after an outage all of them are silent.
local since = redis.call('GET', KEYS[6])
if since and now - since > HEARTBEAT_TTL_MS then
  local silent = '(' .. now - HEARTBEAT_TTL_MS
  for _, id in ipairs(redis.call('ZRANGE', KEYS[2], '-inf', silent, 'BYSCORE')) do
    redis.call('ZREM', KEYS[2], id)
    redis.call('HDEL', KEYS[1], id)
    tell(events, 'dispatcher.lost', 'dispatcher_id', id)
  end
  for _, name in ipairs(redis.call('ZRANGE', KEYS[4], '-inf', silent, 'BYSCORE')) do
    redis.call('ZREM', KEYS[4], name)
    redis.call('HDEL', KEYS[3], name)
  end
end
for i = 1, 4 do
  local keys = { key = KEYS[i] }
  redis.call('PEXPIRE', keys.key, BUDGET_TTL_MS)
end
return false
