-- Take the lease for ARGV[3] ms if no gateway has it, or keep it if this one has; with ARGV[4] '1' it is taken anew.
-- Return its fencing number, which grows each time it is taken, and whether this gateway has it.
local lease = PREFIX .. 'lease'
local held = redis.call('GET', lease)
if held and held ~= ARGV[2] then
    return { redis.call('HGET', KEYS[1], 'fence'), 0 }
end
redis.call('SET', lease, ARGV[2], 'PX', ARGV[3])
if not held or ARGV[4] == '1' then
    redis.call('HINCRBY', KEYS[1], 'fence', 1)
end
return { redis.call('HGET', KEYS[1], 'fence'), 1 }
