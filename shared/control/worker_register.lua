-- Enters a worker into the table, alive as of now, and keeps or enters again the leases of the calls it runs.
-- KEYS[1] registrations   KEYS[2] loads   KEYS[3] lapses   KEYS[4] slots of the worker
-- KEYS[5] workers         KEYS[6] states
-- KEYS[7..] for each lease: call, released
-- ARGV[1] worker id   ARGV[2] packed WorkerRecord   ARGV[3] state   ARGV[4] lifetime of a claimed lease in ms
-- ARGV[5..] for each lease: lease id, call id, packed Lease, time of the offer in ms
-- Answer: list of the lease ids that are lost: released already, or the call is leased elsewhere.
local now = now_ms()
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[5], now, ARGV[1])
redis.call('HSET', KEYS[6], ARGV[1], ARGV[3])
return keep_slots(7, 5, ARGV[1], now + ARGV[4])
