-- Reads the whole worker table at one moment.
-- KEYS[1] registrations   KEYS[2] loads   KEYS[3] workers   KEYS[4] states   KEYS[5] healths   KEYS[6] watched
-- Answer: {ms since which somebody has reaped without a gap, list of {packed WorkerRecord, state, taken slots, ms since its
--         last heartbeat, packed WorkerHealth or nil} in the order of worker ids}.
local ids = redis.call('HKEYS', KEYS[1])
table.sort(ids)
local rows = {}
for _, id in ipairs(ids) do
  table.insert(rows, {
    redis.call('HGET', KEYS[1], id),
    redis.call('HGET', KEYS[4], id),
    tonumber(redis.call('HGET', KEYS[2], id) or 0),
    now - redis.call('ZSCORE', KEYS[3], id),
    redis.call('HGET', KEYS[5], id),
  })
end
return { now - (redis.call('GET', KEYS[6]) or now), rows }
