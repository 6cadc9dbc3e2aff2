-- The acts on a queue but for the release.
--
-- Takes   what log_begin and slot_queue give; tombs (a key), micros, record_of, bury, leave
-- Gives   acquire, touch, renew, cancel, beat, poke: each carries out one act and returns its answer

-- Waiters this near to the head look again at the very moment when something falls due; the others at their next beat.
local NEAR = 16
-- For how long at most nothing is granted after the data was lost.
local LONGEST_HOLD_MS = 60000

-- The holder was heard of: from now on it has its whole lease.
local function confirm(q, execution, record, lease)
  local state, nonce, ticket, granted, agreed, bell, claim_end, owner, fence = parse(record)
  if state == 'C' then unring(bell, grant_element(nonce, fence, granted, claim_end)) end
  lease = lease or agreed
  redis.call('ZADD', q.held, int(now + tonumber(lease)), execution)
  redis.call('HSET', q.book, execution, table.concat({'H', nonce, ticket, granted, lease, bell, '0', owner, fence}, ' '))
  due(q, now + tonumber(lease))
  return fence, tonumber(lease)
end

-- Take a place in the line: the last, but for one that had its ticket before others that are there.
local function enline(q, execution, ticket)
  local place
  if q.waiting > 0 and ticket <= q.ticket then
    local to = q.waiting
    while to > 0 and not place do
      local from = math.max(to - 64, 0)
      local some = redis.call('LRANGE', q.line, from, to - 1)
      local records = redis.call('HMGET', q.book, unpack(some))
      for i = #some, 1, -1 do
        local _, _, earlier = parse(records[i] or '')
        if not place and earlier and tonumber(earlier) < ticket then place = some[i] end
      end
      to = from
    end
    if place then redis.call('LINSERT', q.line, 'AFTER', place, execution) else redis.call('LPUSH', q.line, execution) end
  else
    redis.call('RPUSH', q.line, execution)
  end
  q.waiting = q.waiting + 1
  if ticket > q.ticket then set(q, 'ticket', ticket) end
end

-- Milliseconds until it pays for a waiter at `position` to look again; 0: nothing is known.
local function look_in(q, position)
  if position > NEAR then return 0 end
  local at = q.next
  local free, again_at = room(q)
  if again_at and again_at < at then at = again_at end
  if at == NEVER then return 0 end
  return math.max(at - now, 1)
end

local function granted(q, execution, fence, remaining, lease, nonce, how)
  return {'granted', tonumber(fence), math.max(remaining, 0), tonumber(lease), nonce, how,
    q.limits.max_concurrent or 0, q.limits.by_policy}
end

local function queued(q, position, deadline, ticket, nonce)
  local _, until_ms, why = room(q)
  return {'queued', position, look_in(q, position), math.max(tonumber(deadline) - now, 0), tonumber(ticket), nonce,
    until_ms and until_ms - now or 0, why or '', q.limits.max_concurrent or 0, q.limits.by_policy}
end

local function place_of(q, execution, record)
  local _, nonce, ticket, deadline = parse(record)
  return queued(q, (redis.call('LPOS', q.line, execution) or 0) + 1, deadline, ticket, nonce)
end

local function holding(q, execution, record, how)
  local _, nonce, _, _, lease, _, _, _, fence = parse(record)
  return granted(q, execution, fence, tonumber(redis.call('ZSCORE', q.held, execution) or now) - now, lease, nonce, how)
end

local function wait_until(deadline, attended)
  if attended == '1' then return math.min(deadline, now + SILENCE_MS) end
  return deadline
end

-- The waiter lives, and listens at this bell from now on.
local function keep_waiting(q, execution, record, bell, attended)
  local _, nonce, ticket, deadline, lease, old_bell, old_attended, owner = parse(record)
  if bell == '' then bell = old_bell end
  if attended == '' then attended = old_attended end
  if bell ~= old_bell or attended ~= old_attended then
    redis.call('HSET', q.book, execution, table.concat({'W', nonce, ticket, deadline, lease, bell, attended, owner}, ' '))
  end
  local until_ms = wait_until(tonumber(deadline), attended)
  redis.call('ZADD', q.waits, int(until_ms), execution)
  due(q, until_ms)
  return place_of(q, execution, record)
end

