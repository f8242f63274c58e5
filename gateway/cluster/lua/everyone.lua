-- Number an event for everyone (ARGV[4]), and append it to the stream that all gateways follow, which keeps the newest
-- ARGV[3] for ARGV[5] ms. Return its offset. ARGV[6] to ARGV[8] are the idempotency key, the content and how long, in ms,
-- it counts.
local before = answered(ARGV[6], ARGV[7])
if before then
    return before
end
local offset = redis.call('HINCRBY', KEYS[1], 'everyone', 1)
local stream = PREFIX .. 'everyone'
redis.call('XADD', stream, 'MAXLEN', ARGV[3], '*', 'epoch', ARGV[1], 'offset', offset, 'event', ARGV[4])
redis.call('PEXPIRE', stream, ARGV[5])
keep(ARGV[6], ARGV[7], offset, ARGV[8])
return offset
