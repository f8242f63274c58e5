-- Let the gateway that has the client ARGV[3] disconnect it. Return 0 if no other gateway has it, else 1.
local found = redis.call('HMGET', PREFIX .. 'session:' .. ARGV[3], 'owner', 'connected')
if not found[1] or found[1] == ARGV[2] or found[2] ~= '1' then
    return 0
end
return send(found[1], { 'kind', 'kick', 'client', ARGV[3] }) and 1 or 0
