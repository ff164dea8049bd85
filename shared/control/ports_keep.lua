-- Renews the lease of a port block, or takes it again when it is free, as after a restart of Redis.
-- KEYS[1] port owners   KEYS[2] port lapses
-- ARGV[1] owner   ARGV[2] number of the block
-- Answer: 1, or 0 when another pod has it.
local lapses_at_ms = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[2]) or 0)
if lapses_at_ms > now and redis.call('HGET', KEYS[1], ARGV[2]) ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[1])
redis.call('ZADD', KEYS[2], now + PORT_BLOCK_TTL_MS, ARGV[2])
redis.call('PEXPIRE', KEYS[1], PORT_BLOCK_MEMORY_MS)
redis.call('PEXPIRE', KEYS[2], PORT_BLOCK_MEMORY_MS)
return 1
