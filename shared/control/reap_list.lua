-- Lists what may have to be freed, and notes that somebody is watching. Frees nothing but call records that are too old.
-- KEYS[1] watched   KEYS[2] workers   KEYS[3] lapses   KEYS[4] records
-- ARGV[1] lifetime of the watch in ms   ARGV[2] heartbeat lifetime in ms   ARGV[3] offer lifetime in ms
-- ARGV[4] lifetime of a record in ms
-- Answer: {now in ms, ids of silent workers, ids of calls whose lease has lapsed}. Silence from before the watch began
-- does not count, so both lists are empty at first.
local now = now_ms()
redis.call('SET', KEYS[1], now, 'NX')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
local watched_for = now - redis.call('GET', KEYS[1])
local silent, lapsed = {}, {}
if watched_for > tonumber(ARGV[2]) then
  silent = redis.call('ZRANGE', KEYS[2], '-inf', '(' .. string.format('%.0f', now - ARGV[2]), 'BYSCORE')
end
if watched_for > tonumber(ARGV[3]) then
  lapsed = redis.call('ZRANGE', KEYS[3], '-inf', '(' .. string.format('%.0f', now), 'BYSCORE')
end
-- Exactly, not about: a retention time is a promise, and the last hundred records of a quiet pool would stay for ever.
redis.call('XTRIM', KEYS[4], 'MINID', '=', string.format('%.0f', now - ARGV[4]))
return { now, silent, lapsed }
