-- Queues of slots: opened, reaped, promoted, and an event in the log for each transition.
--
-- Takes   what log_begin, slot_limits and slot_uncontended give; log, queues, bells, tombs (keys), micros, inbox (the
--         caller's, or ""), rung (a list: what is rung for the caller itself is in its answer)
-- Gives   open(name, keys, is_only_one), limit(q, pack, caller_limit), reap(q), settle(q), close(q), and what acts need:
--         hear, parse, room, grant, grant_element, leave_line, leave_slot, emit, ring, unring, look_again, set, due,
--         count, give_expiry, SILENCE_MS, NEVER
--
-- An execution is in `book` exactly while it is in `line` and `waits`, or in `held`. Its record is, separated by blanks,
--   "W" nonce ticket deadline lease bell attended owner            a waiter; deadline: when its queue time-out ends
--   "H" nonce ticket granted  lease bell claim_end owner fence     a holder; claim_end: 0, or it has not been heard of since
--   "C" …the same                                                  a holder whose grant may still lie unread at its bell
-- Scores: in `waits` until when it waits, in `held` until when it holds (of "C": when its bell is looked at). Times are
-- ms of the Redis clock; tickets and fences are microseconds of it, or one more than the last where that is more.

-- A grant that waits for a waiter to read it lies for 500 ms; one that was read has to be confirmed within 2 s.
local UNREAD_MS, CLAIM_MS = 500, 2000
-- An attended waiter that was not heard of for so long is out of the line.
local SILENCE_MS = 3000
-- How many dead entries one call removes: what is left is for the next.
local BATCH = 64
local IDLE_MS, UPKEEP_MS, BELL_MS = 604800000, 3600000, 60000
-- For how long it is known that a lease ran out: nobody may have heard yet that there was a slot.
local LEASE_TOMB_MS = '600000'
local NEVER = 9007199254740991

local function parse(record)
  return string.match(record, '^(%u) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) ?(%S*)$')
end

local function emit(q, transition, execution, more)
  if q.limits.quiet then return end
  offset = offset + 1
  redis.call('XADD', log, id_prefix .. int(offset), 'kind', 'slot.' .. transition,
    'payload', q.head .. execution .. '"' .. more .. '}', 'visibility', 'internal')
end

local function limit(q, pack, caller_limit, known)
  q.pack, q.caller_limit = pack, caller_limit
  q.limits = known or limits_of(q.name, pack, caller_limit)
  q.settled = false
end

local function open(name, keys, is_only_one)
  local q = {name = name, held = keys[1], line = keys[2], waits = keys[3], book = keys[4], state = keys[5],
             rate = keys[6], changes = {}, counts = {}}
  local action, group = string.match(name, '^([^/]+)/?(.*)$')
  q.head = '{"action":"' .. action .. (group ~= '' and '","group":"' .. group or '') .. '","execution_id":"'
  local s = is_only_one and state_of_one
    or redis.call('HMGET', q.state, 'fence', 'ticket', 'next', 'limit', 'pack', 'born', 'hold', 'reset', 'upkeep')
  q.fence, q.ticket = tonumber(s[1] or '0'), tonumber(s[2] or '0')
  q.next, q.hold = tonumber(s[3] or int(NEVER)), tonumber(s[7] or '0')
  -- In microseconds, as tickets and fences are: one that was given just before a loss of data is older all the same.
  q.born, q.reset, q.upkeep = tonumber(s[6] or int(micros)), tonumber(s[8] or '0'), tonumber(s[9] or '0')
  q.known = s[6]
  q.active = is_only_one and active_of_one or redis.call('ZCARD', q.held)
  q.waiting = is_only_one and waiting_of_one or redis.call('LLEN', q.line)
  limit(q, s[5] or '-', tonumber(s[4]), is_only_one and limits_of_one)
  return q
end

local function set(q, field, number)
  q[field] = number
  q.changes[field] = int(number)
end

local function due(q, at)
  if at < q.next then set(q, 'next', at) end
end

-- A Redis without memory to spare refuses scripts that begin by adding, not those that begin by removing. Removing
-- nothing makes a touch or a renewal pass, so holders and waiters keep what they have.
local function hear(q) redis.call('HDEL', q.book, '') end

local function count(q, what) q.counts[what] = (q.counts[what] or 0) + 1 end

-- What held nothing did not exist, and a key that comes into being has no expiry yet.
local function give_expiry(...)
  for _, key in ipairs({...}) do redis.call('PEXPIRE', key, IDLE_MS) end
end

local function ring(bell, element)
  if bell == inbox then
    -- Its reader is the caller: the answer is quicker.
    rung[#rung + 1] = element
    return
  end
  redis.call('RPUSH', bells .. bell, element)
  redis.call('PEXPIRE', bells .. bell, BELL_MS)
end

-- Let the waiter at a bell look again: its place is no longer in the line.
local function look_again(bell, nonce)
  if bell ~= '-' then ring(bell, nonce .. ' 0 0') end
end

-- What a grant leaves at a bell, made again from the record.
local function grant_element(nonce, fence, granted, claim_end)
  return nonce .. ' ' .. fence .. ' ' .. int(tonumber(claim_end) - tonumber(granted))
end

local function unring(bell, element)
  if bell ~= '-' then redis.call('LREM', bells .. bell, 0, element) end
end

-- When a rate or a quota next allows a grant, and which of them is in the way; nil where neither is.
local function limited(q)
  local limits, at, why = q.limits, nil, nil
  if limits.rate_n then
    local oldest = redis.call('LINDEX', q.rate, limits.rate_n - 1)
    if oldest and tonumber(oldest) + limits.rate_ms > now then at, why = tonumber(oldest) + limits.rate_ms, 'rate' end
  end
  if limits.quota_n then
    local window = math.floor(now / limits.quota_ms)
    local in_window, used = string.match(redis.call('HGET', q.state, 'quota') or '', '^(%d+) (%d+)$')
    if tonumber(in_window) == window and tonumber(used) >= limits.quota_n then
      local ends = (window + 1) * limits.quota_ms
      if not at or ends > at then at, why = ends, 'quota' end
    end
  end
  return at, why
end

local function consume(q)
  local limits = q.limits
  if limits.rate_n then
    redis.call('LPUSH', q.rate, int(now))
    redis.call('LTRIM', q.rate, 0, limits.rate_n - 1)
    redis.call('PEXPIRE', q.rate, limits.rate_ms)
  end
  if limits.quota_n then
    local window = int(math.floor(now / limits.quota_ms))
    local in_window, used = string.match(redis.call('HGET', q.state, 'quota') or '', '^(%d+) (%d+)$')
    redis.call('HSET', q.state, 'quota', window .. ' ' .. int((in_window == window and tonumber(used) or 0) + 1))
  end
end

-- True if a slot can be given now; else false, until when at least it cannot (nil: until one comes free), and why.
local function room(q)
  local most = q.limits.max_concurrent
  if most and q.active >= most then return false, nil, 'busy' end
  if q.hold > now then return false, q.hold, 'busy' end
  local at, why = limited(q)
  return not at, at, why
end

-- Give a slot. What is promoted from the line has its bell rung; the caller that asks for it has it in the answer.
local function grant(q, execution, nonce, ticket, lease, bell, attended, owner, promoted, is_taken_over)
  set(q, 'fence', math.max(q.fence + 1, micros))
  q.active = q.active + 1
  local fence, state, valid, claim_end, until_ms = int(q.fence), 'H', tonumber(lease), '0', now + tonumber(lease)
  if promoted and attended == '1' then
    valid = math.min(CLAIM_MS, valid)
    state, claim_end, until_ms = 'C', int(now + valid), now + math.min(UNREAD_MS, valid)
    if bell == inbox then state, until_ms = 'H', now + valid end
  end
  redis.call('ZADD', q.held, int(until_ms), execution)
  redis.call('HSET', q.book, execution, table.concat(
    {state, nonce, ticket, int(now), lease, bell, claim_end, owner, fence}, ' '))
  if q.active == 1 then give_expiry(q.held, not promoted and q.book or nil) end
  due(q, until_ms)
  if not is_taken_over then consume(q) end
  if promoted and bell ~= '-' then ring(bell, nonce .. ' ' .. fence .. ' ' .. int(valid)) end
  local waited = promoted and now - math.floor(tonumber(ticket) / 1000) or 0
  emit(q, 'granted', execution, ',"fencing_token":' .. fence .. ',"waited_ms":' .. int(math.max(waited, 0))
    .. (owner ~= '-' and ',"owner":"' .. owner .. '"' or ''))
  return fence
end

local function waited_since(ticket)
  return ',"waited_ms":' .. int(math.max(now - math.floor(tonumber(ticket) / 1000), 0))
end

-- A waiter goes without a slot; `popped` says that it is out of the line already.
local function leave_line(q, execution, record, how, reason, popped)
  if not popped then
    redis.call('ZREM', q.waits, execution)
    q.waiting = q.waiting - redis.call('LREM', q.line, 1, execution)
  end
  redis.call('HDEL', q.book, execution)
  local _, _, ticket = parse(record)
  count(q, how)
  emit(q, how, execution, waited_since(ticket) .. (reason and ',"reason":"' .. reason .. '"' or ''))
end

local function leave_slot(q, execution, record, how, reason)
  local state, nonce, _, granted, _, bell, claim_end, _, fence = parse(record)
  redis.call('ZREM', q.held, execution)
  redis.call('HDEL', q.book, execution)
  q.active = q.active - 1
  q.settled = false
  if state == 'C' then unring(bell, grant_element(nonce, fence, granted, claim_end)) end
  if how == 'expired' then redis.call('SET', tombs .. q.name .. '/' .. execution, int(now), 'PX', LEASE_TOMB_MS) end
  count(q, how)
  emit(q, how, execution, ',"fencing_token":' .. fence .. ',"held_ms":' .. int(now - tonumber(granted))
    .. (reason and ',"reason":"' .. reason .. '"' or ''))
end

local function expire_waiter(q, execution, record, popped)
  local _, _, _, deadline = parse(record)
  if tonumber(deadline) <= now then
    leave_line(q, execution, record, 'timed_out', nil, popped)
  else
    leave_line(q, execution, record, 'expired', 'silent', popped)
  end
end

-- Of this execution there is no record: a Redis that evicts keys, or somebody's hand, took it away.
local function forget(q, execution)
  redis.call('ZREM', q.held, execution)
  redis.call('ZREM', q.waits, execution)
  redis.call('LREM', q.line, 1, execution)
  q.active, q.waiting = redis.call('ZCARD', q.held), redis.call('LLEN', q.line)
end

-- Remove what has expired.
local function reap(q)
  if now < q.next then return end

  local function expire_holder(q, execution, record)
    local state, nonce, _, granted, _, bell, claim_end, _, fence = parse(record)
    local reason = claim_end == '0' and 'lease' or 'unconfirmed'
    if state == 'C' and tonumber(claim_end) > now then
      -- The reader of this inbox is the caller, so it lives and will read the ring.
      if bell == inbox or not redis.call('LPOS', bells .. bell, grant_element(nonce, fence, granted, claim_end)) then
        hear(q)
        redis.call('ZADD', q.held, claim_end, execution)
        redis.call('HSET', q.book, execution, 'H' .. string.sub(record, 2))
        return
      end
      reason = 'unread'
    end
    leave_slot(q, execution, record, 'expired', reason)
  end

  local function earliest(key)
    local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    return first[2] and tonumber(first[2]) or NEVER
  end

  for _, execution in ipairs(redis.call('ZRANGEBYSCORE', q.held, '-inf', int(now), 'LIMIT', 0, BATCH)) do
    local record = redis.call('HGET', q.book, execution)
    if record then expire_holder(q, execution, record) else forget(q, execution) end
  end
  for _, execution in ipairs(redis.call('ZRANGEBYSCORE', q.waits, '-inf', int(now), 'LIMIT', 0, BATCH)) do
    local record = redis.call('HGET', q.book, execution)
    if record then expire_waiter(q, execution, record) else forget(q, execution) end
  end
  set(q, 'next', math.min(earliest(q.held), earliest(q.waits)))
end

-- Remove what has expired, then hand out what is free, first come, first served.
local function settle(q)
  if q.settled then return end
  q.settled = true
  reap(q)
  q.settled = true
  local dead = 0
  while q.waiting > 0 and dead < BATCH and room(q) do
    local execution = redis.call('LPOP', q.line)
    local until_ms = redis.call('ZSCORE', q.waits, execution)
    local record = redis.call('HGET', q.book, execution)
    redis.call('ZREM', q.waits, execution)
    q.waiting = q.waiting - 1
    local _, nonce, ticket, _, lease, bell, attended, owner = parse(record or '')
    if not nonce then
      dead = dead + 1
      forget(q, execution)
    elseif tonumber(until_ms or '0') > now then
      grant(q, execution, nonce, ticket, lease, bell, attended, owner, true)
    else
      dead = dead + 1
      expire_waiter(q, execution, record, true)
    end
  end
end

local function close(q)
  settle(q)
  if not q.known then
    -- Looking for something in a queue that does not exist does not make one.
    if not next(q.changes) then return end
    set(q, 'born', micros)
  end
  if now >= q.upkeep then
    set(q, 'upkeep', now + UPKEEP_MS)
    redis.call('ZADD', queues, int(now), q.name)
    redis.call('ZREMRANGEBYSCORE', queues, '-inf', int(now - IDLE_MS))
  end
  local fields = {}
  for field, value in pairs(q.changes) do fields[#fields + 1], fields[#fields + 2] = field, value end
  if #fields > 0 then redis.call('HSET', q.state, unpack(fields)) end
  for what, n in pairs(q.counts) do redis.call('HINCRBY', q.state, what, n) end
  if q.changes.upkeep then
    give_expiry(q.held, q.line, q.waits, q.book, q.state, queues)
  end
end
