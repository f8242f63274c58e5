-- Return the distinct patterns with wildcards that clients of other gateways are subscribed to, at most ARGV[3] of each.
local found = {}
for _, id in ipairs(others()) do
    local from = '[~'
    for _ = 1, tonumber(ARGV[3]) do
        local members = redis.call('ZRANGEBYLEX', PREFIX .. 'presence:' .. id, from, '(\127', 'LIMIT', 0, 1)
        if #members == 0 then
            break
        end
        local key = string.sub(members[1], 1, string.find(members[1], '\0', 1, true) - 1)
        found[#found + 1] = string.sub(key, 2)
        from = '(' .. key .. '\1'
    end
end
return found
