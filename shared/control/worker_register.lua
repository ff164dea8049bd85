-- Enters a worker into the table, alive as of now, and keeps or enters again the leases of the calls it runs.
-- KEYS[1] registrations   KEYS[2] loads    KEYS[3] lapses
-- KEYS[4] sessions        KEYS[5] events   KEYS[6] slots of the worker   KEYS[7] records
-- KEYS[8] workers         KEYS[9] states
-- KEYS[10..] for each lease: call, released, over
-- ARGV[1] worker id   ARGV[2] packed WorkerRecord   ARGV[3] state
-- ARGV[4..] for each lease: lease id, call id, packed Lease, time of the offer in ms
-- Answer: list of the lease ids that are lost: released already, or the call is leased elsewhere.

-- Whoever was at this worker's address is dead, though nobody may have missed it yet: two cannot have one socket.
local record = cmsgpack.unpack(ARGV[2])
for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do
  local other = cmsgpack.unpack(redis.call('HGET', KEYS[1], id))
  if id ~= ARGV[1] and other.sip_host == record.sip_host and other.sip_port == record.sip_port then
    redis.call('ZADD', KEYS[8], 'XX', now - HEARTBEAT_TTL_MS - 1, id)
  end
end

if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  tell({ events = KEYS[5] }, 'worker.joined', 'worker_id', ARGV[1], 'state', ARGV[3])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[8], now, ARGV[1])
redis.call('HSET', KEYS[9], ARGV[1], ARGV[3])
return keep_slots(10, 4, ARGV[1], now + LEASE_TTL_MS)
