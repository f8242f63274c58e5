-- For requests with an idempotency key: what the one before was answered, and keeping the answer.
-- `key` is '' without a key; `content` stands for what is asked.
local OTHER = -1
local function answered(key, content)
    local before = key ~= '' and redis.call('GET', PREFIX .. 'once:' .. key)
    if not before then
        return nil
    end
    local answer, asked = string.match(before, '^(%S+) (.*)$')
    return asked == content and answer or OTHER
end
local function keep(key, content, answer, ttl)
    if key ~= '' then
        redis.call('SET', PREFIX .. 'once:' .. key, answer .. ' ' .. content, 'PX', ttl)
    end
end
