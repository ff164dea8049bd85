-- Lists what may have to be freed, and notes that somebody is watching. Frees nothing but call records that are too old.
-- KEYS[1] watched   KEYS[2] workers   KEYS[3] lapses   KEYS[4] records
-- ARGV[1] lifetime of a record in ms
-- Answer: {now in ms, ids of silent workers, ids of calls whose lease has lapsed}. Silence from before the watch began
-- does not count, so both lists are empty at first.
redis.call('SET', KEYS[1], now, 'NX')
redis.call('PEXPIRE', KEYS[1], WATCH_TTL_MS)
local watched_for = now - redis.call('GET', KEYS[1])
local silent, lapsed = {}, {}
if watched_for > HEARTBEAT_TTL_MS then
  silent = redis.call('ZRANGE', KEYS[2], '-inf', '(' .. now - HEARTBEAT_TTL_MS, 'BYSCORE')
end
if watched_for > OFFER_TTL_MS then
  lapsed = redis.call('ZRANGE', KEYS[3], '-inf', '(' .. now, 'BYSCORE')
end
-- Exactly, not about: a retention time is a promise, and the last hundred records of a quiet pool would stay for ever.
redis.call('XTRIM', KEYS[4], 'MINID', '=', now - ARGV[1])
return { now, silent, lapsed }
