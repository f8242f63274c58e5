-- Return the engine's epoch. It is a new one, ARGV[1], if the data is gone, or if another server process (ARGV[2])
-- has it now: that may lack writes which the one before has confirmed.
local TTL_MS = 7 * 24 * 3600 * 1000
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch or redis.call('HGET', KEYS[1], 'server') ~= ARGV[2] then
    epoch = ARGV[1]
end
-- Also if nothing changes: a full Redis must refuse it.
redis.call('HSET', KEYS[1], 'epoch', epoch, 'server', ARGV[2])
redis.call('PEXPIRE', KEYS[1], TTL_MS)
return epoch
