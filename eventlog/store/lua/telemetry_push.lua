-- Add samples to the ring of a run.
--
-- KEYS    1 ring   2 samples   3 the run   4 meta   5 push, where this push is remembered
-- ARGV    1 call_ms, how long the push is remembered   2 given, the run's own capacity from now on, or ""
--         3 usual, the capacity of runs without one    4 grace_ms, how long samples outlive the end of the run
--         5 retention, "ttl_ms max_entries", for a log that does not know it yet
--         then for each sample its age in ms, its stage or "", and the rest, which is opaque bytes
-- Returns {"ok", first, n, now}: n samples got seqs from `first` on
--         {"replayed", …the same} if this push was carried out before
--         {"unknown"}, {"disabled"}, {"over"}: nothing is kept, as the run has neither event nor ring, keeps no samples,
--           or ended longer ago than the grace

local ring, samples, run, meta, push = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local call_ms, given, usual, grace_ms, retention = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local recorded = redis.call('GET', push)
if recorded then return {'replayed', string.match(recorded, '^(%d+) (%d+) (%d+)$')} end

-- include run_visible

local h = redis.call('HMGET', ring, 'seq', 'given', 'until', 'cleared')
local of_run = redis.call('HMGET', run, 'last', 'ended_id', 'samples')
local visible = is_visible(of_run[1])
-- A ring from before the log was cleared is none; what is left of it goes with the first sample.
local exists = h[1] and tonumber(h[4]) == cleared
if not exists then h = {} end
if not (exists or visible) then return {'unknown'} end

local seq = tonumber(h[1] or visible and of_run[3] or '0')
local n = (#ARGV - 5) / 3
local function remember(first)
  redis.call('SET', push, int(first) .. ' ' .. int(n) .. ' ' .. int(now), 'PX', call_ms)
end

local capacity = tonumber(given ~= '' and given or h[2] or usual)
if capacity == 0 then
  if given ~= '' and exists then
    redis.call('UNLINK', ring, samples)
    n = 0
    remember(seq + 1)
  end
  return {'disabled'}
end
local until_ms = tonumber(h[3])
if not exists and of_run[2] then
  until_ms = tonumber(string.match(of_run[2], '^%d+')) + grace_ms
  if until_ms <= now then return {'over'} end
end
local first = seq + 1
if n == 0 and given == '' then return {'ok', int(first), '0', int(now)} end

if not exists then redis.call('UNLINK', ring, samples) end
for i = 6, #ARGV, 3 do
  seq = seq + 1
  local id = int(seq) .. '-' .. int(math.max(now - ARGV[i], 0))
  if ARGV[i + 1] == '' then
    redis.call('XADD', samples, id, 'sample', ARGV[i + 2])
  else
    redis.call('XADD', samples, id, 'stage_name', ARGV[i + 1], 'sample', ARGV[i + 2])
  end
end
redis.call('XTRIM', samples, 'MAXLEN', '=', int(capacity))
redis.call('HSET', ring, 'seq', int(seq), 'capacity', int(capacity), 'grace', grace_ms, 'cleared', int(cleared))
if given ~= '' then redis.call('HSET', ring, 'given', given) end
if visible then redis.call('HSET', run, 'samples', int(seq)) end
local expires_ms = now + ttl
if until_ms then
  redis.call('HSET', ring, 'until', int(until_ms))
  expires_ms = math.min(expires_ms, until_ms)
end
redis.call('PEXPIREAT', ring, int(expires_ms))
redis.call('PEXPIREAT', samples, int(expires_ms))
remember(first)
return {'ok', int(first), int(n), int(now)}
