-- Stands in front of every script: Redis's own time, and the only places where a slot is taken and given back.
-- It is no script of its own. The scripts that use slot_keys have the worker's keys first:
--   KEYS[1] registrations   KEYS[2] loads   KEYS[3] lapses   KEYS[4] slots of the worker

-- Redis time as Unix time in ms.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The keys of one lease of the worker; `first` is the index of its call key, the next one is its released key.
local function slot_keys(first)
  return { loads = KEYS[2], lapses = KEYS[3], slots = KEYS[4], call = KEYS[first], released = KEYS[first + 1] }
end

-- A worker that Redis does not know (any more) has counted by itself before it asks.
local function has_room(worker_id)
  local registration = redis.call('HGET', KEYS[1], worker_id)
  return not registration or redis.call('SCARD', KEYS[4]) < cmsgpack.unpack(registration).capacity
end

local function count_load(keys, worker_id)
  local load = redis.call('SCARD', keys.slots)
  if load > 0 then
    redis.call('HSET', keys.loads, worker_id, load)
  else
    redis.call('HDEL', keys.loads, worker_id)
  end
end

-- lease: id, call_id, worker_id, packed, offered_at_ms, state.
local function take_slot(keys, lease, lapses_at_ms)
  redis.call('HSET', keys.call, 'lease_id', lease.id, 'worker_id', lease.worker_id, 'lease', lease.packed,
    'offered_at_ms', lease.offered_at_ms, 'state', lease.state)
  redis.call('SADD', keys.slots, lease.call_id)
  redis.call('ZADD', keys.lapses, lapses_at_ms, lease.call_id)
  count_load(keys, lease.worker_id)
end

-- lease: call_id, worker_id. Marks the lease as released, so that this happens once.
local function give_back_slot(keys, lease, released_ttl_ms)
  redis.call('SET', keys.released, 1, 'PX', released_ttl_ms)
  redis.call('DEL', keys.call)
  redis.call('SREM', keys.slots, lease.call_id)
  redis.call('ZREM', keys.lapses, lease.call_id)
  count_load(keys, lease.worker_id)
end

-- Keeps the lease of a running call, enters it again if Redis forgot it; false when the call is no longer its worker's.
-- Without room it is neither: the call goes on, and is entered when an offer that stands in its place is gone.
local function keep_slot(keys, lease, lapses_at_ms)
  if redis.call('EXISTS', keys.released) == 1 then
    return false
  end
  local held = redis.call('HGET', keys.call, 'lease_id')
  if held == lease.id then
    redis.call('HSET', keys.call, 'state', 'claimed')
    redis.call('ZADD', keys.lapses, lapses_at_ms, lease.call_id)
  elseif held then
    return false
  elseif has_room(lease.worker_id) then
    take_slot(keys, lease, lapses_at_ms)
  end
  return true
end

-- Keeps all leases listed from KEYS[first_key] (call, released) and ARGV[first_arg] (lease id, call id, packed Lease,
-- time of the offer in ms) on; the answer is the list of lost lease ids.
local function keep_slots(first_key, first_arg, worker_id, lapses_at_ms)
  local lost = {}
  for i = first_arg, #ARGV, 4 do
    local lease = { id = ARGV[i], call_id = ARGV[i + 1], worker_id = worker_id, packed = ARGV[i + 2],
      offered_at_ms = ARGV[i + 3], state = 'claimed' }
    if not keep_slot(slot_keys(first_key), lease, lapses_at_ms) then
      table.insert(lost, lease.id)
    end
    first_key = first_key + 2
  end
  return lost
end
