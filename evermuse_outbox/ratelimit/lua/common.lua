-- Helpers that are put before every other script of this folder.
-- KEYS[1]: hash with the state of one API key, in seconds on the clock of Redis.
-- KEYS[2]: sorted set of permits; the score is the latest time at which the request may have arrived. The names are
-- "id:sent_at", and "id:sent_at:latency" after an answer whose latency can be compared with others.
-- ARGV: name, value, name, value, and so on. `now` is optional and replaces the clock of Redis, for tests.

local STATE_TTL = 172800 -- seconds: two days, so that a key that rests for a night keeps its state

local argument = {}
for i = 1, #ARGV, 2 do argument[ARGV[i]] = ARGV[i + 1] end

local function number(name) return tonumber(argument[name]) end

local now = number('now')
if not now then
    local clock = redis.call('TIME') -- seconds and microseconds
    now = clock[1] + clock[2] / 1000000
end

-- With microseconds, because `tostring` would cut a time since the epoch to 14 digits.
local function as_time(seconds) return string.format('%.6f', seconds) end

local function read(field) return tonumber(redis.call('HGET', KEYS[1], field) or 0) end

-- The end of the block; `now` if it is further away than any block may be. Uses the argument max_block.
local function block_end()
    local time = read('blocked_until')
    return time - now <= number('max_block') and time or now
end

local function write(field, seconds)
    redis.call('HSET', KEYS[1], field, as_time(seconds))
    redis.call('EXPIRE', KEYS[1], STATE_TTL)
end

-- Without `next_slot_at`, the key is new, or Redis lost its state in a restart or an eviction. Recent requests may be
-- forgotten then. So no slot and no permit is given until these requests no longer count.
local function wait_if_state_is_lost()
    if redis.call('HEXISTS', KEYS[1], 'next_slot_at') == 1 then return end
    local time = now + number('wait_without_state')
    write('next_slot_at', time)
    write('blocked_until', math.max(block_end(), time))
end
