-- Reserve the next slot if it is at most `patience` seconds away. Returns {1 or 0, seconds until the slot}.
-- Arguments: patience, spacing, clock_jump, max_block, wait_without_state.

wait_if_state_is_lost()
local next_slot_at = read('next_slot_at')
if next_slot_at - now >= number('clock_jump') then next_slot_at = now end
local wait = math.max(next_slot_at, block_end(), now) - now
if wait > number('patience') then return {0, tostring(wait)} end
write('next_slot_at', now + wait + number('spacing'))
return {1, tostring(wait)}
