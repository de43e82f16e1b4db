-- Acquire a permit to send a request now. Returns {1, permit} or {0, seconds before a new attempt}.
-- Arguments: permit_id, count, window, arrival_uncertainty, retry_interval, clock_jump, max_block, wait_without_state.

-- Seconds. A permit counts for its window, 100 seconds at the lowest RATE_LIMIT. The rest is for clocks that are set back.
local PERMITS_TTL = 3600

local count, window = number('count'), number('window')
wait_if_state_is_lost()
local blocked_until = block_end()
if blocked_until > now then return {0, tostring(blocked_until - now)} end

-- A permit is kept longer than it counts: if the floor of the latency falls, it may count again.
local start = now - window
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', start - number('arrival_uncertainty'))
redis.call('ZREMRANGEBYSCORE', KEYS[2], now + number('clock_jump'), '+inf')
if redis.call('ZCOUNT', KEYS[2], '(' .. as_time(start), '+inf') >= count then
    local expires_first = redis.call('ZREVRANGE', KEYS[2], count - 1, count - 1, 'WITHSCORES')
    local wait = tonumber(expires_first[2]) + window - now
    return {0, tostring(math.min(wait, number('retry_interval')))}
end
local permit = argument.permit_id .. ':' .. as_time(now)
redis.call('ZADD', KEYS[2], as_time(now + number('arrival_uncertainty')), permit)
redis.call('EXPIRE', KEYS[2], PERMITS_TTL)
return {1, permit}
