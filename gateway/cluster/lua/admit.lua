-- Count the client ARGV[4] as one of the user with the key ARGV[3], unless the user has ARGV[5] others; for ARGV[6] ms,
-- if the gateway reports no more. Return 1, or 0 if it was refused.
local member = ARGV[3] .. '\0' .. ARGV[4]
local own = PREFIX .. 'users:' .. ARGV[2]
local gateways = others()
gateways[#gateways + 1] = ARGV[2]
local count = 0
for _, id in ipairs(gateways) do
    local key = PREFIX .. 'users:' .. id
    count = count + redis.call('ZLEXCOUNT', key, '[' .. ARGV[3] .. '\0', '(' .. ARGV[3] .. '\1')
    if redis.call('ZSCORE', key, member) then
        count = count - 1
    end
end
if count >= tonumber(ARGV[5]) then
    return 0
end
redis.call('ZADD', own, 0, member)
redis.call('PEXPIRE', own, ARGV[6])
return 1
