-- Takes a worker out of the table. Leases it still holds stay until they are released or lapse.
-- KEYS[1] registrations   KEYS[2] workers   KEYS[3] states   KEYS[4] healths
-- ARGV[1] worker id
-- Answer: nothing.
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[1])
return false
