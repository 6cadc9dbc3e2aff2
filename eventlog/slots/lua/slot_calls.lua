-- Carry out acts on the slot queues of a workspace, in order and in one step, with an event in its log for each transition.
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
--         a key is a nonce, "x" and a nonce (by somebody else), "f" and a fence, or "*": an act on another acquisition does nothing. With tomb_ms a copy of an
--         earlier call that is still under way somewhere finds that its acquisition is over.
-- Returns now_ms, what else was put into the caller's inbox (as it lies at a bell), then one answer an act, its first entry a word, the others numbers unless they are said to be words:
--         {"granted", fence, remaining_ms, lease_ms, nonce (word), how (word: "new", "same", "taken"), limit, by_policy}
--         {"queued", position, look_in_ms, remaining_ms, ticket, nonce (word), limited_for_ms, limited_by (word), limit, by_policy}
--           limit: how many may hold a slot, 0 any number; by_policy: 1 if a policy says so, 0 if a caller did
--         {"held", fence, remaining_ms} and {"waiting", position}: the execution is here already, by another acquisition
--         {"busy"} {"limited", retry_in_ms, limited_by (word)} {"full", length, max_length}
--         {"cancelled"} {"released"} {"none"}: nothing of that acquisition is here
--         {"none", expired_ms}, to a touch: a lease of this execution ran out then, within the last ten minutes; else 0
--         {"beaten", look_in_ms, indexes (word: blank-separated, from 0) of executions that do not wait}

local log, meta, run_keys, policies, queues, bells, tombs = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local retention, incarnation, inbox, number_of_queues = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

-- include log/log_begin
local rung = {}
local micros = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
-- include slots/slot_limits
-- include slots/slot_uncontended

if not answers then
-- include slots/slot_queue

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
  if key == '*' or key == nonce or key == 'x' .. nonce or (state ~= 'W' and key == 'f' .. fence) then
    return record, state
  end
  return nil
end

local function bury(nonce, tomb_ms)
  if tomb_ms ~= '0' then redis.call('SET', tombs .. nonce, '1', 'PX', tomb_ms) end
end

local function leave(q, execution, record, key, tomb_ms, how)
  local _, nonce, _, _, _, bell = parse(record)
  leave_line(q, execution, record, how)
  if key ~= nonce then
    -- Released by another caller: the waiter looks, and a copy of its acquire cannot queue it again.
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

-- The other acts are made when the first of them comes: a release, which hands a slot on, does not wait for that.
local function other_acts()
-- include slots/slot_acts
return {A = acquire, T = touch, N = renew, C = cancel, B = beat, P = poke}
end

-- How many arguments each act takes after its execution.
local TAKES = {A = 11, T = 3, N = 3, R = 3, C = 3, B = 1, P = 0}

answers = {now, rung}
local i, others = 5 + number_of_queues, nil
while i <= #ARGV do
  local letter, act = ARGV[i], release
  if letter ~= 'R' then
    others = others or other_acts()
    act = others[letter]
  end
  answers[#answers + 1] = act(queue(tonumber(ARGV[i + 1])), ARGV[i + 2], i + 3)
  i = i + 3 + TAKES[letter] + (letter == 'B' and tonumber(ARGV[i + 3]) - 1 or 0)
end
for number = 1, number_of_queues do
  if opened[number] then close(opened[number]) end
end
end

local touched   -- no event of ours belongs to a run
-- include log/log_end
return answers
