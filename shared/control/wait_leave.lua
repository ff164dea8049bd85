-- Takes a call out of the queues: its caller waits no longer.
-- KEYS[1..] for each resource: waiting, polls
-- ARGV[1] call id
-- Answer: nothing.
for i = 1, #KEYS do
  local keys = { queue = KEYS[i] }
  redis.call('ZREM', keys.queue, ARGV[1])
end
return false
