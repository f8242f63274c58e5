-- Forget a gateway that stops, its clients and its lease.
if redis.call('GET', PREFIX .. 'lease') == ARGV[2] then
    redis.call('DEL', PREFIX .. 'lease')
end
redis.call('ZREM', PREFIX .. 'gateways', ARGV[2])
for _, kind in ipairs({ 'gateway:', 'heard:', 'presence:', 'users:', 'inbox:' }) do
    redis.call('DEL', PREFIX .. kind .. ARGV[2])
end
return 0
