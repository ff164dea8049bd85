-- Stands in front of every script: Redis's own time, events, and the only places where a slot is taken and given back.
-- It is no script of its own. Lifetimes and limits in capitals come from keys.py. The scripts that use slot_keys have
-- these keys first:
--   KEYS[1] registrations   KEYS[2] loads    KEYS[3] lapses
--   KEYS[4] sessions        KEYS[5] events   KEYS[6] slots of the worker   KEYS[7] records

-- Redis time as Unix time in ms: one moment for all that a script does.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Says in the stream of events what has just happened: names and values in turn.
local function tell(keys, event, ...)
  redis.call('XADD', keys.events, 'MAXLEN', '~', EVENTS_MAX, '*', 'event', event, 'at_ms', now, ...)
end

-- The keys of one lease of the worker; `first` is the index of its call key, then come released and over.
local function slot_keys(first)
  return { loads = KEYS[2], lapses = KEYS[3], sessions = KEYS[4], events = KEYS[5], slots = KEYS[6], records = KEYS[7],
    call = KEYS[first], released = KEYS[first + 1], over = KEYS[first + 2] }
end

-- A worker that Redis does not know (any more) has counted by itself before it asks.
local function has_room(worker_id)
  local registration = redis.call('HGET', KEYS[1], worker_id)
  return not registration or redis.call('SCARD', KEYS[6]) < cmsgpack.unpack(registration).capacity
end

local function count_load(keys, worker_id)
  local load = redis.call('SCARD', keys.slots)
  if load > 0 then
    redis.call('HSET', keys.loads, worker_id, load)
  else
    redis.call('HDEL', keys.loads, worker_id)
  end
end

-- lease: id, call_id, worker_id, packed, offered_at_ms, state, resource; supersedes, if it does.
local function take_slot(keys, lease, lapses_at_ms)
  redis.call('HSET', keys.call, 'lease_id', lease.id, 'worker_id', lease.worker_id, 'lease', lease.packed,
    'offered_at_ms', lease.offered_at_ms, 'state', lease.state, 'resource', lease.resource)
  if lease.supersedes then
    redis.call('HSET', keys.call, 'supersedes', lease.supersedes)
  end
  redis.call('SADD', keys.slots, lease.call_id)
  redis.call('ZADD', keys.lapses, lapses_at_ms, lease.call_id)
  redis.call('HINCRBY', keys.sessions, lease.resource, 1)
  count_load(keys, lease.worker_id)
end

-- lease: call_id, worker_id. Marks the lease as released, so that this happens once.
local function give_back_slot(keys, lease)
  local resource = redis.call('HGET', keys.call, 'resource')
  if resource and redis.call('HINCRBY', keys.sessions, resource, -1) <= 0 then
    redis.call('HDEL', keys.sessions, resource)
  end
  redis.call('SET', keys.released, 1, 'PX', RELEASED_TTL_MS)
  redis.call('DEL', keys.call)
  redis.call('SREM', keys.slots, lease.call_id)
  redis.call('ZREM', keys.lapses, lease.call_id)
  count_load(keys, lease.worker_id)
end

-- A worker has the call. Its record is the one still to come: what a worker left that had it before is taken back.
-- lease: call_id, worker_id, packed.
local function start_call(keys, lease)
  local earlier = redis.call('GET', keys.over) or redis.call('HGET', keys.call, 'supersedes')
  if earlier and earlier ~= 'final' then
    redis.call('XDEL', keys.records, earlier)
    redis.call('DEL', keys.over)
  end
  local unpacked = cmsgpack.unpack(lease.packed)
  tell(keys, 'call.started', 'call_id', lease.call_id, 'worker_id', lease.worker_id, 'agent', unpacked.agent or '',
    'resource', unpacked.resource or '')
end

-- lease: call_id, worker_id, packed. True when the call has been answered.
local function tell_answered(keys, lease)
  if not cmsgpack.unpack(lease.packed).answered_at_ms then
    return false
  end
  tell(keys, 'call.answered', 'call_id', lease.call_id, 'worker_id', lease.worker_id)
  return true
end

