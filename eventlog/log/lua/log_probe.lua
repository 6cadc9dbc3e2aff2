-- Carry out every command of an append on a key that nobody reads: what Redis would refuse of one, it refuses of this.
--
-- KEYS    1 scratch
-- Returns "ok". Nothing stays.

local scratch = KEYS[1]

-- This is the first: out of memory, Redis refuses only what a script begins with.
redis.call('SET', scratch, '', 'PX', 1000)
redis.call('UNLINK', scratch)

local clock = redis.call('TIME')
redis.call('GET', scratch)
redis.call('HSET', scratch, 'field', '')
redis.call('HGET', scratch, 'field')
redis.call('HMGET', scratch, 'field')
redis.call('PEXPIREAT', scratch, clock[1] .. '999')
redis.call('UNLINK', scratch)

redis.call('XADD', scratch, '1-1', 'kind', '', 'payload', '')
redis.call('XRANGE', scratch, '-', '+', 'COUNT', 1)
redis.call('XREVRANGE', scratch, '+', '-', 'COUNT', 1)
redis.call('XTRIM', scratch, 'MAXLEN', '~', 1)
redis.call('UNLINK', scratch)

redis.call('ZADD', scratch, 1, 'member')
redis.call('ZRANGEBYSCORE', scratch, '-inf', '+inf', 'LIMIT', 0, 1)
redis.call('ZREM', scratch, 'member')
redis.call('UNLINK', scratch)
return 'ok'
