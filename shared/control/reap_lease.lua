-- Frees one lease that was not claimed or renewed in time, if that still is so.
-- KEYS[1] registrations   KEYS[2] loads    KEYS[3] lapses
-- KEYS[4] sessions        KEYS[5] events   KEYS[6] slots of the worker   KEYS[7] records
-- KEYS[8] call            KEYS[9] released KEYS[10] over
-- KEYS[11] orphans        KEYS[12] orphan leases   KEYS[13] watched
-- ARGV[1] lease id   ARGV[2] call id   ARGV[3] worker id   ARGV[4] packed CallRecord for a claimed lease
-- Answer: 1 when this freed it, else 0.
local held = redis.call('HMGET', KEYS[8], 'lease_id', 'state')
if held[1] ~= ARGV[1] then
  return 0
end
local lifetime_ms = held[2] == 'claimed' and LEASE_TTL_MS or OFFER_TTL_MS
local since = redis.call('GET', KEYS[13])
local lapses_at = tonumber(redis.call('ZSCORE', KEYS[3], ARGV[2]))
if not since or now - since <= lifetime_ms or now <= lapses_at then
  return 0
end
local keys = slot_keys(8)
keys.orphans, keys.orphan_leases = KEYS[11], KEYS[12]
return free_slot(keys, { id = ARGV[1], call_id = ARGV[2], worker_id = ARGV[3] }, ARGV[4]) and 1 or 0