-- The execution has a place or a slot here already.
local function meet(q, execution, record, nonce, lease, mode, bell, attended, owner)
  local state, there, ticket, at, agreed, old_bell, old_attended, _, fence = parse(record)
  if there == nonce then
    if state == 'W' then return keep_waiting(q, execution, record, bell, attended) end
    local same, valid = confirm(q, execution, record)
    return granted(q, execution, same, valid, valid, nonce, 'same')
  end
  if mode == 'adopt' then
    look_again(old_bell, there)
    bury(there, '600000')
    if state == 'W' then
      record = table.concat({'W', nonce, ticket, at, lease, bell, attended, owner}, ' ')
      redis.call('HSET', q.book, execution, record)
      return keep_waiting(q, execution, record, bell, attended)
    end
    -- Another fence: the earlier holder may not know yet that it lost the slot.
    leave_slot(q, execution, record, 'released', 'adopted')
    q.settled = true
    local new = grant(q, execution, nonce, ticket, lease, '-', '0', owner, false, true)
    return granted(q, execution, new, tonumber(lease), lease, nonce, 'taken')
  end
  if state ~= 'W' then
    return {'held', tonumber(fence), math.max(tonumber(redis.call('ZSCORE', q.held, execution) or now) - now, 0)}
  end
  -- That place is unattended: the execution that now waits goes on with it.
  if attended == '1' and old_attended == '0' and mode == 'line' then
    return keep_waiting(q, execution, record, bell, attended)
  end
  return {'waiting', redis.call('LPOS', q.line, execution) + 1}
end

-- Redis has lost its data: holders come back within a lease to claim their slots. How long their leases are is not
-- known; most likely as long as those of the executions that have come back.
local function await_holders(q, lease)
  local until_ms = math.floor(q.born / 1000) + math.min(tonumber(lease), LONGEST_HOLD_MS)
  if until_ms > q.hold then set(q, 'hold', until_ms) end
end

local function acquire(q, execution, i)
  local nonce, lease, timeout, most, longest, pack = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]
  local mode, bell, attended, owner, ticket = ARGV[i + 6], ARGV[i + 7], ARGV[i + 8], ARGV[i + 9], tonumber(ARGV[i + 10])
  if pack ~= '-' and pack ~= q.pack then
    q.changes.pack = pack
    limit(q, pack, q.caller_limit)
  end
  settle(q)
  -- The number that was named first stands as long as anybody holds a slot or waits.
  if most ~= '' and tonumber(most) ~= q.caller_limit and (not q.caller_limit or q.active + q.waiting == 0) then
    q.changes.limit = most
    limit(q, q.pack, tonumber(most))
    settle(q)
  end

  local record = redis.call('HGET', q.book, execution)
  if record then return meet(q, execution, record, nonce, lease, mode, bell, attended, owner) end
  if redis.call('EXISTS', tombs .. nonce) == 1 or (ticket and ticket <= q.reset) then return {'cancelled'} end
  if ticket and ticket < q.born then await_holders(q, lease) end
  local free, until_ms, why = room(q)
  if free and q.waiting == 0 then
    count(q, 'enqueued')
    local fence = grant(q, execution, nonce, int(ticket or micros), lease, bell, attended, owner, false)
    return granted(q, execution, fence, tonumber(lease), lease, nonce, 'new')
  end
  timeout = q.limits.timeout_ms or timeout
  if why == 'rate' or why == 'quota' then
    if mode == 'try' or until_ms > now + timeout then return {'limited', until_ms - now, why} end
  elseif mode == 'try' then
    return {'busy'}
  end
  longest = q.limits.max_length or tonumber(longest)
  if q.waiting >= longest and not ticket then return {'full', q.waiting, longest} end

  local again = ticket
  ticket = ticket or math.max(q.ticket + 1, micros)
  local until_wait = wait_until(now + timeout, attended)
  record = table.concat({'W', nonce, int(ticket), int(now + timeout), lease, bell, attended, owner}, ' ')
  enline(q, execution, ticket)
  redis.call('ZADD', q.waits, int(until_wait), execution)
  redis.call('HSET', q.book, execution, record)
  if q.waiting == 1 then give_expiry(q.line, q.waits, q.book) end
  due(q, until_wait)
  count(q, 'enqueued')
  if again then
    q.settled = false
    settle(q)
    record = redis.call('HGET', q.book, execution)
    if not record then return {'none'} end   -- it came back too late to wait any longer
    if string.sub(record, 1, 1) ~= 'W' then
      local fence, valid = confirm(q, execution, record)
      return granted(q, execution, fence, valid, valid, nonce, 'new')
    end
  end
  local position = again and redis.call('LPOS', q.line, execution) + 1 or q.waiting
  local answer = queued(q, position, now + timeout, ticket, nonce)
  emit(q, 'queued', execution, ',"position":' .. int(answer[2]) .. (owner ~= '-' and ',"owner":"' .. owner .. '"' or ''))
  return answer
