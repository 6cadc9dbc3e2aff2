-- Look at slot queues, and change nothing: what has expired is not counted, though it may still be stored.
--
-- KEYS    1 policies
--         then six a queue: held, line, waits, book, state, rate
-- ARGV    1 how many holders and how many waiters of each queue to list, at most
--         2 number of queues, then a name each
-- Returns now_ms, then for each queue {name, state, limits, holders, waiters, active, waiting}
--         state: fields and values of the queue's hash; limits: {max_concurrent, rate_n, rate_ms, quota_n, quota_ms,
--         max_length, timeout_ms, logged "1" or "0"}, "" for what is not limited; holders: execution, score and
--         record, over and over, those whose lease ends first leading; waiters: the same in the order of the line

local policies = KEYS[1]
local most, number_of_queues = tonumber(ARGV[1]), tonumber(ARGV[2])

-- include slots/slot_limits

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local now_text = string.format('%.0f', now)

local function or_empty(value) return value and string.format('%.0f', value) or '' end

local function described(book, executions, scores)
  local entries = {}
  if #executions == 0 then return entries end
  local records = redis.call('HMGET', book, unpack(executions))
  for i, execution in ipairs(executions) do
    if records[i] and scores[i] and tonumber(scores[i]) > now then
      entries[#entries + 1], entries[#entries + 2], entries[#entries + 3] = execution, scores[i], records[i]
    end
  end
  return entries
end

local answers = {now}
for number = 1, number_of_queues do
  local held, line, waits, book, state = unpack(KEYS, 6 * number - 4, 6 * number)
  local name, chosen = ARGV[2 + number], redis.call('HMGET', state, 'pack', 'limit')
  local limits = limits_of(name, chosen[1] or '-', tonumber(chosen[2]))
  local executions, scores, claims = {}, {}, 0
  for _, execution in ipairs(redis.call('ZRANGEBYSCORE', held, '-inf', now_text, 'LIMIT', 0, 64)) do
    -- A grant whose bell is to be looked at stands until that was done, or its claim ends.
    local claim_end = string.match(redis.call('HGET', book, execution) or '', '^C %S+ %S+ %S+ %S+ %S+ (%d+)')
    if claim_end and tonumber(claim_end) > now then
      claims = claims + 1
      if claims <= most then executions[claims], scores[claims] = execution, claim_end end
    end
  end
  local live = redis.call('ZRANGEBYSCORE', held, '(' .. now_text, '+inf', 'WITHSCORES', 'LIMIT', 0, math.max(most - claims, 0))
  for i = 1, #live, 2 do executions[#executions + 1], scores[#scores + 1] = live[i], live[i + 1] end
  local holders = described(book, executions, scores)
  executions = most > 0 and redis.call('LRANGE', line, 0, most - 1) or {}
  local waiters = #executions > 0
    and described(book, executions, redis.call('ZMSCORE', waits, unpack(executions))) or {}
  answers[#answers + 1] = {name, redis.call('HGETALL', state),
    {or_empty(limits.max_concurrent), or_empty(limits.rate_n), or_empty(limits.rate_ms), or_empty(limits.quota_n),
     or_empty(limits.quota_ms), or_empty(limits.max_length), or_empty(limits.timeout_ms), limits.quiet and '0' or '1'},
    holders, waiters, claims + redis.call('ZCOUNT', held, '(' .. now_text, '+inf'), redis.call('ZCOUNT', waits, '(' .. now_text, '+inf')}
end
return answers
