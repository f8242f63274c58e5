-- The ids of the other gateways that have reported in time.
local function others()
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    local found = {}
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', PREFIX .. 'gateways', now, '+inf')) do
        if id ~= ARGV[2] then
            found[#found + 1] = id
        end
    end
    return found
end