end

local function touch(q, execution, i)
  local key, bell, attended = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  hear(q)
  settle(q)
  local record, state = record_of(q, execution, key)
  if not record then return {'none', tonumber(redis.call('GET', tombs .. q.name .. '/' .. execution) or '0')} end
  local _, nonce = parse(record)
  if key == '*' then
    if state == 'W' then
      local _, _, _, _, _, _, attended_there = parse(record)
      if bell ~= '' and attended_there == '0' then return keep_waiting(q, execution, record, bell, '0') end
      return place_of(q, execution, record)
    end
    return holding(q, execution, record, 'same')
  end
  if state == 'W' then return keep_waiting(q, execution, record, bell, attended) end
  local _, _, _, _, _, _, claim_end = parse(record)
  if claim_end == '0' then return holding(q, execution, record, 'same') end
  local fence, valid = confirm(q, execution, record)
  return granted(q, execution, fence, valid, valid, nonce, 'same')
end

local function renew(q, execution, i)
  local key, lease, fence = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  hear(q)
  settle(q)
  local record, state = record_of(q, execution, key)
  if record and state ~= 'W' then
    local same, valid = confirm(q, execution, record, lease ~= '' and lease)
    local _, nonce = parse(record)
    return granted(q, execution, same, valid, valid, nonce, 'same')
  end
  -- A grant older than all that Redis knows of this queue: the data was lost, and this holder has come back to say so.
  -- It had a lease then, which is over by now if it was not renewed since.
  if not record and fence and fence < q.born and fence > q.reset and lease ~= ''
    and now - math.floor(q.born / 1000) < tonumber(lease)
    and redis.call('HEXISTS', q.book, execution) == 0 and redis.call('EXISTS', tombs .. key) == 0 then
    await_holders(q, lease)
    set(q, 'fence', math.max(q.fence, fence))
    q.active = q.active + 1
    redis.call('ZADD', q.held, int(now + tonumber(lease)), execution)
    redis.call('HSET', q.book, execution, table.concat(
      {'H', key, int(fence), int(now), lease, '-', '0', '-', int(fence)}, ' '))
    if q.active == 1 then give_expiry(q.held, q.book) end
    due(q, now + tonumber(lease))
    emit(q, 'granted', execution, ',"fencing_token":' .. int(fence) .. ',"restored":true')
    return granted(q, execution, int(fence), tonumber(lease), lease, key, 'same')
  end
  return {'none'}
end

local function cancel(q, execution, i)
  local key, tomb_ms, how = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  hear(q)
  settle(q)
  local record, state = record_of(q, execution, key)
  if not record then
    if key ~= '*' then bury(key, tomb_ms) end
    return {'none'}
  end
  if state == 'W' then return leave(q, execution, record, key, tomb_ms, how) end
  return holding(q, execution, record, 'same')
end

local function beat(q, first, i)
  local n, missing = tonumber(ARGV[i]), {}
  hear(q)
  reap(q)
  for from = 0, n - 1, 500 do
    local executions, scores = {}, {}
    for j = from, math.min(from + 499, n - 1) do executions[#executions + 1] = j == 0 and first or ARGV[i + j] end
    for j, record in ipairs(redis.call('HMGET', q.book, unpack(executions))) do
      -- An unattended place needs no beat, and no beat extends a place beyond its queue time-out.
      local deadline = record and string.match(record, '^W %S+ %S+ (%S+) %S+ %S+ 1 ')
      if deadline then
        scores[#scores + 1], scores[#scores + 2] = int(wait_until(tonumber(deadline), '1')), executions[j]
      end
    end
    if #scores > 0 then redis.call('ZADD', q.waits, unpack(scores)) end
  end
  settle(q)
  for from = 0, n - 1, 500 do
    local executions = {}
    for j = from, math.min(from + 499, n - 1) do executions[#executions + 1] = j == 0 and first or ARGV[i + j] end
    for j, score in ipairs(redis.call('ZMSCORE', q.waits, unpack(executions))) do
      if not score then missing[#missing + 1] = int(from + j - 1) end
    end
  end
  return {'beaten', look_in(q, 1), table.concat(missing, ' ')}
end

local function poke(q)
  hear(q)
  settle(q)
  return {'none'}
end
