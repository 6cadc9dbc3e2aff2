-- Append several callers' events to one log, in one step.
--
-- KEYS    1 log   2 meta   3 writer   4 "runs run: index: idem:", a key and three prefixes, separated by blanks
-- ARGV    1 number of this call of this writer   2 call_ms, how long the call is remembered
--         3 retention, "ttl_ms max_entries", for a log that is new      4 "window_ms epoch": of idempotency keys; a name should the log be new
--         then appends, each either
--           a part                  shape, n, then n times the values that shape names
--           a conditional append    "G", expected offset or "", idempotency key or "", number of parts, parts
--         shape: the names of an event's values, separated by blanks: "kind payload", then fields of the event, in the
--         end maybe "idempotency_key". All but that are stored under these names. Payloads are opaque bytes.
-- Returns {"ok", ms, first, outcomes, seqs}: events got offsets from `first` on, in order, at time `ms`;
--           outcomes, comma-separated, one for each conditional append and each event with a key:
--             "0" appended, "d<ms>-<offset>:<n>:<seqs>" duplicate of those, "c<last offset>" conflict;
--           seqs, comma-separated, one for each appended event that belongs to a run
--           and then, if it is not that of ARGV[3], the retention of the log
--         {"replayed", …the same, without a retention} if this call was carried out before
--         {"stale"} if a later call of this writer was: nothing is appended
--
-- What is rarely needed comes packed and is taken apart where it is: each argument, table and closure costs every call.

local log, meta, writer = KEYS[1], KEYS[2], KEYS[3]
local call, retention, incarnation, run_keys = tonumber(ARGV[1]), ARGV[3], ARGV[4], KEYS[4]

local recorded = redis.call('GET', writer)
if recorded then
  local number = tonumber(string.match(recorded, '^%d+'))
  if number > call then return {'stale'} end
  if number == call then
    return {'replayed', string.match(recorded, '^%d+|(%d+)|(%d+)|(.*)|(.*)$')}
  end
end

-- include log/log_begin
local outcomes, seqs, touched = '', '', nil

if ARGV[5] == 'kind payload' and #ARGV == 6 + 2 * tonumber(ARGV[6]) then
  -- By far the most calls: events that are a kind and a payload, without conditions.
  redis.call('XADD', log, id_prefix .. first_text, 'kind', ARGV[7], 'payload', ARGV[8])
  -- Within one millisecond Redis counts on by itself, which is cheaper than an id of ours.
  local next_id = id_prefix .. '*'
  for i = 9, #ARGV, 2 do redis.call('XADD', log, next_id, 'kind', ARGV[i], 'payload', ARGV[i + 1]) end
  offset = offset + tonumber(ARGV[6])
