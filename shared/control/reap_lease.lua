-- Frees one lease that was not claimed or renewed in time, if that still is so.
-- KEYS[1] registrations   KEYS[2] loads   KEYS[3] lapses   KEYS[4] slots of the worker
-- KEYS[5] call            KEYS[6] released   KEYS[7] records   KEYS[8] watched
-- ARGV[1] lease id   ARGV[2] call id   ARGV[3] worker id   ARGV[4] packed CallRecord for a claimed lease
-- ARGV[5] offer lifetime in ms   ARGV[6] lifetime of a claimed lease in ms
-- ARGV[7] records kept   ARGV[8] lifetime of a released mark in ms
-- Answer: 1 when this freed it, else 0.
local now = now_ms()
local held = redis.call('HMGET', KEYS[5], 'lease_id', 'state')
if held[1] ~= ARGV[1] then
  return 0
end
local lifetime_ms = tonumber(held[2] == 'claimed' and ARGV[6] or ARGV[5])
local since = redis.call('GET', KEYS[8])
local lapses_at = tonumber(redis.call('ZSCORE', KEYS[3], ARGV[2]))
if not since or now - since <= lifetime_ms or now <= lapses_at then
  return 0
end
give_back_slot(slot_keys(5), { call_id = ARGV[2], worker_id = ARGV[3] }, ARGV[8])
if held[2] == 'claimed' then
  redis.call('XADD', KEYS[7], 'MAXLEN', '~', ARGV[7], '*', 'record', ARGV[4])
end
return 1
