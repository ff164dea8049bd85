-- Frees all leases of a silent worker and takes it out of the table, if it still is silent.
-- KEYS[1] registrations   KEYS[2] loads   KEYS[3] lapses   KEYS[4] slots of the worker
-- KEYS[5] workers         KEYS[6] states   KEYS[7] records   KEYS[8] watched
-- KEYS[9] healths
-- KEYS[10..] for each lease: call, released
-- ARGV[1] worker id   ARGV[2] heartbeat lifetime in ms
-- ARGV[3] records kept   ARGV[4] lifetime of a released mark in ms
-- ARGV[5..] for each lease: lease id, call id, packed CallRecord for a claimed lease
-- Answer: list of the lease ids this freed. A lease that is not among the keys keeps the worker in the table.
local now = now_ms()
local heartbeat = redis.call('ZSCORE', KEYS[5], ARGV[1])
local since = redis.call('GET', KEYS[8])
local ttl_ms = tonumber(ARGV[2])
if not heartbeat or not since or now - heartbeat <= ttl_ms or now - since <= ttl_ms then
  return {}
end
local freed = {}
local first_key = 10
for i = 5, #ARGV, 3 do
  local keys = slot_keys(first_key)
  local held = redis.call('HMGET', keys.call, 'lease_id', 'state')
  if held[1] == ARGV[i] then
    give_back_slot(keys, { call_id = ARGV[i + 1], worker_id = ARGV[1] }, ARGV[4])
    if held[2] == 'claimed' then
      redis.call('XADD', KEYS[7], 'MAXLEN', '~', ARGV[3], '*', 'record', ARGV[i + 2])
    end
    table.insert(freed, ARGV[i])
  end
  first_key = first_key + 2
end
if redis.call('SCARD', KEYS[4]) == 0 then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[5], ARGV[1])
  redis.call('HDEL', KEYS[6], ARGV[1])
  redis.call('HDEL', KEYS[9], ARGV[1])
end
return freed
