-- Ends a lease, once, and writes the call's record in the same step. Without a record it only gives back an offer.
-- KEYS[1] registrations   KEYS[2] loads    KEYS[3] lapses
-- KEYS[4] sessions        KEYS[5] events   KEYS[6] slots of the worker   KEYS[7] records
-- KEYS[8] call            KEYS[9] released KEYS[10] over
-- KEYS[11] orphans        KEYS[12] orphan leases
-- ARGV[1] lease id   ARGV[2] call id   ARGV[3] worker id   ARGV[4] packed CallRecord or ''
-- ARGV[5] packed Lease        ARGV[6] 1 when its worker could not say goodbye to the caller, else 0
-- ARGV[7] agent   ARGV[8] result   ARGV[9] reason: as in the record, which may be too long to unpack here
-- Answer: 1 when this ended the lease; 0 when it was over, or is not an offer (any more) and no record came with it.
if redis.call('EXISTS', KEYS[9]) == 1 then
  return 0
end
local keys = slot_keys(8)
local lease = { call_id = ARGV[2], worker_id = ARGV[3], packed = ARGV[5] }
local held = redis.call('HMGET', KEYS[8], 'lease_id', 'state', 'answered')
local known = held[1] == ARGV[1]
if ARGV[4] == '' and not (known and held[2] == 'offered') then
  return 0
end
-- What Redis has not heard of before is told now, so that the events of every call are complete; and before the slot is
-- given back, which forgets what the lease supersedes.
if ARGV[4] ~= '' and not (known and held[2] == 'claimed') then
  start_call(keys, lease)
end
if known then
  give_back_slot(keys, lease)
else
  redis.call('SET', KEYS[9], 1, 'PX', RELEASED_TTL_MS)
end
if ARGV[4] ~= '' then
  if not known or not held[3] then
    tell_answered(keys, lease)
  end
  end_call(keys, lease, ARGV[4], { agent = ARGV[7], result = ARGV[8], reason = ARGV[9] })
end
if ARGV[6] == '1' then
  leave_orphan({ orphans = KEYS[11], orphan_leases = KEYS[12] }, ARGV[2], ARGV[5])
end
return 1
