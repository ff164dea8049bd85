-- Frees all leases of a silent worker and takes it out of the table, if it still is silent.
-- KEYS[1] registrations   KEYS[2] loads    KEYS[3] lapses
-- KEYS[4] sessions        KEYS[5] events   KEYS[6] slots of the worker   KEYS[7] records
-- KEYS[8] workers         KEYS[9] states   KEYS[10] healths
-- KEYS[11] orphans        KEYS[12] orphan leases   KEYS[13] watched
-- KEYS[14..] for each lease: call, released, over
-- ARGV[1] worker id
-- ARGV[2..] for each lease: lease id, call id, packed CallRecord for a claimed lease
-- Answer: list of the lease ids this freed. A lease that is not among the keys keeps the worker in the table.
local heartbeat = redis.call('ZSCORE', KEYS[8], ARGV[1])
local since = redis.call('GET', KEYS[13])
if not heartbeat or not since or now - heartbeat <= HEARTBEAT_TTL_MS or now - since <= HEARTBEAT_TTL_MS then
  return {}
end
local freed = {}
local first_key = 14
for i = 2, #ARGV, 3 do
  local keys = slot_keys(first_key)
  keys.orphans, keys.orphan_leases = KEYS[11], KEYS[12]
  if free_slot(keys, { id = ARGV[i], call_id = ARGV[i + 1], worker_id = ARGV[1] }, ARGV[i + 2]) then
    table.insert(freed, ARGV[i])
  end
  first_key = first_key + 3
end
if redis.call('SCARD', KEYS[6]) == 0 then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[8], ARGV[1])
  redis.call('HDEL', KEYS[9], ARGV[1])
  redis.call('HDEL', KEYS[10], ARGV[1])
  tell({ events = KEYS[5] }, 'worker.lost', 'worker_id', ARGV[1], 'calls', #freed)
end
return freed
