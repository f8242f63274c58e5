-- For requests with an idempotency key: what the one before was answered, and keeping the answer.
-- `key` is '' without a key; `content` stands for what is asked.
local function answered(key, content)
    local before = key ~= '' and redis.call('GET', PREFIX .. 'once:' .. key)
    if not before then
        return nil
    end
    local number, asked = string.match(before, '^(%d+) (.*)$')
    return asked == content and tonumber(number) or -1
end
local function keep(key, content, number, ttl)
    if key ~= '' then
        redis.call('SET', PREFIX .. 'once:' .. key, number .. ' ' .. content, 'PX', ttl)
    end
end
