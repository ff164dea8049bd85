-- Takes a slot of one worker and a session of one resource for a call, in place of an offer that went nowhere if one is named.
-- KEYS[1] registrations   KEYS[2] loads    KEYS[3] lapses
-- KEYS[4] sessions        KEYS[5] events   KEYS[6] slots of the worker   KEYS[7] records
-- KEYS[8] call            KEYS[9] released of the replaced lease, or of the new one   KEYS[10] over
-- KEYS[11] slots of the replaced lease's worker, or of the new one
-- KEYS[12] workers        KEYS[13] states  KEYS[14] budgets
-- KEYS[15..] for each resource: waiting, polls
-- ARGV[1] lease id   ARGV[2] call id   ARGV[3] worker id   ARGV[4] packed Lease
-- ARGV[5] replaced lease id or ''      ARGV[6] its worker id or ''
-- ARGV[7] priority, 9 is first         ARGV[8] 1 when the caller may be kept waiting, else 0
-- ARGV[9..] for each resource, the preferred one first: name, connections per minute, sessions, tokens per minute
-- Answer: {'taken', time of the offer in ms, resource}; {'held', packed Lease, time of its offer in ms, resource, state} when
-- the call has another lease; {'claimed'} when the lease to be replaced is in use; {'over'} when the
-- call has ended for good; {'unknown'|'silent'|'not ready'|'full'}
-- for the worker; {'wait', ms until asking again makes sense} or {'no quota'} for the resources.
local held = redis.call('HMGET', KEYS[8], 'lease_id', 'state', 'lease', 'offered_at_ms', 'resource', 'supersedes')
local over = redis.call('GET', KEYS[10])
if held[1] and held[1] ~= ARGV[5] then
  return { 'held', held[3], tonumber(held[4]), held[5], held[2] }
elseif held[2] == 'claimed' then
  return { 'claimed' }
elseif over == 'final' then
  return { 'over' }
elseif over then
  redis.call('PEXPIRE', KEYS[10], OVER_TTL_MS) -- its caller still waits, perhaps in line for longer than that
end

local heartbeat = redis.call('ZSCORE', KEYS[12], ARGV[3])
if not heartbeat then
  return { 'unknown' }
elseif now - heartbeat > HEARTBEAT_TTL_MS then
  return { 'silent' }
elseif redis.call('HGET', KEYS[13], ARGV[3]) ~= 'ready' then
  return { 'not ready' }
elseif not has_room(ARGV[3]) then
  return { 'full' }
end

local call_id = ARGV[2]
-- By priority, then by time: both fit into a double without loss.
local place_in_line = (9 - ARGV[7]) * 1e13 + now
local queues = {}
for i = 9, #ARGV, 4 do
  local first_key = 15 + (i - 9) / 2
  table.insert(queues, { name = ARGV[i], waiting = KEYS[first_key], polls = KEYS[first_key + 1],
    limits = { connections = tonumber(ARGV[i + 1]), sessions = tonumber(ARGV[i + 2]), tokens = tonumber(ARGV[i + 3]) } })
end

-- How many calls, of those that somebody still asks for, come before this one.
local function calls_before(keys)
  if redis.call('EXISTS', keys.waiting) == 0 then
    return 0
  end
  local gone = redis.call('ZRANGE', keys.polls, '-inf', now - WAITING_TTL_MS, 'BYSCORE')
  for _, id in ipairs(gone) do
    redis.call('ZREM', keys.waiting, id)
    redis.call('ZREM', keys.polls, id)
  end
  return redis.call('ZRANK', keys.waiting, call_id) or redis.call('ZCOUNT', keys.waiting, '-inf', place_in_line)
end

-- The first resource that has something left, and its budget; or nothing, and how long the shortest wait is.
local function choose()
  local shortest = math.huge
  for _, queue in ipairs(queues) do
    local ahead = calls_before(queue)
    local used = tonumber(redis.call('HGET', KEYS[4], queue.name) or 0)
    if held[5] == queue.name then
      used = used - 1
    end
    local budget = read_budget({ budgets = KEYS[14] }, queue.name, queue.limits)
    local wait_ms = wait_for(budget, queue.limits, ahead)
    if queue.limits.sessions > 0 and used + ahead >= queue.limits.sessions then
      wait_ms = math.max(wait_ms, SESSION_WAIT_MS)
    end
    if wait_ms == 0 then
      return queue, budget
    end
    shortest = math.min(shortest, wait_ms)
  end
  return nil, shortest
end

-- False when all queues are full.
local function join_queues()
  local joined = false
  for _, keys in ipairs(queues) do
    if redis.call('ZCARD', keys.waiting) < WAITING_MAX or redis.call('ZSCORE', keys.waiting, call_id) then
      redis.call('ZADD', keys.waiting, 'NX', place_in_line, call_id)
      redis.call('ZADD', keys.polls, now, call_id)
      redis.call('PEXPIRE', keys.waiting, WAITING_TTL_MS)
      redis.call('PEXPIRE', keys.polls, WAITING_TTL_MS)
      joined = true
    end
  end
  return joined
end

local queue, found = choose()
if not queue then
  if ARGV[8] ~= '1' or not join_queues() then
    return { 'no quota' }
  end
  return { 'wait', math.ceil(found) }
end

for _, keys in ipairs(queues) do
  if redis.call('ZREM', keys.waiting, call_id) == 1 then
    redis.call('ZREM', keys.polls, call_id)
  end
end
if queue.limits.connections > 0 then
  found.c = found.c - 1
  write_budget({ budgets = KEYS[14] }, queue.name, found)
end
local keys = slot_keys(8)
if held[1] then
  keys.slots = KEYS[11]
  give_back_slot(keys, { call_id = call_id, worker_id = ARGV[6] })
  keys.slots = KEYS[6]
end
take_slot(keys, { id = ARGV[1], call_id = call_id, worker_id = ARGV[3], packed = ARGV[4],
  offered_at_ms = now, state = 'offered', resource = queue.name, supersedes = over or held[6] }, now + OFFER_TTL_MS)
return { 'taken', now, queue.name }
