-- Append several callers' events to one log, in one step.
--
-- KEYS    1 log   2 meta   3 runs   4 writer   5 run:   6 index:   7 idem:      (5 to 7 are prefixes of keys)
-- ARGV    1 epoch, should this be a new log   2 ttl_ms   3 max_entries   4 window_ms of idempotency keys
--         5 number of this call of this writer   6 writer_ms, how long the call is remembered
--         then appends, each either
--           a part                  shape, n, then n times the values that shape names
--           a conditional append    "G", expected offset or "", idempotency key or "", number of parts, parts
--         shape names one value a letter: k kind, p payload, r run_id, l lane_id, s stage_name, g group_id,
--         v visibility, o source, t traceparent, i idempotency key. Payloads are opaque bytes.
-- Returns {"ok", ms, first, outcomes, seqs}: events got offsets from `first` on, in order, at time `ms`;
--           outcomes, comma-separated, one for each conditional append and each event with a key:
--             "0" appended, "d<ms>-<offset>:<n>:<seqs>" duplicate of those, "c<last offset>" conflict;
--           seqs, comma-separated, one for each appended event that belongs to a run
--         {"replayed", …the same} if this call was carried out before
--         {"stale"} if a later call of this writer was: nothing is appended

local log, meta, runs, writer = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local run_prefix, index_prefix, idem_prefix = KEYS[5], KEYS[6], KEYS[7]
local new_epoch, ttl, max = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local window, call, writer_ms = ARGV[4], tonumber(ARGV[5]), ARGV[6]

local NAMES = {k = 'kind', p = 'payload', r = 'run_id', l = 'lane_id', s = 'stage_name', g = 'group_id',
               v = 'visibility', o = 'source', t = 'traceparent'}
local TERMINAL = {['run.finished'] = true, ['run.failed'] = true, ['run.error'] = true, ['run.cancelled'] = true}

-- Lua writes 10^14 and above as 1e+14.
local function int(n) return string.format('%.0f', n) end

local recorded = redis.call('GET', writer)
if recorded then
  local number, rest = string.match(recorded, '^(%d+)|(.*)$')
  if tonumber(number) > call then return {'stale'} end
  if tonumber(number) == call then
    local ms, first, outcomes, seqs = string.match(rest, '^(%d+)|(%d+)|(.*)|(.*)$')
    return {'replayed', ms, first, outcomes, seqs}
  end
end

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local m = redis.call('HMGET', meta, 'epoch', 'ms', 'offset', 'cleared', 'ttl', 'max', 'upkeep')
local counters = {}
local ms, offset, cleared, upkeep
if m[1] then
  ms, offset, cleared, upkeep = tonumber(m[2]), tonumber(m[3]), tonumber(m[4] or '0'), tonumber(m[7] or '0')
else
  -- A new log, or one whose counters were lost: what is resident goes on. A new log is born a millisecond
  -- ahead of the clock, so every id of an earlier incarnation is older than its birth.
  ms, offset, cleared, upkeep = now + 1, 0, 0, 0
  local born = ms
  local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  if last then
    local last_ms, last_offset = string.match(last[1], '^(%d+)-(%d+)$')
    ms, offset = tonumber(last_ms), tonumber(last_offset)
    born = tonumber(string.match(redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1][1], '^(%d+)'))
  end
  counters = {'epoch', new_epoch, 'born', int(born)}
end
if now > ms then ms = now end
local first, ms_text = offset + 1, int(ms)
local id_prefix = ms_text .. '-'
local outcomes, seqs, seen, touched = {}, {}, {}, {}

-- Nothing at or below this offset is visible in a log that ends at `last`.
local function floor_of(last)
  if last - max > cleared then return last - max end
  return cleared
end

local function run_of(run_id)
  local run = touched[run_id]
  if not run then
    local key = run_prefix .. run_id
    local h = redis.call('HMGET', key, 'first', 'last', 'count')
    if h[2] and tonumber(string.match(h[2], '-(%d+)$')) <= floor_of(offset - 1) then
      redis.call('UNLINK', key, index_prefix .. run_id)   -- all its events are gone: the run begins anew
      h = {}
    end
    run = {key = key, first = h[1], count = tonumber(h[3] or '0'), lanes = {}}
    touched[run_id] = run
  end
  return run
end

local function next_seq(run, lane)
  local seq = run.lanes[lane] or tonumber(redis.call('HGET', run.key, 'lane:' .. lane) or '0')
  run.lanes[lane] = seq + 1
  return int(seq + 1)
end

local function remember(key, record)
  redis.call('SET', idem_prefix .. key, record, 'PX', window)
end

