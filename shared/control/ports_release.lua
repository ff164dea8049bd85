-- Gives a port block back, which makes it the last one to be leased again.
-- KEYS[1] port owners   KEYS[2] port lapses
-- ARGV[1] owner   ARGV[2] number of the block
-- Answer: 1, or 0 when the pod did not have it.
local lapses_at_ms = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[2]) or 0)
if lapses_at_ms <= now or redis.call('HGET', KEYS[1], ARGV[2]) ~= ARGV[1] then
  return 0
end
redis.call('HDEL', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[2], now, ARGV[2])
return 1