else
  local run_prefix, index_prefix, idem_prefix = string.match(run_keys, '^%S+ (%S+) (%S+) (%S+)$')
  local ttl, max = string.match(retention, '^(%d+) (%d+)$')
  local window = string.match(incarnation, '^%d+')
  local TERMINAL = {['run.finished'] = true, ['run.failed'] = true, ['run.error'] = true, ['run.cancelled'] = true}
  local verdicts, numbers, seen, outlived = {}, {}, {}, {}
  touched = {}

  local function is_gone(last)
    local last_ms, last_offset = string.match(last, '^(%d+)-(%d+)$')
    return tonumber(last_offset) <= math.max(offset - max, cleared) or tonumber(last_ms) <= now - ttl
  end

  local function run_of(run_id, lane)
    local run = touched[run_id]
    if run and not is_gone(run.last) then return run end
    local key = run_prefix .. run_id
    local h = run and {false, run.last}
      or redis.call('HMGET', key, 'first', 'last', 'count', 'upkeep', 'lane:' .. lane, 'ended')
    if h[2] and is_gone(h[2]) then
      redis.call('UNLINK', key, index_prefix .. run_id)   -- all its events are gone: the run begins anew
      h = {}
    end
    run = {key = key, first = h[1], last = h[2], count = tonumber(h[3] or '0'), upkeep = tonumber(h[4] or '0'),
           lanes = {[lane] = tonumber(h[5] or '0')}, ended = h[6]}
    touched[run_id] = run
    return run
  end

  local function next_seq(run, lane)
    local seq = run.lanes[lane] or tonumber(redis.call('HGET', run.key, 'lane:' .. lane) or '0')
    run.lanes[lane] = seq + 1
    return int(seq + 1)
  end

  local function remember(key, record)
    redis.call('SET', idem_prefix .. key, record, 'PX', window)
    seen[key] = record
  end

  local function add(names, i, width, key)
    local run_id, lane
    local args = {'XADD', log, ''}
    for j = 1, width do
      local name, value = names[j], ARGV[i + j - 1]
      if name == 'run_id' then run_id = value elseif name == 'lane_id' then lane = value end
      args[2 * j + 2], args[2 * j + 3] = name, value
    end
    local run = run_id and run_of(run_id, lane)
    local seq = run and next_seq(run, lane) or ''
    offset = offset + 1
    local id = id_prefix .. int(offset)
    args[3] = id
    if run then
      args[#args + 1], args[#args + 2] = 'seq', seq
      numbers[#numbers + 1] = seq
    end
    redis.call(unpack(args))
    if run then
      local kind = ARGV[i]
      if string.sub(kind, 1, 6) == 'stage.' or TERMINAL[kind] then
        redis.call('XADD', index_prefix .. run_id, id, lane, seq, 'kind', kind)
      else
        redis.call('XADD', index_prefix .. run_id, id, lane, seq)
      end
      run.first, run.last, run.count = run.first or id, id, run.count + 1
      if TERMINAL[kind] and not run.ended then run.ended, run.ended_id = kind, id end
      if run.ended and not outlived[run.key] then
        -- The run's telemetry outlives its end, and whatever comes after that, by the grace it was given, but not its
        -- own age. All events of a call have one time.
        outlived[run.key] = true
        local ring = run.key .. '/ring'
        local terms = redis.call('HMGET', ring, 'grace', 'aged')
        if terms[1] then
          local until_ms = ms + terms[1]
          local expires_ms = int(math.min(until_ms, tonumber(terms[2])))
          redis.call('HSET', ring, 'until', int(until_ms))
          redis.call('PEXPIREAT', ring, expires_ms)
          redis.call('PEXPIREAT', run.key .. '/samples', expires_ms)
        end
      end
    end
    if key then
      remember(key, id .. ':1:' .. seq)
      verdicts[#verdicts + 1] = '0'
    end
  end

  local function duplicate_of(key)
    return seen[key] or redis.call('GET', idem_prefix .. key)
  end

  -- Carry out the part at ARGV[i], or only step over it; returns where the next one begins.
  local function part(i, skip)
    local names, width, n = {}, 0, tonumber(ARGV[i + 1])
    for name in string.gmatch(ARGV[i], '%S+') do
      width = width + 1
      names[width] = name
    end
    i = i + 2
    if skip then return i + n * width end
    local keyed = names[width] == 'idempotency_key'
    local stored = keyed and width - 1 or width
    for _ = 1, n do
      local key = keyed and ARGV[i + stored]
      local earlier = key and duplicate_of(key)
      if earlier then verdicts[#verdicts + 1] = 'd' .. earlier else add(names, i, stored, key) end
      i = i + width
    end
    return i
  end

  -- True if an event of the parts at ARGV[i] is not a duplicate. Where all are, nothing would be appended, so a retry
  -- is answered although the log no longer ends where the first try expected.
  local function adds_any(i, parts)
    for _ = 1, parts do
      local _, blanks = string.gsub(ARGV[i], ' ', '')
      local width, n = blanks + 1, tonumber(ARGV[i + 1])
      if string.sub(ARGV[i], -15) ~= 'idempotency_key' then return true end
      for j = 1, n do
        if not duplicate_of(ARGV[i + 1 + j * width]) then return true end
      end
      i = i + 2 + n * width
    end
    return false
  end

  local function conditional(i)
    local expected, key, parts = ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
    local earlier = key ~= '' and duplicate_of(key)
    local refused
    if earlier then
      refused = 'd' .. earlier
    elseif expected ~= '' and tonumber(expected) ~= offset and adds_any(i + 4, parts) then
      refused = 'c' .. int(offset)
    end
    verdicts[#verdicts + 1] = refused or '0'
    local offset_before, numbers_before = offset, #numbers
    i = i + 4
    for _ = 1, parts do i = part(i, refused) end
    if key ~= '' and not refused then
      remember(key, id_prefix .. int(offset_before + 1) .. ':' .. int(offset - offset_before) .. ':'
        .. table.concat(numbers, ' ', numbers_before + 1))
    end
    return i
  end

  local i = 5
  while i <= #ARGV do
    if ARGV[i] == 'G' then i = conditional(i) else i = part(i, false) end
  end
  outcomes, seqs = table.concat(verdicts, ','), table.concat(numbers, ',')
end

-- include log/log_end

redis.call('SET', writer, ARGV[1] .. '|' .. ms_text .. '|' .. first_text .. '|' .. outcomes .. '|' .. seqs,
  'PX', ARGV[2])
return {'ok', ms_text, first_text, outcomes, seqs, retention ~= ARGV[3] and retention or nil}
