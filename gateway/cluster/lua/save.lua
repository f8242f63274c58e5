-- Keep the session of client ARGV[3] for ARGV[4] ms: its identity's key ARGV[5], its user's key ARGV[6] ('' for none),
-- what it consists of ARGV[7], whether its client is connected ARGV[8], the keys of its secrets ARGV[9] ….
-- Return { 0 } if another gateway has taken it, else { 1, the epoch and the offset of its newest personal message }.
-- Which gateway took it last may be lost with an epoch: then the first one that writes it has it, and one whose client
-- is connected before one that only remembers it.
local client, ttl, user = ARGV[3], ARGV[4], ARGV[6]
local session = PREFIX .. 'session:' .. client
local before = redis.call('HMGET', session, 'owner', 'secrets', 'user', 'claimed', 'connected', 'epoch', 'offset')
local other = before[1] and before[1] ~= ARGV[2]
if other and before[4] == ARGV[1] and not (ARGV[8] == '1' and before[5] == '0') then
    return { 0 }
end
local secrets = {}
for n = 9, #ARGV do
    secrets[#secrets + 1] = ARGV[n]
end
redis.call(
    'HSET', session,
    'owner', ARGV[2], 'claimed', ARGV[1], 'identity', ARGV[5], 'user', user, 'kept', ARGV[7], 'connected', ARGV[8],
    'secrets', table.concat(secrets, ' ')
)
if other then
    send(before[1], { 'kind', 'taken', 'client', client })
end
redis.call('PEXPIRE', session, ttl)
redis.call('PEXPIRE', PREFIX .. 'personal:' .. client, ttl)
for secret in string.gmatch(before[2] or '', '%S+') do
    redis.call('DEL', PREFIX .. 'secret:' .. secret)
end
for _, secret in ipairs(secrets) do
    redis.call('SET', PREFIX .. 'secret:' .. secret, client, 'PX', ttl)
end
if before[3] and before[3] ~= '' and before[3] ~= user then
    redis.call('ZREM', PREFIX .. 'user:' .. before[3], client)
end
if user ~= '' then
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    local clients = PREFIX .. 'user:' .. user
    redis.call('ZADD', clients, now + ttl, client)
    redis.call('ZREMRANGEBYSCORE', clients, '-inf', now)
    if redis.call('PTTL', clients) < tonumber(ttl) then
        redis.call('PEXPIRE', clients, ttl)
    end
end
return { 1, before[6] or '', before[7] or '' }
