-- Takes a dispatcher out of the table.
-- KEYS[1] dispatchers   KEYS[2] dispatcher beats   KEYS[3] events
-- ARGV[1] dispatcher id
-- Answer: nothing.
if redis.call('HDEL', KEYS[1], ARGV[1]) == 1 then
  tell({ events = KEYS[3] }, 'dispatcher.left', 'dispatcher_id', ARGV[1])
end
redis.call('ZREM', KEYS[2], ARGV[1])
return false
