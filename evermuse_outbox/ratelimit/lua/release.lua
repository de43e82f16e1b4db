-- Record the answer to the request of a permit, after which its latest time of arrival is known better. Returns 1.
-- Arguments: permit, is_comparable (1 or 0), arrival_uncertainty, samples, max_age, lowest, drop, resolution,
-- factors.
-- A permit without a latency in its name is unanswered, not comparable, or from an earlier version: its score stands.

local uncertainty = number('arrival_uncertainty')

local function read_numbers(text)
    local numbers = {}
    for word in string.gmatch(text or '', '%S+') do numbers[#numbers + 1] = tonumber(word) end
    return numbers
end

local function write_numbers(field, numbers)
    local words = {}
    for i, value in ipairs(numbers) do words[i] = as_time(value) end
    redis.call('HSET', KEYS[1], field, table.concat(words, ' '))
end

-- Sorts, and leaves only the lowest.
local function lowest_of(latencies)
    table.sort(latencies)
    for i = #latencies, number('lowest') + 1, -1 do latencies[i] = nil end
    return latencies
end

-- `factors` are "m:c" for each m. See latency.py.
local function floor_of(current, previous)
    local all = {}
    for _, latency in ipairs(current) do all[#all + 1] = latency end
    for _, latency in ipairs(previous) do all[#all + 1] = latency end
    local lowest, floor = lowest_of(all), 0
    for m, factor in string.gmatch(argument.factors, '(%d+):(%S+)') do
        local highest = lowest[tonumber(m)]
        if highest then
            floor = math.max(floor, lowest[1] - tonumber(factor) * (highest - lowest[1] + number('resolution')))
        end
    end
    return floor
end

-- Adds a latency to the samples. Returns the floor before and after.
local function learn(latency)
    local stored = redis.call('HMGET', KEYS[1], 'latencies', 'previous_latencies', 'latency_count', 'latencies_since')
    local current, previous = read_numbers(stored[1]), read_numbers(stored[2])
    local count, since = tonumber(stored[3] or 0), tonumber(stored[4] or 0)
    local floor = floor_of(current, previous)
    local age = now - since
    if latency < floor - number('drop') or age < 0 or age >= 2 * number('max_age') then
        current, previous, count, since = {}, {}, 0, now
    elseif count >= number('samples') or age >= number('max_age') then
        current, previous, count, since = {}, current, 0, now
    end
    current[#current + 1] = latency
    current = lowest_of(current)
    write_numbers('latencies', current)
    write_numbers('previous_latencies', previous)
    redis.call('HSET', KEYS[1], 'latency_count', count + 1)
    write('latencies_since', since)
    return floor, floor_of(current, previous)
end

-- Writes the latest arrival of an answered request, by how much its latency exceeds the floor.
local function compare(member, floor)
    local sent_at, latency = string.match(member, '^[^:]*:([^:]*):([^:]*)$')
    if not latency then return end
    local excess = math.max(tonumber(latency) - floor, 0)
    redis.call('ZADD', KEYS[2], as_time(tonumber(sent_at) + math.min(excess, uncertainty)), member)
end

if not redis.call('ZSCORE', KEYS[2], argument.permit) then return 1 end
local sent_at = tonumber(string.match(argument.permit, ':(.*)$'))
local latency = math.max(now - sent_at, 0)
if argument.is_comparable ~= '1' then
    redis.call('ZADD', KEYS[2], as_time(sent_at + math.min(latency, uncertainty)), argument.permit)
    return 1
end
local floor_before, floor = learn(latency)
local answered = argument.permit .. ':' .. as_time(latency)
compare(answered, floor)
redis.call('ZREM', KEYS[2], argument.permit) -- after the other is stored, because an empty set would lose its TTL
if floor ~= floor_before then
    for _, member in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do compare(member, floor) end
end
return 1
