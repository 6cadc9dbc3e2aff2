-- Add samples to the ring of a run.
--
-- KEYS    1 ring   2 samples   3 the run   4 meta   5 push, where this push is remembered
-- ARGV    1 call_ms, how long the push is remembered   2 given, the run's own capacity from now on, or ""
--         3 usual, the capacity of runs without one    4 grace_ms, how long samples outlive the end of the run
--         5 retention, "ttl_ms max_entries", for a log that does not know it yet
--         6 call, the name of this call: a lost reply has it repeated under the same one
--         then for each sample its age in ms, its stage or "", and the rest, which is opaque bytes
--         last, how many ms the samples have waited since they were that old
-- Returns {"ok", first, n, at}: n samples got seqs from `first` on; their ages count back from `at`
--         {"ok" or "replayed", …the same, entries} if this call, or another with this push, was carried out before:
--           what is left of its samples, as XRANGE gives them
--         {"unknown"}, {"disabled"}, {"over"}: nothing is kept, as the run has neither event nor ring, keeps no samples,
--           or ended, and had its last event, longer ago than the grace

local ring, samples, run, meta, push = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local call_ms, given, usual, grace_ms, retention, call = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]

-- include log/run_visible

local h = redis.call('HMGET', ring, 'seq', 'given', 'until', 'cleared', 'begun')
-- A ring from before the log was cleared is none; what is left of it goes with the first sample.
local exists = h[1] and tonumber(h[4]) == cleared
if not exists then h = {} end

local recorded = redis.call('GET', push)
if recorded then
  local first, count, at, begun, by = string.match(recorded, '^(%d+) (%d+) (%d+) (%d+) (.*)$')
  local entries = {}
  -- In another ring of the run the same seqs may be other samples.
  if h[5] == begun and count ~= '0' then
    entries = redis.call('XRANGE', samples, first, int(first + count - 1))
  end
  return {by == call and 'ok' or 'replayed', first, count, at, entries}
end

local of_run = redis.call('HMGET', run, 'last', 'ended_id', 'samples', 'given')
local visible = is_visible(of_run[1])
if not (exists or visible) then return {'unknown'} end
if not visible then of_run = {} end

local seq = tonumber(h[1] or of_run[3] or '0')
-- The log's end when the ring began: seqs begin anew only after more was appended.
local begun = h[5] or int(log_offset)
local n = (#ARGV - 7) / 3
local at = int(math.max(now - ARGV[#ARGV], 0))
local function remember(first)
  redis.call('SET', push, int(first) .. ' ' .. int(n) .. ' ' .. at .. ' ' .. begun .. ' ' .. call, 'PX', call_ms)
end

local own = given ~= '' and given or h[2] or of_run[4]
local capacity = tonumber(own or usual)
if capacity == 0 then
  if given ~= '' then
    if exists then redis.call('UNLINK', ring, samples) end
    if visible then redis.call('HSET', run, 'given', '0') end
    n = 0
    remember(seq + 1)
  end
  return {'disabled'}
end
local until_ms = tonumber(h[3])
if visible then until_ms = of_run[2] and tonumber(string.match(of_run[1], '^%d+')) + grace_ms end
if until_ms and until_ms <= now then return {'over'} end
local first = seq + 1
if n == 0 and given == '' then return {'ok', int(first), '0', at} end

if not exists then redis.call('UNLINK', ring, samples) end
for i = 7, #ARGV - 1, 3 do
  seq = seq + 1
  local id = int(seq) .. '-' .. int(math.max(at - ARGV[i], 0))
  if ARGV[i + 1] == '' then
    redis.call('XADD', samples, id, 'sample', ARGV[i + 2])
  else
    redis.call('XADD', samples, id, 'stage_name', ARGV[i + 1], 'sample', ARGV[i + 2])
  end
end
redis.call('XTRIM', samples, 'MAXLEN', '=', int(capacity))
local aged_ms = now + ttl
local expires_ms = int(until_ms and math.min(aged_ms, until_ms) or aged_ms)
redis.call('HSET', ring, 'seq', int(seq), 'capacity', int(capacity), 'grace', grace_ms, 'aged', int(aged_ms),
  'cleared', int(cleared), 'begun', begun)
if until_ms then redis.call('HSET', ring, 'until', int(until_ms)) else redis.call('HDEL', ring, 'until') end
if own then redis.call('HSET', ring, 'given', own) end
if visible then
  redis.call('HSET', run, 'samples', int(seq))
  if own then redis.call('HSET', run, 'given', own) end
end
redis.call('PEXPIREAT', ring, expires_ms)
redis.call('PEXPIREAT', samples, expires_ms)
remember(first)
return {'ok', int(first), int(n), at}
