-- Says that a registered worker is alive, and in which state.
-- KEYS[1] registrations   KEYS[2] workers   KEYS[3] states   KEYS[4] healths   KEYS[5] events
-- ARGV[1] worker id   ARGV[2] state   ARGV[3] packed WorkerHealth
-- Answer: 1, or 0 when the worker is not registered and nothing was changed.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  return 0
end
redis.call('ZADD', KEYS[2], now, ARGV[1])
if redis.call('HGET', KEYS[3], ARGV[1]) ~= ARGV[2] then
  tell({ events = KEYS[5] }, 'worker.state', 'worker_id', ARGV[1], 'state', ARGV[2])
end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[4], ARGV[1], ARGV[3])
return 1