local function add(names, i, width, keyed)
  local args, id = {'XADD', log, '', names[1], ARGV[i]}, nil
  local run_id, lane
  for j = 1, width do
    local name, value = names[j], ARGV[i + j - 1]
    if name == 'run_id' then run_id = value elseif name == 'lane_id' then lane = value end
    args[2 * j + 2], args[2 * j + 3] = name, value
  end
  offset = offset + 1
  id = id_prefix .. int(offset)
  args[3] = id
  local seq = ''
  if run_id then
    local run = run_of(run_id)
    seq = next_seq(run, lane)
    seqs[#seqs + 1] = seq
    args[#args + 1], args[#args + 2] = 'seq', seq
    redis.call(unpack(args))
    redis.call('XADD', index_prefix .. run_id, id, lane, seq)
    run.first, run.last, run.count = run.first or id, id, run.count + 1
    if TERMINAL[ARGV[i]] then run.ended = ARGV[i] end
  else
    redis.call(unpack(args))
  end
  if keyed then
    local record = id .. ':1:' .. seq
    remember(keyed, record)
    seen[keyed] = record
    outcomes[#outcomes + 1] = '0'
  end
end

local function duplicate_of(key)
  return seen[key] or redis.call('GET', idem_prefix .. key)
end

-- Carry out the part at ARGV[i], or only step over it; returns where the next one begins.
local function part(i, skip)
  local shape, n = ARGV[i], tonumber(ARGV[i + 1])
  local width = #shape
  i = i + 2
  if skip then return i + n * width end
  if shape == 'kp' then
    for _ = 1, n do
      offset = offset + 1
      redis.call('XADD', log, id_prefix .. int(offset), 'kind', ARGV[i], 'payload', ARGV[i + 1])
      i = i + 2
    end
    return i
  end
  local keyed = string.sub(shape, -1) == 'i'
  local stored = keyed and width - 1 or width
  local names = {}
  for j = 1, stored do names[j] = NAMES[string.sub(shape, j, j)] end
  for _ = 1, n do
    local key = keyed and ARGV[i + stored]
    local earlier = key and duplicate_of(key)
    if earlier then outcomes[#outcomes + 1] = 'd' .. earlier else add(names, i, stored, key) end
    i = i + width
  end
  return i
end

local function conditional(i)
  local expected, key, parts = ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
  local earlier = key ~= '' and duplicate_of(key)
  local refused
  if earlier then
    refused = 'd' .. earlier
  elseif expected ~= '' and tonumber(expected) ~= offset then
    refused = 'c' .. int(offset)
  end
  outcomes[#outcomes + 1] = refused or '0'
  local before, seqs_before = offset, #seqs
  i = i + 4
  for _ = 1, parts do i = part(i, refused) end
  if key ~= '' and not refused then
    local record = id_prefix .. int(before + 1) .. ':' .. int(offset - before) .. ':'
      .. table.concat(seqs, ' ', seqs_before + 1)
    remember(key, record)
    seen[key] = record
  end
  return i
end

local i, before = 7, offset
while i <= #ARGV do
  if ARGV[i] == 'G' then i = conditional(i) else i = part(i, false) end
end

if offset > before then
  -- Whole keys outlive the last event by one interval of upkeep, so that not every append has to move them.
  local interval = math.floor(ttl / 16) + 1
  if interval > 60000 then interval = 60000 end
  counters[#counters + 1], counters[#counters + 2] = 'ms', ms_text
  counters[#counters + 1], counters[#counters + 2] = 'offset', int(offset)
  local changed = m[5] ~= ARGV[2] or m[6] ~= ARGV[3]
  if changed then
    counters[#counters + 1], counters[#counters + 2] = 'ttl', ARGV[2]
    counters[#counters + 1], counters[#counters + 2] = 'max', ARGV[3]
  end
  if changed or now >= upkeep or not m[1] then
    counters[#counters + 1], counters[#counters + 2] = 'upkeep', int(now + interval)
    redis.call('XTRIM', log, 'MINID', '~', int(now - ttl + 1))
    redis.call('PEXPIREAT', log, int(ms + ttl + interval))
    redis.call('PEXPIREAT', runs, int(ms + ttl + interval))
  end
  if changed or math.floor(offset / 64) ~= math.floor(before / 64) then
    redis.call('XTRIM', log, 'MAXLEN', '~', ARGV[3])
  end
  redis.call('HSET', meta, unpack(counters))

  local oldest
  for run_id, run in pairs(touched) do
    local fields = {'first', run.first, 'last', run.last, 'count', int(run.count)}
    for lane, seq in pairs(run.lanes) do
      fields[#fields + 1], fields[#fields + 2] = 'lane:' .. lane, int(seq)
    end
    if run.ended then fields[#fields + 1], fields[#fields + 2] = 'ended', run.ended end
    for j = 1, #fields, 1000 do
      redis.call('HSET', run.key, unpack(fields, j, math.min(j + 999, #fields)))
    end
    if not oldest then oldest = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1] end
    if oldest then redis.call('XTRIM', index_prefix .. run_id, 'MINID', '~', oldest[1]) end
    redis.call('PEXPIREAT', run.key, int(ms + ttl))
    redis.call('PEXPIREAT', index_prefix .. run_id, int(ms + ttl))
    redis.call('ZADD', runs, string.match(run.last, '-(%d+)$'), run_id)
    redis.call('PEXPIREAT', runs, int(ms + ttl + interval))
  end
  -- Each event adds at most one run, so removing a few more than were added keeps up with any load.
  if oldest or now >= upkeep then
    local gone = redis.call('ZRANGEBYSCORE', runs, '-inf', int(floor_of(offset)), 'LIMIT', 0, 32 + 2 * #seqs)
    for _, run_id in ipairs(gone) do
      redis.call('UNLINK', run_prefix .. run_id, index_prefix .. run_id)
      redis.call('ZREM', runs, run_id)
    end
  end
end

local joined, numbers = table.concat(outcomes, ','), table.concat(seqs, ',')
local reply = {'ok', ms_text, int(first), joined, numbers}
redis.call('SET', writer, ARGV[5] .. '|' .. table.concat({ms_text, reply[3], joined, numbers}, '|'), 'PX', writer_ms)
return reply
