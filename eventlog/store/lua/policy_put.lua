-- Store or remove one policy, and count versions. Queues take it up with the next act on them.
--
-- KEYS    1 policies
-- ARGV    1 scope: "global", "pack/<pack>", "action/<action>" or "queue/<queue>"
--         2 the policy without its version, "" to remove it   3 the version that it must have now, "" for any
-- Returns {"ok", version}, the version being that of the last change of any policy of the workspace
--         {"conflict", version}: it has another version now, 0 if it does not exist

local policies = KEYS[1]
local scope, policy, expected = ARGV[1], ARGV[2], ARGV[3]

local stored = redis.call('HGET', policies, scope)
local version = stored and string.match(stored, '^%d+') or '0'
if expected ~= '' and expected ~= version then return {'conflict', tonumber(version)} end
if policy == '' then
  if redis.call('HDEL', policies, scope) == 0 then return {'ok', tonumber(version)} end
  return {'ok', redis.call('HINCRBY', policies, 'version', 1)}
end
local new = redis.call('HINCRBY', policies, 'version', 1)
redis.call('HSET', policies, scope, string.format('%.0f', new) .. ' ' .. policy)
return {'ok', new}
