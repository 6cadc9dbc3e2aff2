-- Find the slot queues in which an execution has a place or a slot.
--
-- KEYS    one book a queue
-- ARGV    1 execution
-- Returns the numbers of the keys that know it

local found = {}
for number = 1, #KEYS do
  if redis.call('HEXISTS', KEYS[number], ARGV[1]) == 1 then found[#found + 1] = number end
end
return found
