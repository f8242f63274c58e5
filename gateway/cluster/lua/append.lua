-- Number events, and append each to the stream of all channels, which has a number of its own for each, and to that of its
-- channel; both are kept for ARGV[3] ms.
-- At most ARGV[4] channels are numbered: if there are as many, one that was silent for ARGV[5] ms makes room.
-- ARGV[6] to ARGV[9] are the idempotency key, the content, how long, in ms, it counts, and what else is to be answered if
-- it comes again. ARGV[10] is the fence of the lease for events of the bus, else ''; with another one than before, a channel
-- has a new source. From ARGV[11] on, five for each event: channel, how many events of it are kept, the name of its source
-- if a new one begins, how many numbers are left out before it, the event.
-- Return { 'known', answer } if the key was used before, { 'other' } if that was for another event, { 'fenced' } if another
-- gateway has taken the lease, { 'full' } if there is no room for a channel, else { 'new', source and offset of each event }.
local LIVE_MAX = 10000
local before = answered(ARGV[6], ARGV[7])
if before then
    return before == OTHER and { 'other' } or { 'known', before }
end
local fence = ARGV[10]
if fence ~= '' and fence ~= redis.call('HGET', KEYS[1], 'fence') then
    return { 'fenced' }
end
local channels, live = PREFIX .. 'channels', PREFIX .. 'events'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local oldest = now - ARGV[3]
local room = tonumber(ARGV[4]) - redis.call('ZCOUNT', channels, oldest, '+inf')
local silent = redis.call('ZCOUNT', channels, oldest, now - ARGV[5])
local seen = { ['$everyone'] = true } -- it needs no room, and never makes any
for n = 11, #ARGV, 5 do
    if not seen[ARGV[n]] and tonumber(redis.call('ZSCORE', channels, ARGV[n]) or 0) < oldest then
        room = room - 1
    end
    seen[ARGV[n]] = true
end
if room + silent < 0 then
    return { 'full' }
end
local numbers = { 'new' }
for n = 11, #ARGV, 5 do
    local channel, source, offset, held, begins = ARGV[n], ARGV[n + 2], 1, fence, fence ~= '' and 1 or 0
    local stream = PREFIX .. 'channel:' .. channel
    local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
    -- The last numbers of an earlier epoch may be lost.
    if last and last[2][2] == ARGV[1] and (fence == '' or fence == last[2][8]) then
        source, offset, held, begins = last[2][4], last[2][6] + 1, last[2][8], 0
    end
    offset = offset + ARGV[n + 3]
    local event =
        { 'engine', ARGV[1], 'epoch', source, 'offset', offset, 'fence', held, 'begins', begins, 'event', ARGV[n + 4] }
    redis.call('XADD', stream, 'MAXLEN', ARGV[n + 1], '*', unpack(event))
    redis.call('PEXPIRE', stream, ARGV[3])
    local number = redis.call('HINCRBY', KEYS[1], 'events', 1)
    redis.call('XADD', live, 'MAXLEN', '~', LIVE_MAX, '*', 'number', number, 'channel', channel, unpack(event))
    if channel ~= '$everyone' then
        redis.call('ZADD', channels, now, channel)
    end
    numbers[#numbers + 1] = source
    numbers[#numbers + 1] = offset
end
redis.call('PEXPIRE', live, ARGV[3])
redis.call('PEXPIRE', channels, ARGV[3])
redis.call('ZREMRANGEBYSCORE', channels, '-inf', '(' .. oldest)
if room < 0 then
    for _, channel in ipairs(redis.call('ZRANGE', channels, 0, -room - 1)) do
        redis.call('DEL', PREFIX .. 'channel:' .. channel)
        redis.call('ZREM', channels, channel)
    end
end
keep(ARGV[6], ARGV[7], numbers[2] .. ':' .. numbers[3] .. ':' .. ARGV[9], ARGV[8])
return numbers
