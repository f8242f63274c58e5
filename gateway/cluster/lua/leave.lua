-- Forget a gateway that stops, and its clients.
redis.call('ZREM', PREFIX .. 'gateways', ARGV[2])
for _, kind in ipairs({ 'gateway:', 'presence:', 'users:', 'inbox:' }) do
    redis.call('DEL', PREFIX .. kind .. ARGV[2])
end
return 0
