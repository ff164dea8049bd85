-- Keeps the leases of all calls a worker runs, and enters again those that Redis forgot.
-- KEYS[1] registrations   KEYS[2] loads    KEYS[3] lapses
-- KEYS[4] sessions        KEYS[5] events   KEYS[6] slots of the worker   KEYS[7] records
-- KEYS[8..] for each lease: call, released, over
-- ARGV[1] worker id
-- ARGV[2..] for each lease: lease id, call id, packed Lease, time of the offer in ms
-- Answer: list of the lease ids that are lost: released already, or the call is leased elsewhere.
return keep_slots(8, 2, ARGV[1], now + LEASE_TTL_MS)
