-- Says that a registered worker is alive, and in which state.
-- KEYS[1] registrations   KEYS[2] workers   KEYS[3] states   KEYS[4] healths
-- ARGV[1] worker id   ARGV[2] state   ARGV[3] packed WorkerHealth
-- Answer: 1, or 0 when the worker is not registered and nothing was changed.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  return 0
end
redis.call('ZADD', KEYS[2], now_ms(), ARGV[1])
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[4], ARGV[1], ARGV[3])
return 1
