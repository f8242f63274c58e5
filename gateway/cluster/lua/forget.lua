-- Forget the session of client ARGV[3], unless another gateway has it.
local session = PREFIX .. 'session:' .. ARGV[3]
local before = redis.call('HMGET', session, 'owner', 'secrets', 'user')
if before[1] ~= ARGV[2] then
    return 0
end
for secret in string.gmatch(before[2] or '', '%S+') do
    redis.call('DEL', PREFIX .. 'secret:' .. secret)
end
redis.call('DEL', session, PREFIX .. 'personal:' .. ARGV[3])
if before[3] and before[3] ~= '' then
    redis.call('ZREM', PREFIX .. 'user:' .. before[3], ARGV[3])
end
return 1
