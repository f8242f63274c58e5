-- Forget a gateway that stops.
redis.call('ZREM', PREFIX .. 'gateways', ARGV[2])
redis.call('DEL', PREFIX .. 'gateway:' .. ARGV[2])
return 0
