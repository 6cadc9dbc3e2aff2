-- Take the next events of one kind for a consumer group of the log. What is taken is pending until it is acknowledged.
--
-- KEYS    1 log   2 meta   3 group, where it stands: outlives the stream, and with it the group itself
-- ARGV    1 group   2 consumer   3 kind   4 how many entries to look at, at most
--         5 idle_ms: what was taken so long ago and is still pending passes from its consumer to this one
--         then the ids to acknowledge
-- Returns {epoch, how, missed, lost, lag, position, looked_at, entries}
--         epoch: "" if there is no log; how: "same", "new" (the group was never here before) or "reset" (it stood in another
--         log); missed: events that were gone before the group could look at them; lost: pending ones that are gone;
--         lag: events that it has not looked at; position: id up to which it has; looked_at: entries that were new to it;
--         entries: pending ones first, those of others only if nobody has cared for so long, then the new ones of the kind

local log, meta, standing = KEYS[1], KEYS[2], KEYS[3]
local group, consumer, kind, count, idle_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
-- A group that nobody asks for is forgotten after a week.
local IDLE_MS = 604800000

-- Lua writes 10^14 and above as 1e+14.
local function int(n) return string.format('%.0f', n) end

local m = redis.call('HMGET', meta, 'epoch', 'ms', 'offset')
local g = redis.call('HMGET', standing, 'epoch', 'ms', 'offset')
local epoch, last = m[1] or '', tonumber(m[3] or '0')

local exists, delivered, pending = redis.call('EXISTS', log) == 1, nil, 0
if exists then
  for _, fields in ipairs(redis.call('XINFO', 'GROUPS', log)) do
    local named = {}
    for i = 1, #fields, 2 do named[fields[i]] = fields[i + 1] end
    if named.name == group then delivered, pending = named['last-delivered-id'], named.pending end
  end
end

local how, at_ms, at = 'same', '0', 0
if g[1] == epoch then at_ms, at = g[2], tonumber(g[3]) end
if delivered then
  -- Where all was trimmed before it was read, the group itself stands further back.
  local delivered_ms, offset = string.match(delivered, '^(%d+)-(%d+)$')
  if tonumber(offset) > at then at_ms, at = delivered_ms, tonumber(offset) end
elseif g[1] ~= epoch then
  how = g[1] and 'reset' or 'new'
end

local entries, lost = {}, 0
if delivered then
  for first = 6, #ARGV, 1000 do
    pending = pending - redis.call('XACK', log, group, unpack(ARGV, first, math.min(first + 999, #ARGV)))
  end
elseif exists then
  redis.call('XGROUP', 'CREATE', log, group, at_ms .. '-' .. int(at))
end

if pending > 0 then
  -- What this consumer was given before, in an answer that never arrived or that it could not act upon.
  local own = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count, 'STREAMS', log, '0')
  for _, entry in ipairs(own[1][2]) do
    if entry[2] then
      entries[#entries + 1] = entry
    else
      lost = lost + redis.call('XACK', log, group, entry[1])
    end
  end
  local others = redis.call('XAUTOCLAIM', log, group, consumer, idle_ms, '0-0', 'COUNT', count)
  for _, entry in ipairs(others[2]) do entries[#entries + 1] = entry end
  lost = lost + #others[3]
end

local missed, looked_at = 0, 0
local read = exists and redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count, 'NOACK', 'STREAMS', log, '>')
if read then
  local expected = at + 1
  for _, entry in ipairs(read[1][2]) do
    local id, fields = entry[1], entry[2]
    looked_at = looked_at + 1
    local ms, offset = string.match(id, '^(%d+)-(%d+)$')
    at_ms, at = ms, tonumber(offset)
    if looked_at == 1 then missed = at - expected end
    if fields[1] == 'kind' and fields[2] == kind then
      redis.call('XCLAIM', log, group, consumer, 0, id, 'FORCE', 'JUSTID')
      entries[#entries + 1] = entry
    end
  end
elseif last > at then
  missed, at_ms, at = last - at, m[2], last
end

if epoch ~= '' and (g[1] ~= epoch or g[3] ~= int(at)) then
  redis.call('HSET', standing, 'epoch', epoch, 'ms', at_ms, 'offset', int(at))
  redis.call('PEXPIRE', standing, IDLE_MS)
end
return {epoch, how, math.max(missed, 0), lost, math.max(last - at, 0), at_ms .. '-' .. int(at), looked_at, entries}
