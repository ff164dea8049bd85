-- Reads which dispatchers there are.
-- KEYS[1] dispatchers   KEYS[2] dispatcher beats
-- Answer: list of {packed DispatcherRecord, ms since its last heartbeat}, in the order of their ids.
local ids = redis.call('ZRANGE', KEYS[2], 0, -1)
table.sort(ids)
local rows = {}
for _, id in ipairs(ids) do
  local packed = redis.call('HGET', KEYS[1], id)
  if packed then
    table.insert(rows, { packed, now - redis.call('ZSCORE', KEYS[2], id) })
  end
end
return rows
