-- Take the session with the secret's key ARGV[3] over, for an identity with the key ARGV[4].
-- Return { 0 } if there is none that it may resume, { 1 } if it is the caller's, which has it (ARGV[5] is '1'), else
-- { 2, client id, what is kept of it, its personal messages }; the gateway that had it gets to know.
local client = redis.call('GET', PREFIX .. 'secret:' .. ARGV[3])
if not client then
    return { 0 }
end
local session = PREFIX .. 'session:' .. client
local found = redis.call('HMGET', session, 'owner', 'identity', 'kept')
if not found[1] or (found[2] ~= '' and found[2] ~= ARGV[4]) then
    return { 0 }
end
if found[1] == ARGV[2] and ARGV[5] == '1' then
    return { 1 }
end
redis.call('HSET', session, 'owner', ARGV[2], 'claimed', ARGV[1], 'connected', 1)
if found[1] ~= ARGV[2] then
    send(found[1], { 'kind', 'taken', 'client', client })
end
return { 2, client, found[3], redis.call('XRANGE', PREFIX .. 'personal:' .. client, '-', '+') }
