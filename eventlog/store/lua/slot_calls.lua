-- Carry out acts on the slot queues of a workspace, in order and in one step, each told in its log.
--
-- KEYS    1 log   2 meta   3 "runs run: index:", a key and two prefixes   4 policies   5 queues   6 bell:   7 tomb:
--         then six a queue: held, line, waits, book, state, rate
-- ARGV    1 "ttl_ms max_entries", should the log be new   2 a name for it then   3 the caller's inbox, or ""
--         4 number of queues, then a name each ("action" or "action/group")
--         then acts, each a letter, a queue (1 is the first), an execution and what that act takes:
--           "A" acquire   nonce, lease_ms, timeout_ms, max_concurrent or "", max_length, pack or "-", mode, bell or "-",
--                         attended "1" or "0", owner or "-", ticket or ""; mode: "line" waits for its turn, "try" does not,
--                         "adopt" takes over a place or a slot that the execution has already
--           "T" touch     key, bell or "", attended or "": what has become of the acquisition; the waiter lives
--           "N" renew     key, lease_ms or "", fence or "": the holder lives
--           "R" release   key, tomb_ms, not_after_ms or "": give a slot back, or leave the line
--           "C" cancel    key, tomb_ms, "cancelled" or "timed_out": leave the line, but keep a slot
--           "B" beat      number of executions, executions (the first in place of the act's): attended waiters that live
--           "P" poke      nothing: what has expired goes, what is free is handed out (the execution is not looked at)
--         a key is a nonce, "f" and a fence, or "*": an act on another acquisition does nothing. With tomb_ms a copy of an
--         earlier call that is still under way somewhere finds that its acquisition is over.
-- Returns now_ms, what else was put into the caller's inbox (as it lies at a bell), then one answer an act, its first entry a word, the others numbers unless they are said to be words:
--         {"granted", fence, remaining_ms, lease_ms, nonce (word), how (word: "new", "same", "taken")}
--         {"queued", position, look_in_ms, remaining_ms, ticket, nonce (word), limited_for_ms, limited_by (word)}
--         {"held", fence, remaining_ms} and {"waiting", position}: the execution is here already, by another acquisition
--         {"busy"} {"limited", retry_in_ms, limited_by (word)} {"full", length, max_length}
--         {"cancelled"} {"released"} {"none"}: nothing of that acquisition is here
--         {"beaten", look_in_ms, indexes (word: blank-separated, from 0) of executions that do not wait}

local log, meta, run_keys, policies, queues, bells, tombs = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local retention, incarnation, inbox, number_of_queues = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

-- include log_begin
if m[5] then retention, changed = m[5], false end   -- it is for those who append to decide
local rung = {}
local micros = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
-- include slot_limits
-- include slot_uncontended

if not answers then
-- include slot_queue

local opened = {}

local function queue(number)
  if not opened[number] then
    local at = 8 + 6 * (number - 1)
    opened[number] = open(ARGV[4 + number], {unpack(KEYS, at, at + 5)}, number_of_queues == 1)
  end
  return opened[number]
end

-- The record of an execution, if it is of the acquisition that `key` names.
local function record_of(q, execution, key)
  local record = redis.call('HGET', q.book, execution)
  if not record then return nil end
  local state, nonce, _, _, _, _, _, _, fence = parse(record)
  if key == '*' or key == nonce or (state ~= 'W' and key == 'f' .. fence) then return record, state end
  return nil
end

local function bury(nonce, tomb_ms)
  if tomb_ms ~= '0' then redis.call('SET', tombs .. nonce, '1', 'PX', tomb_ms) end
end

local function granted(q, execution, fence, remaining, lease, nonce, how)
  return {'granted', tonumber(fence), math.max(remaining, 0), tonumber(lease), nonce, how}
end

local function queued(q, position, deadline, ticket, nonce)
  local _, until_ms, why = room(q)
  return {'queued', position, look_in(q, position), math.max(tonumber(deadline) - now, 0), tonumber(ticket), nonce,
    until_ms and until_ms - now or 0, why or ''}
end

local function place_of(q, execution, record)
  local _, nonce, ticket, deadline = parse(record)
  return queued(q, redis.call('LPOS', q.line, execution) + 1, deadline, ticket, nonce)
end

local function holding(q, execution, record, how)
  local _, nonce, _, _, lease, _, _, _, fence = parse(record)
  return granted(q, execution, fence, tonumber(redis.call('ZSCORE', q.held, execution)) - now, lease, nonce, how)
end

local function wait_until(deadline, attended)
  if attended == '1' then return math.min(deadline, now + SILENCE_MS) end
  return deadline
end

-- The waiter lives, and is to be told at this bell from now on.
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
    -- Another fence: who held it until now may not know yet that it does not.
    leave_slot(q, execution, record, 'released', 'adopted')
    q.settled = true
    local new = grant(q, execution, nonce, ticket, lease, '-', '0', owner, false)
    return granted(q, execution, new, tonumber(lease), lease, nonce, 'taken')
  end
  if state ~= 'W' then
    return {'held', tonumber(fence), math.max(tonumber(redis.call('ZSCORE', q.held, execution)) - now, 0)}
  end
  -- Nobody attends to that place yet: who comes to wait goes on with it.
  if attended == '1' and old_attended == '0' and mode == 'line' then
    return keep_waiting(q, execution, record, bell, attended)
  end
  return {'waiting', redis.call('LPOS', q.line, execution) + 1}
end

local function acquire(q, execution, i)
  local nonce, lease, timeout, most, longest, pack = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]
  local mode, bell, attended, owner, ticket = ARGV[i + 6], ARGV[i + 7], ARGV[i + 8], ARGV[i + 9], tonumber(ARGV[i + 10])
  local new_pack, new_most = pack ~= '-' and pack ~= q.pack, most ~= '' and tonumber(most) ~= q.caller_limit
  if new_pack then q.changes.pack = pack end
  if new_most then q.changes.limit = most end
  if new_pack or new_most then
    limit(q, new_pack and pack or q.pack, new_most and tonumber(most) or q.caller_limit)
  end
  settle(q)

  local record = redis.call('HGET', q.book, execution)
  if record then return meet(q, execution, record, nonce, lease, mode, bell, attended, owner) end
  if redis.call('EXISTS', tombs .. nonce) == 1 or (ticket and ticket <= q.reset) then return {'cancelled'} end
  local lost = ticket and ticket < q.born * 1000
  if lost and q.hold == 0 then
    -- Redis has lost its data: those who hold slots come back to say so, within a lease.
    set(q, 'hold', q.born + tonumber(lease))
  end
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
    if string.sub(record, 1, 1) ~= 'W' then
      local fence, valid = confirm(q, execution, record)
      return granted(q, execution, fence, valid, valid, nonce, 'new')
    end
  end
  local position = again and redis.call('LPOS', q.line, execution) + 1 or q.waiting
  local answer = queued(q, position, now + timeout, ticket, nonce)
  tell(q, 'queued', execution, ',"position":' .. int(answer[2]) .. (owner ~= '-' and ',"owner":"' .. owner .. '"' or ''))
  return answer
