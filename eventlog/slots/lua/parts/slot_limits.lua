-- What limits a queue: its own limit, then the policies of action, pack and global, then the caller's number.
--
-- Takes   policies (key)
-- Gives   limits_of(name, pack, caller_limit): max_concurrent (nil: none), rate_n, rate_ms, quota_n, quota_ms, max_length,
--         timeout_ms, quiet, each from the most specific scope that says it; by_policy: 1 if max_concurrent is not the
--         caller's number, else 0
--
-- A policy is "version max_concurrent rate_n rate_ms quota_n quota_ms max_length timeout_ms log", "-" for what it leaves open.

local POLICY = '^%S+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$'

local function limits_of(name, pack, caller_limit)
  local found = redis.call('HMGET', policies, 'global', 'pack/' .. pack, 'action/' .. string.match(name, '^[^/]+'), 'queue/' .. name)
  local limits = {max_concurrent = caller_limit, by_policy = 0, quiet = false}
  for i = 1, 4 do
    if found[i] then
      local most, rate_n, rate_ms, quota_n, quota_ms, max_length, timeout_ms, logged = string.match(found[i], POLICY)
      if most ~= '-' then limits.max_concurrent, limits.by_policy = tonumber(most), 1 end
      if rate_n ~= '-' then limits.rate_n, limits.rate_ms = tonumber(rate_n), tonumber(rate_ms) end
      if quota_n ~= '-' then limits.quota_n, limits.quota_ms = tonumber(quota_n), tonumber(quota_ms) end
      if max_length ~= '-' then limits.max_length = tonumber(max_length) end
      if timeout_ms ~= '-' then limits.timeout_ms = tonumber(timeout_ms) end
      if logged ~= '-' then limits.quiet = logged == '0' end
    end
  end
  return limits
end
