-- The end of every script that appends to a log: write the counters, and now and then trim and move expiries.
--
-- Takes   what log_begin takes and gives: log, meta, retention; and run_keys ("runs run: index:"), incarnation (its last
--         word names a new log), touched (the runs that got events by id, or nil)

if offset > before then
  redis.call('HSET', meta, 'ms', ms_text, 'offset', int(offset))
  local due = now >= upkeep
  local full = math.floor(offset / 64) ~= math.floor(before / 64)
  if due or full or touched then
    local ttl, max = string.match(retention, '^(%d+) (%d+)$')
    local runs, run_prefix, index_prefix = string.match(run_keys, '^(%S+) (%S+) (%S+)')
    -- Whole keys outlive the last event by one interval of upkeep, so that not every append has to move them.
    local interval = math.min(math.floor(ttl / 16) + 1, 60000)
    if not m[1] then
      local born = ms_text
      if before > 0 then
        -- Only the counters were lost. Every event that is left is younger than the log, as a reader's cursor must be.
        local oldest_ms = string.match(redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1][1], '^%d+')
        born = int(tonumber(oldest_ms) - 1)
      end
      redis.call('HSET', meta, 'born', born, 'epoch', string.match(incarnation, '%S+$') .. '-' .. ms_text .. '-' .. clock[2])
    end
    if due then
      redis.call('HSET', meta, 'retention', retention, 'upkeep', int(now + interval))
      redis.call('XTRIM', log, 'MINID', '~', int(now - ttl + 1))
      redis.call('PEXPIREAT', log, int(ms + ttl + interval))
      redis.call('PEXPIREAT', runs, int(ms + ttl + interval))
      -- The counters outlive the events by 400 days: a workspace that nobody uses any more leaves nothing behind.
      redis.call('PEXPIREAT', meta, int(ms + ttl + 34560000000))
    end
    if full then redis.call('XTRIM', log, 'MAXLEN', '~', max) end

    local oldest = touched and (due or full) and redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1][1]
    local new_runs = 0
    for run_id, run in pairs(touched or {}) do
      local fields = {'first', run.first, 'last', run.last, 'count', int(run.count)}
      for lane, seq in pairs(run.lanes) do
        fields[#fields + 1], fields[#fields + 2] = 'lane:' .. lane, int(seq)
      end
      if run.ended_id then
        fields[#fields + 1], fields[#fields + 2] = 'ended', run.ended
        fields[#fields + 1], fields[#fields + 2] = 'ended_id', run.ended_id
      end
      local run_due = now >= run.upkeep
      if run_due then fields[#fields + 1], fields[#fields + 2] = 'upkeep', int(now + interval) end
      for j = 1, #fields, 1000 do
        redis.call('HSET', run.key, unpack(fields, j, math.min(j + 999, #fields)))
      end
      if run_due then
        redis.call('PEXPIREAT', run.key, int(ms + ttl + interval))
        redis.call('PEXPIREAT', index_prefix .. run_id, int(ms + ttl + interval))
      end
      if oldest then redis.call('XTRIM', index_prefix .. run_id, 'MINID', '~', oldest) end
      new_runs = new_runs + redis.call('ZADD', runs, string.match(run.last, '%d+$'), run_id)
    end
    if new_runs > 0 then redis.call('PEXPIREAT', runs, int(ms + ttl + interval)) end
    if new_runs > 0 or due or full then
      -- Removing a few more runs than were added keeps up with any load.
      local floor = int(math.max(offset - max, cleared))
      for _, run_id in ipairs(redis.call('ZRANGEBYSCORE', runs, '-inf', floor, 'LIMIT', 0, 32 + 2 * new_runs)) do
        redis.call('UNLINK', run_prefix .. run_id, index_prefix .. run_id)
        redis.call('ZREM', runs, run_id)
      end
    end
  end
end
