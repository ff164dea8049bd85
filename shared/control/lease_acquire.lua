-- Takes a slot of one worker for a call, in place of an offer that went nowhere if one is named.
-- KEYS[1] registrations   KEYS[2] loads   KEYS[3] lapses   KEYS[4] slots of the worker
-- KEYS[5] call            KEYS[6] released of the replaced lease, or of the new one
-- KEYS[7] slots of the replaced lease's worker, or of the new one
-- KEYS[8] workers         KEYS[9] states
-- ARGV[1] lease id   ARGV[2] call id   ARGV[3] worker id   ARGV[4] packed Lease
-- ARGV[5] heartbeat lifetime in ms     ARGV[6] offer lifetime in ms
-- ARGV[7] replaced lease id or ''      ARGV[8] its worker id or ''   ARGV[9] lifetime of a released mark in ms
-- Answer: {'taken', time of the offer in ms}; {'held', packed Lease, time of its offer in ms} when the call has another
-- lease; {'claimed'} when the lease to be replaced is in use; {'unknown'|'silent'|'not ready'|'full'} for the worker.
local now = now_ms()
local held = redis.call('HMGET', KEYS[5], 'lease_id', 'state', 'lease', 'offered_at_ms')
if held[1] and held[1] ~= ARGV[7] then
  return { 'held', held[3], tonumber(held[4]) }
elseif held[2] == 'claimed' then
  return { 'claimed' }
end

local heartbeat = redis.call('ZSCORE', KEYS[8], ARGV[3])
if not heartbeat then
  return { 'unknown' }
elseif now - heartbeat > tonumber(ARGV[5]) then
  return { 'silent' }
elseif redis.call('HGET', KEYS[9], ARGV[3]) ~= 'ready' then
  return { 'not ready' }
elseif not has_room(ARGV[3]) then
  return { 'full' }
end

local keys = slot_keys(5)
if held[1] then
  keys.slots = KEYS[7]
  give_back_slot(keys, { call_id = ARGV[2], worker_id = ARGV[8] }, ARGV[9])
  keys.slots = KEYS[4]
end
take_slot(keys, { id = ARGV[1], call_id = ARGV[2], worker_id = ARGV[3], packed = ARGV[4],
  offered_at_ms = now, state = 'offered' }, now + ARGV[6])
return { 'taken', now }
