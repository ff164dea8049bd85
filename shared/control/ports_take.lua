-- Leases one port block of a machine to a pod: the one it has, or else the free one that has been free for longest, since
-- RTP for the last call there may still be coming in.
-- KEYS[1] port owners   KEYS[2] port lapses
-- ARGV[1] owner   ARGV[2] number of blocks
-- Answer: the number of the block; nil when all are taken.
local block, since
for number = 0, ARGV[2] - 1 do
  local lapses_at_ms = tonumber(redis.call('ZSCORE', KEYS[2], number) or 0)
  if lapses_at_ms > now then
    if redis.call('HGET', KEYS[1], number) == ARGV[1] then
      block = number
      break
    end
  elseif not block or lapses_at_ms < since then
    block, since = number, lapses_at_ms
  end
end
if not block then
  return nil
end
redis.call('HSET', KEYS[1], block, ARGV[1])
redis.call('ZADD', KEYS[2], now + PORT_BLOCK_TTL_MS, block)
redis.call('PEXPIRE', KEYS[1], PORT_BLOCK_MEMORY_MS)
redis.call('PEXPIRE', KEYS[2], PORT_BLOCK_MEMORY_MS)
return block
