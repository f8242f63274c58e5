-- What every script begins with. KEYS[1] is the hash of the engine, `PREFIX:engine`;
-- ARGV[1] the epoch that the caller knows, ARGV[2] the gateway that calls.
-- The first write of a script must be one that a full Redis refuses (SET, HSET, ZADD, XADD): behind any other
-- write, it lets all writes pass.
local PREFIX = string.sub(KEYS[1], 1, -7)
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then
    return redis.error_reply('STALE the data of epoch ' .. ARGV[1] .. ' is gone')
end
