-- Makes an offer the worker's own. An offer made while Redis was away is entered as claimed.
-- KEYS[1] registrations   KEYS[2] loads    KEYS[3] lapses
-- KEYS[4] sessions        KEYS[5] events   KEYS[6] slots of the worker   KEYS[7] records
-- KEYS[8] call            KEYS[9] released KEYS[10] over
-- ARGV[1] lease id   ARGV[2] call id   ARGV[3] worker id   ARGV[4] packed Lease   ARGV[5] time of the offer in ms
-- ARGV[6] 1 for a lease made while Redis was away, else 0
-- Answer: 'claimed'; or why not: 'released', 'over', 'elsewhere', 'claimed before', 'expired', 'unknown', 'full'.
local keys = slot_keys(8)
if redis.call('EXISTS', KEYS[9]) == 1 then
  return 'released'
elseif redis.call('GET', KEYS[10]) == 'final' then
  return 'over'
end
local lease = { id = ARGV[1], call_id = ARGV[2], worker_id = ARGV[3], packed = ARGV[4], offered_at_ms = ARGV[5] }
local held = redis.call('HMGET', KEYS[8], 'lease_id', 'worker_id', 'state')
if not held[1] then
  if ARGV[6] ~= '1' then
    return 'unknown'
  elseif not has_room(ARGV[3]) then
    return 'full'
  end
  enter_slot(keys, lease, now + LEASE_TTL_MS)
  return 'claimed'
elseif held[1] ~= ARGV[1] or held[2] ~= ARGV[3] then
  return 'elsewhere'
elseif held[3] == 'claimed' then
  return 'claimed before'
elseif now > tonumber(redis.call('ZSCORE', KEYS[3], ARGV[2])) then
  return 'expired'
end
redis.call('HSET', KEYS[8], 'state', 'claimed')
redis.call('ZADD', KEYS[3], now + LEASE_TTL_MS, ARGV[2])
start_call(keys, lease)
return 'claimed'
