-- Takes a worker out of the table. Leases it still holds stay until they are released or lapse.
-- KEYS[1] registrations   KEYS[2] workers   KEYS[3] states   KEYS[4] healths   KEYS[5] events
-- ARGV[1] worker id
-- Answer: nothing.
if redis.call('HDEL', KEYS[1], ARGV[1]) == 1 then
  tell({ events = KEYS[5] }, 'worker.left', 'worker_id', ARGV[1])
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[1])
return false