end

local function touch(q, execution, i)
  local key, bell, attended = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  hear(q)
  settle(q)
  local record, state = record_of(q, execution, key)
  if not record then return {'none'} end
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
  if not record and fence and fence < q.born * 1000 and fence > q.reset and lease ~= ''
    and redis.call('HEXISTS', q.book, execution) == 0 and redis.call('EXISTS', tombs .. key) == 0 then
    if q.hold == 0 then set(q, 'hold', q.born + tonumber(lease)) end
    set(q, 'fence', math.max(q.fence, fence))
    q.active = q.active + 1
    redis.call('ZADD', q.held, int(now + tonumber(lease)), execution)
    redis.call('HSET', q.book, execution, table.concat(
      {'H', key, int(fence), int(now), lease, '-', '0', '-', int(fence)}, ' '))
    if q.active == 1 then give_expiry(q.held, q.book) end
    due(q, now + tonumber(lease))
    tell(q, 'granted', execution, ',"fencing_token":' .. int(fence) .. ',"restored":true')
    return granted(q, execution, int(fence), tonumber(lease), lease, key, 'same')
  end
  return {'none'}
end

local function leave(q, execution, record, key, tomb_ms, how)
  local _, nonce, _, _, _, bell = parse(record)
  leave_line(q, execution, record, how)
  if key ~= nonce then
    -- By somebody else: whoever waits is told, and finds no way back.
    look_again(bell, nonce)
    tomb_ms = '600000'
  end
  bury(nonce, tomb_ms)
  return {'cancelled'}
end

local function release(q, execution, i)
  local key, tomb_ms, not_after = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  hear(q)
  reap(q)
  local record, state = record_of(q, execution, key)
  if not record then
    if key ~= '*' then bury(key, tomb_ms) end
    return {'none'}
  end
  local _, nonce, ticket, granted_at = parse(record)
  if not_after and (state == 'W' and math.floor(tonumber(ticket) / 1000) or tonumber(granted_at)) > not_after then
    return {'none'}
  end
  if state == 'W' then return leave(q, execution, record, key, tomb_ms, 'cancelled') end
  leave_slot(q, execution, record, 'released')
  bury(nonce, tomb_ms)
  return {'released'}
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
      -- Whom nobody has to attend to needs no beat, and no beat carries anybody beyond its queue time-out.
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

-- How many arguments each act takes after its execution.
local ACTS = {A = {acquire, 11}, T = {touch, 3}, N = {renew, 3}, R = {release, 3}, C = {cancel, 3}, B = {beat, 1}, P = {poke, 0}}

answers = {now, rung}
local i = 5 + number_of_queues
while i <= #ARGV do
  local act = ACTS[ARGV[i]]
  answers[#answers + 1] = act[1](queue(tonumber(ARGV[i + 1])), ARGV[i + 2], i + 3)
  i = i + 3 + act[2] + (ARGV[i] == 'B' and tonumber(ARGV[i + 3]) - 1 or 0)
end
for number = 1, number_of_queues do
  if opened[number] then close(opened[number]) end
end
end

local touched   -- no event of ours belongs to a run
-- include log_end
return answers