-- Writes the record of a call, and whether the call is over for good: when it was answered, or its caller waits no more.
-- Otherwise another worker may still get it, and take this record back.
-- lease: call_id, worker_id, packed.   record: agent, result, reason.
local function end_call(keys, lease, packed_record, record)
  local id = redis.call('XADD', keys.records, 'MAXLEN', '~', RECORDS_MAX, '*', 'record', packed_record)
  local waits = record.result ~= 'completed' and record.result ~= 'cancelled'
  local final = cmsgpack.unpack(lease.packed).answered_at_ms or not waits
  redis.call('SET', keys.over, final and 'final' or id, 'PX', OVER_TTL_MS)
  tell(keys, 'call.ended', 'call_id', lease.call_id, 'worker_id', lease.worker_id, 'agent', record.agent,
    'result', record.result, 'reason', record.reason)
end

-- Enters the lease of a running call, of which Redis knows nothing (any more): as far as its events go it starts now.
-- lease: id, call_id, worker_id, packed, offered_at_ms.
local function enter_slot(keys, lease, lapses_at_ms)
  lease.state = 'claimed'
  lease.resource = cmsgpack.unpack(lease.packed).resource or ''
  take_slot(keys, lease, lapses_at_ms)
  start_call(keys, lease)
end

-- Keeps the lease of a running call, enters it again if Redis forgot it; false when the call is no longer its worker's.
-- Without room it is neither: the call goes on, and is entered when an offer that stands in its place is gone.
local function keep_slot(keys, lease, lapses_at_ms)
  if redis.call('EXISTS', keys.released) == 1 then
    return false
  end
  local held = redis.call('HMGET', keys.call, 'lease_id', 'state', 'answered')
  if held[1] == lease.id then
    redis.call('HSET', keys.call, 'state', 'claimed', 'lease', lease.packed)
    redis.call('ZADD', keys.lapses, lapses_at_ms, lease.call_id)
    if held[2] ~= 'claimed' then
      start_call(keys, lease)
    end
  elseif held[1] then
    return false
  elseif has_room(lease.worker_id) then
    enter_slot(keys, lease, lapses_at_ms)
  else
    return true
  end
  if not held[3] and tell_answered(keys, lease) then
    redis.call('HSET', keys.call, 'answered', 1)
  end
  return true
end

-- Keeps all leases listed from KEYS[first_key] (call, released, over) and ARGV[first_arg] (lease id, call id, packed Lease,
-- time of the offer in ms) on; the answer is the list of lost lease ids.
local function keep_slots(first_key, first_arg, worker_id, lapses_at_ms)
  local lost = {}
  for i = first_arg, #ARGV, 4 do
    local lease = { id = ARGV[i], call_id = ARGV[i + 1], worker_id = worker_id, packed = ARGV[i + 2],
      offered_at_ms = ARGV[i + 3] }
    if not keep_slot(slot_keys(first_key), lease, lapses_at_ms) then
      table.insert(lost, lease.id)
    end
    first_key = first_key + 3
  end
  return lost
end

-- Notes that the caller of a call is owed a BYE, if it was answered and its dialog is known.
local function leave_orphan(keys, call_id, packed_lease)
  if cmsgpack.unpack(packed_lease).dialog then
    redis.call('ZADD', keys.orphans, 0, call_id)
    redis.call('HSET', keys.orphan_leases, call_id, packed_lease)
    redis.call('PEXPIRE', keys.orphans, ORPHAN_TTL_MS)
    redis.call('PEXPIRE', keys.orphan_leases, ORPHAN_TTL_MS)
  end
end

-- Frees a lease that nobody will release; the record is written for one that was claimed. True when this freed it.
local function free_slot(keys, lease, packed_record)
  local held = redis.call('HMGET', keys.call, 'lease_id', 'state', 'lease')
  if held[1] ~= lease.id then
    return false
  end
  give_back_slot(keys, lease)
  if held[2] == 'claimed' then
    lease.packed = held[3]
    leave_orphan(keys, lease.call_id, lease.packed)
    end_call(keys, lease, packed_record, cmsgpack.unpack(packed_record))
  end
  return true
end
