-- Record the answer to the request of a permit, after which its latest time of arrival is known better. Returns 1.
-- Arguments: permit, is_send (1 or 0), arrival_uncertainty, latency_window, latency_drop.
-- Unlike in algorithm.py, the latency of an expired permit counts for the minimum latency, too.

local sent_at = tonumber(string.match(argument.permit, ':(.*)$'))
local latency = math.max(now - sent_at, 0)
local excess = latency
if argument.is_send == '1' then
    -- Only sends contribute to the minimum latency: a read is answered faster than a batch.
    local min_latency = tonumber(redis.call('HGET', KEYS[1], 'min_latency') or '-1')
    if min_latency >= 0 and latency < min_latency - number('latency_drop') then
        redis.call('HDEL', KEYS[1], 'min_latency', 'min_latency_candidate', 'latency_samples')
        min_latency = -1
    end
    local candidate = tonumber(redis.call('HGET', KEYS[1], 'min_latency_candidate') or '1e9')
    candidate = math.min(latency, candidate)
    if redis.call('HINCRBY', KEYS[1], 'latency_samples', 1) < number('latency_window') then
        write('min_latency_candidate', candidate)
    else
        min_latency = candidate
        write('min_latency', min_latency)
        redis.call('HDEL', KEYS[1], 'min_latency_candidate', 'latency_samples')
    end
    if min_latency >= 0 then excess = math.max(latency - min_latency, 0) end
end
-- XX: change the score only if the permit is still stored, so that an expired permit does not come back.
local latest_arrival = sent_at + math.min(excess, number('arrival_uncertainty'))
redis.call('ZADD', KEYS[2], 'XX', as_time(latest_arrival), argument.permit)
return 1
