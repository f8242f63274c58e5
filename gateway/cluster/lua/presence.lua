-- Return the clients of other gateways that are subscribed to the patterns with these keys (ARGV[4] …), at most ARGV[3]
-- of each gateway and pattern.
local found = {}
for _, id in ipairs(others()) do
    for n = 4, #ARGV do
        local members =
            redis.call('ZRANGEBYLEX', PREFIX .. 'presence:' .. id, '[' .. ARGV[n] .. '\0', '(' .. ARGV[n] .. '\1', 'LIMIT', 0, ARGV[3])
        for _, member in ipairs(members) do
            found[#found + 1] = string.sub(member, #ARGV[n] + 2)
        end
    end
end
return found
