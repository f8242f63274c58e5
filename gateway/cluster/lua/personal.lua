-- Send an event (ARGV[4]) to the client ARGV[5], or if that is '' to all clients of the user with the key ARGV[6]. Each
-- session keeps its newest ARGV[3]. Return how many sessions get it.
-- ARGV[7] to ARGV[9] are the idempotency key, the content and how long, in ms, it counts.
local before = answered(ARGV[7], ARGV[8])
if before then
    return tonumber(before)
end
local clients = { ARGV[5] }
if ARGV[5] == '' then
    clients = redis.call('ZRANGE', PREFIX .. 'user:' .. ARGV[6], 0, -1)
end
local count = 0
for _, client in ipairs(clients) do
    local session = PREFIX .. 'session:' .. client
    local found = redis.call('HMGET', session, 'owner', 'epoch', 'offset')
    if found[1] then
        -- The offsets of an earlier epoch may be lower than those that clients have.
        local offset = found[2] == ARGV[1] and found[3] + 1 or 1
        redis.call('HSET', session, 'epoch', ARGV[1], 'offset', offset)
        local event = { 'epoch', ARGV[1], 'offset', offset, 'event', ARGV[4] }
        local personal = PREFIX .. 'personal:' .. client
        redis.call('XADD', personal, 'MAXLEN', ARGV[3], '*', unpack(event))
        redis.call('PEXPIRE', personal, redis.call('PTTL', session))
        send(found[1], { 'kind', 'personal', 'client', client, unpack(event) })
        count = count + 1
    end
end
if count > 0 then -- else nothing was sent, and a repetition may find a session that is not written yet
    keep(ARGV[7], ARGV[8], count, ARGV[9])
end
return count
