-- By far the most calls: one act on a queue where nobody waits, nothing is due and a slot is free, or given back.
--
-- What the rest of the script does in general, done at once and without making its functions. Where anything is out of
-- the ordinary nothing has been written yet, and `answers` is nil.
--
-- Takes   what log_begin and slot_limits give; log, tombs (keys), number_of_queues, micros, rung
-- Gives   answers, or nil; state_of_one, active_of_one, waiting_of_one, limits_of_one: of the only queue, as they were read

local answers, state_of_one, active_of_one, waiting_of_one, limits_of_one

if number_of_queues == 1 then
  local held, line, book, state, name, execution = KEYS[8], KEYS[9], KEYS[11], KEYS[12], ARGV[5], ARGV[8]
  local s = redis.call('HMGET', state, 'fence', 'ticket', 'next', 'limit', 'pack', 'born', 'hold', 'reset', 'upkeep',
    'enqueued', 'released')
  state_of_one, waiting_of_one, active_of_one = s, redis.call('LLEN', line), redis.call('ZCARD', held)
  limits_of_one = limits_of(name, s[5] or '-', tonumber(s[4]))
  local limits = limits_of_one
  local quiet_queue = s[6] and waiting_of_one == 0 and now < tonumber(s[3] or '0') and now < tonumber(s[9])
  local function subject()
    local action, group = string.match(name, '^([^/]+)/?(.*)$')
    return '{"action":"' .. action .. (group ~= '' and '","group":"' .. group or '') .. '","execution_id":"'
      .. execution .. '","fencing_token":'
  end

  if quiet_queue and ARGV[6] == 'A' and #ARGV == 19 then
    local nonce, lease, most, pack, owner = ARGV[9], ARGV[10], ARGV[12], ARGV[14], ARGV[18]
    if (most == '' or most == s[4]) and (pack == '-' or pack == s[5]) and ARGV[19] == ''
      and now >= tonumber(s[7] or '0') and not limits.rate_n and not limits.quota_n
      and (not limits.max_concurrent or active_of_one < limits.max_concurrent)
      and not redis.call('HGET', book, execution) and redis.call('EXISTS', tombs .. nonce) == 0 then
      local fence, until_ms = int(math.max(tonumber(s[1] or '0') + 1, micros)), now + tonumber(lease)
      redis.call('ZADD', held, int(until_ms), execution)
      redis.call('HSET', book, execution, 'H ' .. nonce .. ' ' .. int(micros) .. ' ' .. int(now) .. ' ' .. lease .. ' '
        .. ARGV[16] .. ' 0 ' .. owner .. ' ' .. fence)
      if active_of_one == 0 then
        -- Both keys are new: a week, as of all that a queue has (IDLE_MS).
        redis.call('PEXPIRE', held, 604800000)
        redis.call('PEXPIRE', book, 604800000)
      end
      redis.call('HSET', state, 'fence', fence, 'enqueued', int(tonumber(s[10] or '0') + 1),
        'next', until_ms < tonumber(s[3]) and int(until_ms) or s[3])
      if not limits.quiet then
        offset = offset + 1
        redis.call('XADD', log, id_prefix .. first_text, 'kind', 'slot.granted', 'payload', subject() .. fence .. ',"waited_ms":0'
          .. (owner ~= '-' and ',"owner":"' .. owner .. '"}' or '}'), 'visibility', 'internal')
      end
      answers = {now, rung, {'granted', tonumber(fence), tonumber(lease), tonumber(lease), nonce, 'new',
        limits.max_concurrent or 0, limits.by_policy}}
    end
  elseif quiet_queue and ARGV[6] == 'R' and #ARGV == 11 and ARGV[10] == '0' and ARGV[11] == '' then
    local record = redis.call('HGET', book, execution)
    local nonce, granted_at, fence
    if record then nonce, granted_at, fence = string.match(record, '^H (%S+) %S+ (%S+) %S+ %S+ %S+ %S+ (%S+)$') end
    if nonce == ARGV[9] then
      redis.call('ZREM', held, execution)
      redis.call('HDEL', book, execution)
      redis.call('HSET', state, 'released', int(tonumber(s[11] or '0') + 1))
      if not limits.quiet then
        offset = offset + 1
        redis.call('XADD', log, id_prefix .. first_text, 'kind', 'slot.released', 'payload', subject() .. fence .. ',"held_ms":'
          .. int(now - tonumber(granted_at)) .. '}', 'visibility', 'internal')
      end
      answers = {now, rung, {'released'}}
    end
  end
end
