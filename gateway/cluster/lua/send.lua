-- Send a gateway an entry by its own stream, if it is there.
local INBOX_MAX = 10000
local function send(gateway, fields)
    local ttl = redis.call('PTTL', PREFIX .. 'gateway:' .. gateway)
    if ttl <= 0 then
        return false
    end
    local inbox = PREFIX .. 'inbox:' .. gateway
    redis.call('XADD', inbox, 'MAXLEN', '~', INBOX_MAX, '*', unpack(fields))
    redis.call('PEXPIRE', inbox, ttl)
    return true
end
