-- Give no slot and no permit for `seconds`. A longer block that is in force remains. Returns 1.
-- Arguments: seconds, max_block.

write('blocked_until', math.max(block_end(), now + number('seconds')))
return 1
