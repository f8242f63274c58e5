-- Take the report of a gateway (ARGV[3]) and what it hears (ARGV[5]), valid for ARGV[4] ms. Return whether the one before
-- was still valid, and the reports of all gateways.
local ttl = tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local gateways = PREFIX .. 'gateways'
local own = PREFIX .. 'gateway:' .. ARGV[2]
local known = redis.call('EXISTS', own)
redis.call('SET', own, ARGV[3], 'PX', ttl)
local heard = PREFIX .. 'heard:' .. ARGV[2]
redis.call('HSET', heard, 'heard', ARGV[5], 'at_ms', now)
redis.call('PEXPIRE', heard, ttl)
redis.call('ZADD', gateways, now + ttl, ARGV[2])
redis.call('ZREMRANGEBYSCORE', gateways, '-inf', now)
redis.call('PEXPIRE', gateways, ttl)
for _, kind in ipairs({ 'presence:', 'users:', 'inbox:' }) do
    redis.call('PEXPIRE', PREFIX .. kind .. ARGV[2], ttl)
end
redis.call('PEXPIRE', KEYS[1], 7 * 24 * 3600 * 1000)
local reports = {}
for _, id in ipairs(redis.call('ZRANGE', gateways, 0, -1)) do
    reports[#reports + 1] = redis.call('GET', PREFIX .. 'gateway:' .. id) or nil
end
return { known, reports }
