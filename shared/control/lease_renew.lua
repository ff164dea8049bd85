-- Keeps the leases of all calls a worker runs, and enters again those that Redis forgot.
-- KEYS[1] registrations   KEYS[2] loads   KEYS[3] lapses   KEYS[4] slots of the worker
-- KEYS[5..] for each lease: call, released
-- ARGV[1] worker id   ARGV[2] lifetime of a claimed lease in ms
-- ARGV[3..] for each lease: lease id, call id, packed Lease, time of the offer in ms
-- Answer: list of the lease ids that are lost: released already, or the call is leased elsewhere.
return keep_slots(5, 3, ARGV[1], now_ms() + ARGV[2])
