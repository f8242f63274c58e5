-- Let all other gateways disconnect the clients of the user with the key ARGV[3]. Return how many they have reported.
-- Also those that report none get to know: one may have connected just now.
local count = 0
for _, id in ipairs(others()) do
    count = count + redis.call('ZLEXCOUNT', PREFIX .. 'users:' .. id, '[' .. ARGV[3] .. '\0', '(' .. ARGV[3] .. '\1')
    send(id, { 'kind', 'kick_user', 'user', ARGV[3] })
end
return count
