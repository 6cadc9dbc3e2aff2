-- Store or remove one policy, and count versions. Queues take it up with the next act on them.
--
-- KEYS    1 policies
-- ARGV    1 scope: "global", "pack/<pack>", "action/<action>" or "queue/<queue>"
--         2 the policy without its version, "" to remove it   3 the version that it must have now, "" for any
-- Returns {"ok", version}, the version being that of the last change of this policy, or of any if it does not exist
--         {"conflict", version}: it has another version now, 0 if it does not exist
--         What is as it is asked to be stays as it is, whatever its version: so a call may be repeated.

local policies = KEYS[1]
local scope, policy, expected = ARGV[1], ARGV[2], ARGV[3]

local stored = redis.call('HGET', policies, scope)
local version, is = string.match(stored or '0 ', '^(%d+) (.*)$')
if policy == is then
  return {'ok', tonumber(stored and version or redis.call('HGET', policies, 'version') or '0')}
end
if expected ~= '' and expected ~= version then return {'conflict', tonumber(version)} end
local new = redis.call('HINCRBY', policies, 'version', 1)
if policy == '' then
  redis.call('HDEL', policies, scope)
else
  redis.call('HSET', policies, scope, string.format('%.0f', new) .. ' ' .. policy)
end
return {'ok', new}
