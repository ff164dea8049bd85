-- Ends a lease, once, and writes the call's record in the same step. Without a record it only gives back an offer.
-- KEYS[1] registrations   KEYS[2] loads   KEYS[3] lapses   KEYS[4] slots of the worker
-- KEYS[5] call            KEYS[6] released   KEYS[7] records
-- ARGV[1] lease id   ARGV[2] call id   ARGV[3] worker id   ARGV[4] packed CallRecord or ''
-- ARGV[5] records kept   ARGV[6] lifetime of a released mark in ms
-- Answer: 1 when this ended the lease; 0 when it was over, or is not an offer (any more) and no record came with it.
if redis.call('EXISTS', KEYS[6]) == 1 then
  return 0
end
local held = redis.call('HMGET', KEYS[5], 'lease_id', 'state')
local known = held[1] == ARGV[1]
if ARGV[4] == '' and not (known and held[2] == 'offered') then
  return 0
end
if known then
  give_back_slot(slot_keys(5), { call_id = ARGV[2], worker_id = ARGV[3] }, ARGV[6])
else
  redis.call('SET', KEYS[6], 1, 'PX', ARGV[6])
end
if ARGV[4] ~= '' then
  redis.call('XADD', KEYS[7], 'MAXLEN', '~', ARGV[5], '*', 'record', ARGV[4])
end
return 1
