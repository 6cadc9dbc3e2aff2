-- Read a bounded stretch of a log, together with the state that says what the reader missed.
--
-- KEYS    1 log   2 meta   3 run index, or the log again if the read is not of one run
-- ARGV    1 since ms or ""    2 since offset or ""    3 epoch the reader believes in or ""
--         4 until ms or ""    5 until offset or ""    6 from_ms, the earliest time wanted
--         7 count             8 "asc" or "desc"       9 "run" if KEYS[3] is a run's index, else ""; or, to look at its next thousand
--         entries and take those that pass, "run lane seq milestones": of that lane or "*", of a higher seq, and if "1"
--         only such with a kind, which are stage events and ends of runs
--         10 retention, "ttl_ms max_entries", for a log that does not know it yet
-- Returns {epoch, born, ms, offset, now, ttl, max, first id or "", following id or "", holds "1" or "0",
--         complete "1" or "0", reached id or "", entries}
--         entries as XRANGE gives them, without expired ones and those over max_entries;
--         following is the first visible id after `since`, holds: the event at `since` itself is visible; reached is the
--         last id that was looked at

local log, meta, index = KEYS[1], KEYS[2], KEYS[3]
local since_ms, since_offset, epoch = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local until_ms, until_offset, from_ms = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local count, descending, of_run = tonumber(ARGV[7]), ARGV[8] == 'desc', ARGV[9] ~= ''
local lane, seq, milestones = string.match(ARGV[9], '^run (%S+) (%d+) (%d)$')

local function int(n) return string.format('%.0f', n) end

local function parsed(id)
  local ms, offset = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(offset)
end

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local m = redis.call('HMGET', meta, 'epoch', 'born', 'ms', 'offset', 'cleared', 'retention')
local ttl, max = string.match(m[6] or ARGV[10], '^(%d+) (%d+)$')
ttl, max = tonumber(ttl), tonumber(max)
if not m[1] then
  return {'', '0', '0', '0', int(now), int(ttl), int(max), '', '', '0', '1', '', {}}
end
local last_ms, last_offset = tonumber(m[3]), tonumber(m[4])
local floor = math.max(last_offset - max, tonumber(m[5] or '0'))

local function first_from(ms)
  local entry = redis.call('XRANGE', log, int(ms) .. '-0', '+', 'COUNT', 1)[1]
  if entry then return parsed(entry[1]) end
end

-- The time that makes (time, offset) sort just after the event of that offset. Offsets are dense and times never
-- run backwards, so halving the span of time finds it in a few dozen steps, however long the log.
local function time_of(offset)
  local low, low_offset = first_from(0)
  if not low or offset < low_offset then return 0 end
  if offset >= last_offset then return last_ms end
  local high = last_ms + 1
  while high - low > 1 do
    local ms, found = first_from(math.floor((low + high) / 2))
    if not ms or found > offset then high = math.floor((low + high) / 2) else low = ms end
  end
  return low
end

local function later(ms, offset, other_ms, other_offset)
  if ms > other_ms or (ms == other_ms and offset > other_offset) then return ms, offset end
  return other_ms, other_offset
end

-- Nothing at or below this position is visible any more.
local floor_ms, floor_at = now - ttl, 9007199254740991
local oldest_ms, oldest_offset = first_from(floor_ms + 1)
if oldest_ms and oldest_offset <= floor then
  floor_ms, floor_at = later(floor_ms, floor_at, time_of(floor), floor)
end
local function after_floor(from, offset)
  local ms, at = later(from, offset, floor_ms, floor_at)
  return '(' .. int(ms) .. '-' .. int(at)
end
local first = redis.call('XRANGE', log, after_floor(0, 0), '+', 'COUNT', 1)[1]

local start = after_floor(0, 0)
local following, holds = first, '0'
if since_offset then
  if epoch ~= '' and epoch ~= m[1] and not (since_ms and since_ms > tonumber(m[2])
      and redis.call('XRANGE', log, ARGV[1] .. '-' .. ARGV[2], ARGV[1] .. '-' .. ARGV[2])[1]) then
    since_ms, since_offset = 0, 0
  end
  start = after_floor(since_ms or time_of(since_offset), since_offset)
  local here = string.sub(start, 2)
  if since_ms and here == int(since_ms) .. '-' .. int(since_offset) then
    local from_here = redis.call('XRANGE', log, here, '+', 'COUNT', 2)
    following = from_here[1]
    if following and following[1] == here then following, holds = from_here[2], '1' end
  else
    following = redis.call('XRANGE', log, start, '+', 'COUNT', 1)[1]
  end
end
if from_ms > 0 then
  local ms, at = parsed(string.sub(start, 2))
  ms, at = later(ms, at, from_ms - 1, 9007199254740991)
  start = '(' .. int(ms) .. '-' .. int(at)
end
local stop = '+'
if until_offset then
  local ms = until_ms or time_of(until_offset)
  -- Redis refuses an exclusive 0-0. No entry has that id, so it may as well be inclusive.
  stop = (ms + until_offset > 0 and '(' or '') .. int(ms) .. '-' .. int(until_offset)
end

local function passes(fields)
  return not lane or ((lane == '*' or fields[1] == lane) and tonumber(fields[2]) > tonumber(seq)
    and (milestones == '0' or #fields > 2))
end

local entries, complete, reached = {}, true, ''
if count > 0 then
  local source, most = of_run and index or log, lane and 1000 or count
  if descending then
    entries = redis.call('XREVRANGE', source, stop, start, 'COUNT', most)
  else
    entries = redis.call('XRANGE', source, start, stop, 'COUNT', most)
  end
  complete = #entries < most
  reached = #entries > 0 and entries[#entries][1] or ''
  if of_run then
    local found = {}
    for i, entry in ipairs(entries) do
      if passes(entry[2]) then
        found[#found + 1] = redis.call('XRANGE', log, entry[1], entry[1])[1]
        if #found == count and i < #entries then
          complete, reached = false, entry[1]
          break
        end
      end
    end
    entries = found
  end
end

return {m[1], m[2], m[3], m[4], int(now), int(ttl), int(max), first and first[1] or '',
        following and following[1] or '', holds, complete and '1' or '0', reached, entries}
