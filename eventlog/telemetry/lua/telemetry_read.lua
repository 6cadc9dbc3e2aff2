-- Read a bounded stretch of a run's ring.
--
-- KEYS    1 ring   2 samples   3 the run   4 meta
-- ARGV    1 from_seq, after which to begin   2 stage that is wanted, or ""   3 count, how many at most
--         4 most, how many to look at        5 retention, "ttl_ms max_entries", for a log that does not know it yet
-- Returns {"ok", next_seq, missed, capacity or "", complete "1" or "0", entries}: missed samples after from_seq are gone,
--           complete if no more than these are there after it; entries as XRANGE gives them
--         {"unknown"} for a run with neither a visible event nor a ring

local ring, samples, run, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local from_seq, stage, count, most, retention = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]

-- include log/run_visible

local h = redis.call('HMGET', ring, 'seq', 'capacity', 'cleared')
if not h[1] or tonumber(h[3]) ~= cleared then
  local of_run = redis.call('HMGET', run, 'last', 'samples', 'given')
  if not is_visible(of_run[1]) then return {'unknown'} end
  -- The ring is gone, but not how many samples there ever were, nor the capacity that the run was given.
  local gone = math.max(tonumber(of_run[2] or '0') - from_seq, 0)
  return {'ok', int(from_seq + gone), int(gone), of_run[3] or '', '1', {}}
end

local function seq_of(entry) return tonumber(string.match(entry[1], '^%d+')) end

local oldest = redis.call('XRANGE', samples, '-', '+', 'COUNT', 1)[1]
local first = oldest and seq_of(oldest) or tonumber(h[1]) + 1
local missed = math.max(first - 1 - from_seq, 0)
local next_seq = from_seq + missed

local found, looked, complete = {}, 0, false
while #found < count and looked < most and not complete do
  local portion = stage == '' and count or math.min(250, most - looked)
  local entries = redis.call('XRANGE', samples, int(next_seq + 1) .. '-0', '+', 'COUNT', portion)
  complete = #entries < portion
  for _, entry in ipairs(entries) do
    if #found == count then
      complete = false
      break
    end
    local fields = entry[2]
    if stage == '' or (fields[1] == 'stage_name' and fields[2] == stage) then found[#found + 1] = entry end
    next_seq = seq_of(entry)
  end
  looked = looked + portion
end
return {'ok', int(next_seq), int(missed), h[2], complete and '1' or '0', found}
